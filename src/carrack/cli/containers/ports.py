"""--publish and --expose: `[ip:][host:]container[/protocol]`, ranges included, as the API's port maps."""

from __future__ import annotations

from carrack.cli.containers.options import normal_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Bindings = dict[str, list[dict[str, str]]]


def read_ports(published: list[str], exposed: list[str]) -> tuple[dict[str, dict[str, Any]], Bindings]:
    """(ExposedPorts, PortBindings). Raises ValueError with Docker's text."""
    ports: dict[str, dict[str, Any]] = {}
    bindings: Bindings = {}
    for text in published:
        for port, binding in read_published(_short_form(text) if "=" in text else text):
            ports[port] = {}
            bindings.setdefault(port, []).append(binding)
    for text in exposed:
        if ":" in text:
            raise ValueError(f"invalid port format for --expose: {text}")
        protocol, numbers = split_protocol(text)
        try:
            start, end = read_range(numbers)
        except ValueError as error:
            raise ValueError(f"invalid range format for --expose: {text}, error: {error}") from None
        for number in range(start, end + 1):
            ports.setdefault(f"{number}/{protocol}", {})
    return ports, bindings


def _short_form(text: str) -> str:
    given = {"protocol": "tcp"}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid publish opts format (should be name=value but got '{field}')")
        given[key] = value
    return f"{given.get('published', '')}:{given.get('target', '')}/{given['protocol']}"


def split_protocol(text: str) -> tuple[str, str]:
    """(protocol, numbers) of `80/udp`; tcp when none is named."""
    numbers, _, rest = text.partition("/")
    if not numbers:
        return "", ""
    return rest.partition("/")[0] or "tcp", numbers


def read_range(text: str) -> tuple[int, int]:
    """(first, last) of `80` or `80-90`. Raises ValueError with the text of Docker's port library."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    start = _port(first)
    end = _port(last.partition("-")[0]) if dash else start
    if end < start:
        raise ValueError(f"invalid range specified for port: {text}")
    return start, end


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def read_published(text: str) -> list[tuple[str, dict[str, str]]]:
    """The (port, binding) pairs of one --publish."""
    parts = text.split(":")
    host = parts[-2] if len(parts) > 1 else ""
    address = ":".join(parts[:-2])
    protocol, container = split_protocol(parts[-1])
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1].partition("%")[0]
    if address and normal_address(address) is None:
        raise ValueError(f"invalid IP address: {address}")
    if not container:
        raise ValueError(f"no port specified: {text}<empty>")
    start, end = _checked_range(container, "containerPort")
    host_start, host_end = _checked_range(host, "hostPort") if host else (0, 0)
    if host and end - start != host_end - host_start and end != start:
        raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    if protocol.lower() not in ("tcp", "udp", "sctp"):
        raise ValueError(f"invalid proto: {protocol}")
    pairs = []
    for offset in range(end - start + 1):
        host_port = str(host_start + offset) if host else ""
        if start == end and host_start != host_end:
            host_port = f"{host_port}-{host_end}"
        pairs.append((f"{start + offset}/{protocol.lower()}", {"HostIp": address, "HostPort": host_port}))
    return pairs


def _checked_range(text: str, name: str) -> tuple[int, int]:
    try:
        return read_range(text)
    except ValueError:
        raise ValueError(f"invalid {name}: {text}") from None

"""Port specifications: ``80/tcp``, ``8000-8010/udp``, and the bindings a container asks for. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from carrack.engine.config import ContainerConfig, HostConfig
from carrack.errors import InvalidParameter

Protocol = Literal["tcp", "udp", "sctp"]
PROTOCOLS: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}


@dataclass(frozen=True, slots=True)
class WantedPort:
    """One container port to be published; `host_port` 0: any; `host_port_end` above it: any of that range."""

    container_port: int
    protocol: Protocol
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


def parse_port(text: str) -> tuple[int, int, Protocol]:
    """``first, last, protocol`` of ``80``, ``80/udp`` or ``80-90/tcp``. Raises InvalidParameter in Docker's words."""
    numbers, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash and protocol else "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    first, last = parse_range(numbers)
    return first, last, PROTOCOLS[protocol]


def parse_range(text: str) -> tuple[int, int]:
    """A number or ``first-last``, 0 to 65535. Raises InvalidParameter."""
    low, dash, high = text.partition("-")
    try:
        if not _is_number(low) or (dash and not _is_number(high)):
            raise ValueError
        first, last = int(low), int(high) if dash else int(low)
    except ValueError:
        raise InvalidParameter(f'invalid port specification: "{text}"') from None
    if last < first or last > 65535:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return first, last


def exposed(config: ContainerConfig, host_config: HostConfig) -> list[tuple[int, Protocol]]:
    """Every port the container exposes, ranges opened, in order, each once."""
    seen: dict[tuple[int, Protocol], None] = {}
    for text in (*(config.exposed_ports or {}), *(host_config.port_bindings or {})):
        first, last, protocol = parse_port(text)
        for port in range(first, last + 1):
            seen[(port, protocol)] = None
    return sorted(seen)


def wanted(config: ContainerConfig, host_config: HostConfig) -> list[WantedPort]:
    """What has to be published, `-P` included. Raises InvalidParameter."""
    ports: list[WantedPort] = []
    for text, bindings in (host_config.port_bindings or {}).items():
        first, last, protocol = parse_port(text)
        if first == 0:
            raise InvalidParameter(f'invalid port specification: "{text}"')
        for binding in bindings or []:
            _check_address(binding.host_ip)
            low, high = parse_range(binding.host_port) if binding.host_port else (0, 0)
            if last > first and binding.host_port and high - low != last - first:
                raise InvalidParameter(f"Invalid ranges specified for container and host Ports: {text} and {binding.host_port}")
            for offset, port in enumerate(range(first, last + 1)):
                if last > first and high > low:
                    ports.append(WantedPort(port, protocol, binding.host_ip, low + offset, low + offset))
                else:
                    ports.append(WantedPort(port, protocol, binding.host_ip, low, high))
        if bindings is not None and not bindings and not host_config.publish_all_ports:
            ports.extend(WantedPort(port, protocol) for port in range(first, last + 1))
    if host_config.publish_all_ports:
        bound = {(port.container_port, port.protocol) for port in ports}
        ports.extend(WantedPort(port, protocol) for port, protocol in exposed(config, host_config) if (port, protocol) not in bound)
    return ports


def _check_address(text: str) -> None:
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise InvalidParameter(f"invalid IP address: {text}") from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()

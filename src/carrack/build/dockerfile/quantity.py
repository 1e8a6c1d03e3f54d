"""Values inside instructions: Go durations, sizes in bytes, truth words, ranges of ports, comma-separated fields."""

from __future__ import annotations

import csv
import ipaddress
import re
from fractions import Fraction

from carrack.build.dockerfile.failure import Fault

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_MILLISECOND = 10**6


def interval(name: str, text: str) -> int:
    """A health check's time in nanoseconds, 0 for none or "". Raises Fault when malformed or below a millisecond."""
    if not text:
        return 0
    sign, rest = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    if len(rest) > 64:
        raise Fault(f'time: invalid duration "{rest[:64]}…"')
    total = Fraction(0)
    position = 0
    while match := _DURATION.match(rest, position):
        total += Fraction(match[1].rstrip(".")) * _UNITS[match[2]]
        position = match.end()
    if rest != "0" and (position != len(rest) or not rest):
        raise Fault(f'time: invalid duration "{text}"', text)
    found = -int(total) if sign == "-" else int(total)
    if abs(found) >= 1 << 63:
        raise Fault(f'time: invalid duration "{text}"', text)
    if found and found < _MILLISECOND:
        raise Fault(f'Interval "{name}" cannot be less than 1ms', text)
    return found


def size(key: str, text: str) -> int:
    """Bytes of `64m`, `1.5g`, `100`. Raises Fault."""
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > 64:
        raise Fault(f"invalid value for {key}: {text}", text)
    return int(Fraction(match[1].rstrip(".")) * 1024 ** (" kmgtp".index(match[2].lower() or " ")))


def truth(key: str, text: str) -> bool:
    """Go's words for true and false. Raises Fault."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Fault(f"invalid value for {key}: {text}", text)


def number(key: str, text: str, base: int = 10) -> int:
    """An unsigned number of 32 bits. Raises Fault."""
    digits = "01234567" if base == 8 else "0123456789"
    if not text or len(text) > 12 or any(digit not in digits for digit in text) or int(text, base) >= 1 << 32:
        raise Fault(f"invalid value {text} for {key}", text)
    return int(text, base)


def fields(what: str, text: str) -> tuple[str, ...]:
    """The fields of one CSV record, as RUN's mounts and devices are written. Raises Fault."""
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise Fault(f"failed to parse csv {what}: {error}", text) from None
    return tuple(rows[0]) if rows else ()


def exposed_ports(port: str) -> tuple[str, ...]:
    """`80/tcp` for each port that a word of EXPOSE means; an address or host port in front is dropped. Raises Fault."""
    address, _, container = split_port(port)
    _check_address(address)
    span, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if not span:
        raise Fault(f'invalid port: "{port}": no port specified', port)
    if protocol not in ("tcp", "udp", "sctp"):
        raise Fault(f'invalid port: "{port}": invalid proto: {protocol}', port)
    first, dash, last = span.partition("-")
    bounds = [int(end) if end.isascii() and end.isdigit() and len(end) < 6 else -1 for end in (first, last if dash else first)]
    if not 0 <= bounds[0] <= bounds[1] <= 65535:
        raise Fault(f"invalid containerPort: {span}", port)
    return tuple(f"{each}/{protocol}" for each in range(bounds[0], bounds[1] + 1))


def split_port(port: str) -> tuple[str, str, str]:
    """Address, host port and container port with protocol, each "" when absent."""
    front, _, container = port.rpartition(":")
    address, _, host = front.rpartition(":")
    return address, host, container


def _check_address(address: str) -> None:
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        if bare:
            ipaddress.ip_address(bare)
    except ValueError:
        raise Fault(f"invalid IP address: {address}", address) from None

"""Published ports, really held: each is a socket bound to the host's address and port, so that nobody else can have it.

The socket never serves: packets are translated before they could reach it. It is bound, not listening, so that a connection that
is not translated (the table was flushed this instant) is refused instead of swallowed. The sockets are handed on to the
container's shim, which keeps them while the container lives; the port is free when the last copy is closed.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from carrack.errors import InvalidParameter, NotImplementedHere, SystemFailure
from carrack.networks.endpoint import HeldPort, PortBinding, Protocol

_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_EPHEMERAL_TRIES = 16
_EPHEMERAL_RANGE = (49152, 65536)
"""Dynamic ports (RFC 6335)."""
_LEAVING_SECONDS = 2.0


class PortTable:
    """Which container of this instance has which host port: the difference between "already allocated" and "in use"."""

    def __init__(self) -> None:
        self._owners: dict[tuple[Protocol, int], dict[str, str]] = {}
        self._held: dict[str, set[tuple[Protocol, str, int]]] = {}
        """What each container has, so that its end costs what it had, however many others there are."""
        self._left: dict[tuple[Protocol, int], float] = {}
        """When a port was given back: its container's shim closes its copy of the socket a moment later."""

    def owner(self, protocol: Protocol, host_ip: str, port: int) -> tuple[str, str] | None:
        """(address, container) that a new holder of this address and port would clash with."""
        for address, container_id in self._owners.get((protocol, port), {}).items():
            if _same_family(address, host_ip) and (address == host_ip or _wildcard(address) or _wildcard(host_ip)):
                return address, container_id
        return None

    def add(self, protocol: Protocol, host_ip: str, port: int, container_id: str) -> None:
        """A container has a port from now on; who had this address and port before has not."""
        self.remove(protocol, host_ip, port)
        self._owners.setdefault((protocol, port), {})[host_ip] = container_id
        self._held.setdefault(container_id, set()).add((protocol, host_ip, port))

    def remove(self, protocol: Protocol, host_ip: str, port: int) -> None:
        """Nobody has this address and port any more. Idempotent."""
        addresses = self._owners.get((protocol, port), {})
        owner = addresses.pop(host_ip, None)
        if owner is not None:
            self._note_left((protocol, port))
            held = self._held[owner]
            held.discard((protocol, host_ip, port))
            if not held:
                del self._held[owner]
        if not addresses:
            self._owners.pop((protocol, port), None)

    def is_leaving(self, protocol: Protocol, port: int) -> bool:
        """Whether the port was given back so lately that its old holder may not have closed it yet."""
        since = self._left.get((protocol, port))
        return since is not None and time.monotonic() - since < _LEAVING_SECONDS

    def remove_owner(self, container_id: str) -> None:
        """Forget every port of a container."""
        for protocol, address, port in tuple(self._held.get(container_id, ())):
            self.remove(protocol, address, port)

    def _note_left(self, key: tuple[Protocol, int]) -> None:
        now = time.monotonic()
        self._left.pop(key, None)
        self._left[key] = now
        while now - self._left[oldest := next(iter(self._left))] >= _LEAVING_SECONDS:  # they stand in the order in which they left
            del self._left[oldest]


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)


def _wildcard(address: str) -> bool:
    return address in ("0.0.0.0", "::")


def shown(host_ip: str, port: int | str) -> str:
    """An address and port as Go writes them: IPv6 in brackets."""
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip}:{port}"


def host_addresses(binding: PortBinding, default_ip: str, *, ipv4: bool, ipv6: bool) -> tuple[str, ...]:
    """The host addresses that a binding means, for an endpoint that has these families.

    Raises InvalidParameter for what is no address, NotImplementedHere for a family that the endpoint has not.
    """
    wished = binding.host_ip or default_ip
    if wished in ("", "0.0.0.0") and not binding.host_ip:
        return (*(("0.0.0.0",) if ipv4 else ()), *(("::",) if ipv6 else ()))
    if not (ipv4 or ipv6):
        return ()  # routed: the host has no part in it
    try:
        address = ip_address(wished)
    except ValueError:
        raise InvalidParameter(f"invalid hostIP: {wished}") from None
    if (address.version == 4 and not ipv4) or (address.version == 6 and not ipv6):
        raise NotImplementedHere(
            f"cannot publish {shown(wished, binding.host_port or binding.container_port)}: the network has no IPv{address.version}"
        )
    return (str(address),)


def candidates(binding: PortBinding) -> Iterator[int]:
    """The host ports to try, in order; 0 asks the kernel for one. Raises InvalidParameter."""
    text = binding.host_port
    if text in ("", "0"):
        if binding.preferred_port:
            yield binding.preferred_port
        if binding.protocol == "sctp" and not _has_sctp():
            yield from range(*_EPHEMERAL_RANGE)  # the kernel gives none of a protocol that it has not
        yield from (0 for _ in range(_EPHEMERAL_TRIES))
        return
    first_text, _, last_text = text.partition("-")
    try:
        first, last = int(first_text), int(last_text or first_text)
    except ValueError:
        raise InvalidParameter(f"invalid host port: {text}") from None
    if not 0 < first <= last <= 65535:
        raise InvalidParameter(f"invalid host port: {text}")
    yield from range(first, last + 1)


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        return error.errno != errno.EPROTONOSUPPORT
    return True


def bind(protocol: Protocol, host_ip: str, port: int) -> socket.socket:
    """Bind one port; the socket is close-on-exec. Raises OSError."""
    kind, number = _KINDS[protocol]
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    try:
        return _bound(family, kind, number, host_ip, port, reuse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or protocol != "tcp" or port == 0:
            raise
        # Connections of an earlier server that are still in TIME_WAIT hinder this but not a listener that reuses: if even
        # that is refused, somebody really has the port.
        return _bound(family, kind, number, host_ip, port, reuse=True)


def _bound(family: int, kind: int, number: int, host_ip: str, port: int, *, reuse: bool) -> socket.socket:
    holder = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    try:
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host_ip, port))
        if reuse:
            holder.listen(0)
    except BaseException:
        holder.close()
        raise
    return holder


class PortRefused(SystemFailure):
    """A host port cannot be had; the text is the end of Docker's sentence. `leaving`: its old holder is about to close it."""

    leaving = False


def hold_one(table: PortTable, binding: PortBinding, addresses: Sequence[str], container_id: str) -> tuple[HeldPort, ...]:
    """Hold one binding on all its addresses with the same port number, and enter it in the table. Raises PortRefused."""
    refusal = PortRefused("all ports are allocated")
    for port in candidates(binding):
        try:
            return _hold_on(table, binding, addresses, port, container_id)
        except PortRefused as error:
            if error.leaving and port == binding.preferred_port:
                raise  # worth the wait: the caller comes again
            refusal = error
    raise refusal


def _hold_on(
    table: PortTable, binding: PortBinding, addresses: Sequence[str], port: int, container_id: str
) -> tuple[HeldPort, ...]:
    held: list[HeldPort] = []
    try:
        for address in addresses:
            if port and (owner := table.owner(binding.protocol, address, port)):
                raise PortRefused(f"Bind for {shown(owner[0], port)} failed: port is already allocated")
            try:
                holder = bind(binding.protocol, address, port)
            except OSError as error:
                if binding.protocol == "sctp" and port and error.errno == errno.EPROTONOSUPPORT:
                    # A host without SCTP of its own: nobody else can have the port, and translation needs no socket.
                    held.append(HeldPort(binding.container_port, binding.protocol, address, port))
                    continue
                what = f"{shown(address, port)}/{binding.protocol}"
                refusal = PortRefused(f"failed to bind host port {what}: {os.strerror(error.errno or 0).lower()}")
                refusal.leaving = error.errno == errno.EADDRINUSE and table.is_leaving(binding.protocol, port)
                raise refusal from error
            port = holder.getsockname()[1]
            held.append(HeldPort(binding.container_port, binding.protocol, address, port, holder))
    except PortRefused:
        for each in held:
            each.close()
        raise
    for each in held:
        table.add(each.protocol, each.host_ip, each.host_port, container_id)
    return tuple(held)

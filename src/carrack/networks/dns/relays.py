"""Published ports that a process must serve, because the kernel translates nothing there: [::1], whose packets never leave the
loopback interface, and IPv6 addresses of the host whose container has IPv4 only.

What comes is copied to the container, half-closes included. The container sees the host as the client. Each container's sockets
are open until `close`; the shim has copies of them, so that the port stays the container's in between.
"""

from __future__ import annotations

import errno
import socket
import struct
import time

from carrack.kernel.loop import READ, Loop
from carrack.networks.dns.control import RelaySpec
from carrack.networks.dns.conversation import Conversation

_DATAGRAM_BYTES = 1 << 16
_ACCEPT_BATCH = 64
_FULL_SECONDS = 0.1
"""How long no connection is accepted after descriptors ran out."""
_FLOW_SECONDS = 90.0
"""How long the answers to a UDP client that is silent find their way."""
_FLOWS = 1024
_PACKET_INFO = struct.Struct("=16sI")
Key = tuple[str, str, int]


class _Flow:
    """One UDP client and the socket that speaks to the container for it."""

    __slots__ = ("heard_at", "socket", "source")

    def __init__(self, upstream: socket.socket, source: list[tuple[int, int, bytes]]) -> None:
        self.socket = upstream
        self.heard_at = time.monotonic()
        self.source = source
        """The host address it spoke to, for answers to come from (IPV6_PKTINFO)."""


class _Port:
    __slots__ = ("conversations", "flows", "socket", "spec")

    def __init__(self, spec: RelaySpec, holder: socket.socket) -> None:
        self.spec = spec
        self.socket = holder
        self.conversations: set[Conversation] = set()
        self.flows: dict[tuple[object, ...], _Flow] = {}


class Relays:
    """The relayed ports of all containers. Every method runs on the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._ports: dict[str, dict[Key, _Port]] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def container_ids(self) -> tuple[str, ...]:
        return tuple(self._ports)

    def serves(self, container_id: str) -> bool:
        return container_id in self._ports

    def all(self) -> list[tuple[str, RelaySpec, int]]:
        """Every (container, port, descriptor of its socket)."""
        return [(owner, port.spec, port.socket.fileno()) for owner, ports in self._ports.items() for port in ports.values()]

    def open(self, container_id: str, spec: RelaySpec, holder: socket.socket) -> None:
        """Serve a port; the socket, bound (and listening, for TCP), is ours from now on. In place of an earlier one of that key."""
        holder.setblocking(False)
        ports = self._ports.setdefault(container_id, {})
        if spec.key in ports:
            self._close_port(ports.pop(spec.key))
        port = ports[spec.key] = _Port(spec, holder)
        if spec.protocol == "udp":
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._listen(port)

    def turn(self, container_id: str, spec: RelaySpec) -> bool:
        """Lead what comes from now on elsewhere. False: there is no such port."""
        port = self._ports.get(container_id, {}).get(spec.key)
        if port is None:
            return False
        port.spec = spec
        self._drop_flows(port)
        return True

    def close(self, container_id: str) -> None:
        """Close a container's ports and their connections. Idempotent."""
        for port in self._ports.pop(container_id, {}).values():
            self._close_port(port)

    def _close_port(self, port: _Port) -> None:
        self._loop.forget(port.socket.fileno())
        port.socket.close()
        for conversation in tuple(port.conversations):
            conversation.close()
        self._drop_flows(port)

    def _listen(self, port: _Port) -> None:
        ready = self._hear if port.spec.protocol == "udp" else self._accept
        self._loop.watch(port.socket.fileno(), READ, lambda _: ready(port))

    # ── TCP ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, port: _Port) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                client, _ = port.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    self._pause(port)
                return
            # What is left of it in TIME_WAIT must not keep the port from its next holder, whom bind(2) asks about both.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            target = (port.spec.target_ip, port.spec.target_port)
            try:
                conversation = Conversation(self._loop, client, target, port.conversations.discard)
            except OSError:
                client.close()
                self._pause(port)
                return
            port.conversations.add(conversation)
            conversation.begin()

    def _pause(self, port: _Port) -> None:
        self._loop.forget(port.socket.fileno())

        def go_on() -> None:
            if port.socket.fileno() >= 0:
                self._listen(port)

        self._loop.call_later(_FULL_SECONDS, go_on)

    # ── UDP ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, port: _Port) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                data, source, _, client = port.socket.recvmsg(_DATAGRAM_BYTES, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of an earlier answer
            flow = port.flows.get(client) or self._begin_flow(port, client, source)
            if flow is None:
                continue
            flow.heard_at = time.monotonic()
            try:
                flow.socket.send(data)
            except OSError:
                continue  # as on any way a datagram may be lost

    def _begin_flow(self, port: _Port, client: tuple[object, ...], source: list[tuple[int, int, bytes]]) -> _Flow | None:
        if len(port.flows) >= _FLOWS:
            self._drop_flows(port, silent_since=time.monotonic() - _FLOW_SECONDS)
        if len(port.flows) >= _FLOWS:
            return None
        family = socket.AF_INET6 if ":" in port.spec.target_ip else socket.AF_INET
        try:
            upstream = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:
            return None
        try:
            upstream.connect((port.spec.target_ip, port.spec.target_port))
        except OSError:
            upstream.close()
            return None
        flow = port.flows[client] = _Flow(upstream, [_answering(each) for each in source])
        self._loop.watch(upstream.fileno(), READ, lambda _: self._answer(port, client, flow))
        self._loop.call_later(_FLOW_SECONDS, lambda: self._expire(port, client, flow))
        return flow

    def _answer(self, port: _Port, client: tuple[object, ...], flow: _Flow) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                data = flow.socket.recv(_DATAGRAM_BYTES)
                port.socket.sendmsg([data], flow.source, 0, client)
            except OSError:
                return

    def _expire(self, port: _Port, client: tuple[object, ...], flow: _Flow) -> None:
        if port.flows.get(client) is not flow:
            return
        left = flow.heard_at + _FLOW_SECONDS - time.monotonic()
        if left > 0:
            self._loop.call_later(left, lambda: self._expire(port, client, flow))
        else:
            self._end_flow(port, client)

    def _drop_flows(self, port: _Port, silent_since: float = float("inf")) -> None:
        for client in [client for client, flow in port.flows.items() if flow.heard_at < silent_since]:
            self._end_flow(port, client)

    def _end_flow(self, port: _Port, client: tuple[object, ...]) -> None:
        flow = port.flows.pop(client)
        self._loop.forget(flow.socket.fileno())
        flow.socket.close()


def _answering(control: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """The ancillary message that makes an answer come from the address that was spoken to, by whatever interface leads there."""
    level, kind, content = control
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(content) >= _PACKET_INFO.size:
        address, index = _PACKET_INFO.unpack_from(content)
        content = _PACKET_INFO.pack(address, index if address[:2] == b"\xfe\x80" else 0)
    return level, kind, content

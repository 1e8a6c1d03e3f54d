"""Published ports that a process must serve, because the kernel translates nothing there: [::1], whose packets never leave the
loopback interface, and IPv6 addresses of the host whose container has IPv4 only.

What comes is copied to the container, half-closes included. The container sees the host as the client. Each container's sockets
are open until `close`; the shim has copies of them, so that the port stays the container's in between.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field

from carrack.networks.dns.control import RelaySpec

_DATAGRAM_BYTES = 1 << 16
_COPY_BYTES = 1 << 18
_CONNECT_SECONDS = 10.0
_ACCEPT_BATCH = 64
_FULL_SECONDS = 0.1
"""How long no connection is accepted after descriptors ran out."""
_FLOW_SECONDS = 90.0
"""How long the answers to a UDP client that is silent find their way."""
_FLOWS = 1024
_PACKET_INFO = struct.Struct("=16sI")
Key = tuple[str, str, int]


@dataclass(slots=True)
class _Flow:
    """One UDP client and the socket that speaks to the container for it."""

    socket: socket.socket
    heard_at: float
    source: list[tuple[int, int, bytes]]
    """The host address it spoke to, for answers to come from (IPV6_PKTINFO)."""


@dataclass(slots=True)
class _Port:
    spec: RelaySpec
    socket: socket.socket
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    flows: dict[tuple[object, ...], _Flow] = field(default_factory=dict)


class Relays:
    """The relayed ports of all containers. Every method runs on the loop."""

    def __init__(self) -> None:
        self._ports: dict[str, dict[Key, _Port]] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def container_ids(self) -> tuple[str, ...]:
        return tuple(self._ports)

    def all(self) -> list[tuple[str, RelaySpec, int]]:
        """Every (container, port, descriptor of its socket)."""
        return [(owner, port.spec, port.socket.fileno()) for owner, ports in self._ports.items() for port in ports.values()]

    def open(self, container_id: str, spec: RelaySpec, holder: socket.socket) -> None:
        """Serve a port; the socket, bound (and listening, for TCP), is ours from now on."""
        holder.setblocking(False)
        port = _Port(spec, holder)
        self._ports.setdefault(container_id, {})[spec.key] = port
        if spec.protocol == "udp":
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        asyncio.get_running_loop().add_reader(holder, self._hear if spec.protocol == "udp" else self._accept, port)

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
        loop = asyncio.get_running_loop()
        for port in self._ports.pop(container_id, {}).values():
            loop.remove_reader(port.socket)
            port.socket.close()
            for task in port.tasks:
                task.cancel()
            self._drop_flows(port)

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
            client.setblocking(False)
            # What is left of it in TIME_WAIT must not keep the port from its next holder, whom bind(2) asks about both.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _spawn(port, _converse(client, port.spec))

    def _pause(self, port: _Port) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(port.socket)

        def go_on() -> None:
            if port.socket.fileno() >= 0:
                loop.add_reader(port.socket, self._accept, port)

        loop.call_later(_FULL_SECONDS, go_on)

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
            flow.heard_at = asyncio.get_running_loop().time()
            try:
                flow.socket.send(data)
            except OSError:
                continue  # as on any way a datagram may be lost

    def _begin_flow(self, port: _Port, client: tuple[object, ...], source: list[tuple[int, int, bytes]]) -> _Flow | None:
        loop = asyncio.get_running_loop()
        if len(port.flows) >= _FLOWS:
            self._drop_flows(port, silent_since=loop.time() - _FLOW_SECONDS)
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
        flow = port.flows[client] = _Flow(upstream, loop.time(), [_answering(each) for each in source])
        loop.add_reader(upstream, self._answer, port, client, flow)
        loop.call_later(_FLOW_SECONDS, self._expire, port, client, flow)
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
        loop = asyncio.get_running_loop()
        left = flow.heard_at + _FLOW_SECONDS - loop.time()
        if left > 0:
            loop.call_later(left, self._expire, port, client, flow)
        else:
            self._end_flow(port, client)

    def _drop_flows(self, port: _Port, silent_since: float = float("inf")) -> None:
        for client in [client for client, flow in port.flows.items() if flow.heard_at < silent_since]:
            self._end_flow(port, client)

    def _end_flow(self, port: _Port, client: tuple[object, ...]) -> None:
        flow = port.flows.pop(client)
        asyncio.get_running_loop().remove_reader(flow.socket)
        flow.socket.close()


def _answering(control: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """The ancillary message that makes an answer come from the address that was spoken to, by whatever interface leads there."""
    level, kind, content = control
    if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO) and len(content) >= _PACKET_INFO.size:
        address, index = _PACKET_INFO.unpack_from(content)
        content = _PACKET_INFO.pack(address, index if address[:2] == b"\xfe\x80" else 0)
    return level, kind, content


def _spawn(port: _Port, work: Coroutine[object, object, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    port.tasks.add(task)
    task.add_done_callback(port.tasks.discard)


async def _converse(client: socket.socket, spec: RelaySpec) -> None:
    """Copy both ways until both have ended; a side that breaks is told to the other by a reset."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in spec.target_ip else socket.AF_INET
    with client, socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as container:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.sock_connect(container, (spec.target_ip, spec.target_port))
            for each in (client, container):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(client, container))
                both.create_task(_copy(container, client))
        except* (OSError, TimeoutError):
            for each in (client, container):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _copy(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    chunk = memoryview(bytearray(_COPY_BYTES))
    while count := await loop.sock_recv_into(source, chunk):
        await loop.sock_sendall(target, chunk[:count])
    target.shutdown(socket.SHUT_WR)

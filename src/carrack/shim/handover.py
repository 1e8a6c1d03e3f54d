"""What lies parked while a shim sleeps: one packet with every descriptor of the container, in the queue of a socket of which its
sleeper holds both ends.

The sleeper opens nothing of it. What it has to watch is in an epoll that whoever parked has filled. While the container is being
made the order lies there, for a sleeper whose maker is killed and that has to undo what was done.
"""

from __future__ import annotations

import _socket
import os
import select
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from carrack.errors import SystemFailure
from carrack.shim import wire

PARKED = 3
"""The exit status of a hand that has parked the container; with 0 it has seen it to its end."""
REAPED = struct.Struct("=ii")
"""A child of the sleeper that has ended: its pid and its status, as wait(2) gives it."""


class Berth(NamedTuple):
    """Where a shim sleeps: made by its sleeper before the first fork, and shared with each of its hands."""

    sleeper_pid: int
    queue: tuple[_socket.socket, _socket.socket]
    reaped: tuple[int, int]
    """A pipe by which the sleeper tells of each child that it has reaped, as a REAPED."""
    wake: select.epoll

    @property
    def descriptors(self) -> tuple[int, ...]:
        return (self.queue[0].fileno(), self.queue[1].fileno(), *self.reaped, self.wake.fileno())


class Ordered(msgspec.Struct, frozen=True):
    """A container that is being made: the order and what came with it are this packet's descriptors."""


class Running(msgspec.Struct, frozen=True):
    """A container whose program runs, as far as descriptors do not tell."""

    pid: int
    started_at_nanoseconds: int
    console: bool
    user_namespace: bool
    watches_memory: bool
    has_input: bool
    has_network_namespace: bool
    has_conversation: bool = True
    held_ports: int = 0
    attached: int = 0
    """How many of the clients that the StartOrder names come with it: all of them or, later, none."""
    waiting: tuple[str, ...] = ()
    """What each of the waiting clients waits for."""
    early: tuple[tuple[bytes, int], ...] = ()
    """Packets that came from the daemon before Go, unopened, and how many descriptors each has."""
    unfinished: tuple[tuple[int, bytes], ...] = ()
    """Beginnings of lines that are in no log yet, by stream."""
    out_of_memory_kills: int = 0


class Container(NamedTuple):
    """The same with its descriptors in their places; -1: there is none."""

    running: Running
    order_fd: int
    conversation_fd: int
    listener_fd: int
    pidfd: int
    outputs: tuple[int, ...]
    """Output and errors, or the pty's master."""
    out_of_memory_fd: int
    rootfs_fd: int
    tenancy_fd: int
    input_fd: int
    network_namespace_fd: int
    held_ports: tuple[int, ...]
    attached: tuple[int, ...]
    waiting: tuple[int, ...]
    early: tuple[tuple[bytes, list[int]], ...]

    @property
    def descriptors(self) -> list[int]:
        """Every descriptor, in the order of a packet."""
        single = (self.order_fd, self.listener_fd, self.pidfd, *self.outputs, self.rootfs_fd, self.tenancy_fd)
        perhaps = (self.conversation_fd, self.out_of_memory_fd, self.input_fd, self.network_namespace_fd)
        beside = (fd for _, fds in self.early for fd in fds)
        return [fd for fd in (*single, *perhaps, *self.held_ports, *self.attached, *self.waiting, *beside) if fd >= 0]


def deposit(berth: Berth, order_fd: int, fds: list[int]) -> None:
    """Leave an order, sealed, and what came with it, before anything is made. Raises OSError."""
    _send(berth, Ordered(), [order_fd, *fds])


def deposited(berth: Berth) -> tuple[int, list[int]] | None:
    """Take that: the order and what came with it. None when nothing was left."""
    try:
        _, fds = wire.unpack(*wire.receive_packet(berth.queue[0], wait=False))
    except (OSError, SystemFailure):
        return None
    return fds[0], fds[1:]


def withdraw(berth: Berth) -> None:
    """The order that was left is needed no more."""
    left = deposited(berth)
    if left is not None:
        wire.close_all((left[0], *left[1]))


def park(berth: Berth, container: Container) -> None:
    """Leave a container to its sleeper: the caller ends next, with PARKED. Raises OSError."""
    for fd in (berth.reaped[0], container.conversation_fd, container.listener_fd, container.pidfd, container.out_of_memory_fd):
        if fd >= 0:
            berth.wake.register(fd, select.EPOLLIN)
    for fd in container.outputs:
        berth.wake.register(fd, select.EPOLLIN)
    if container.early or container.attached:
        berth.wake.register(berth.reaped[1], select.EPOLLOUT)  # at once
    _send(berth, container.running, container.descriptors)


def _send(berth: Berth, what: Ordered | Running, fds: list[int]) -> None:
    packet = wire.Packet(what, fds)
    try:
        berth.queue[1].sendmsg([packet.payload], packet.ancillary, _socket.MSG_NOSIGNAL)
    finally:
        packet.close()


def parked(berth: Berth) -> Container:
    """Take what was parked; the descriptors are the caller's."""
    payload, fds = wire.unpack(*wire.receive_packet(berth.queue[0]))
    if wire.is_sealed(payload, fds):
        running = wire.decode_sealed(fds[0], _running)
        os.close(fds.pop(0))
    else:
        running = _running.decode(payload)
    rest = iter(fds)

    def some(count: int) -> tuple[int, ...]:
        return tuple(next(rest) for _ in range(count))

    def one(there: bool) -> int:
        return next(rest) if there else -1

    order_fd, listener_fd, pidfd = some(3)
    outputs = some(1 if running.console else 2)
    rootfs_fd, tenancy_fd = some(2)
    conversation_fd = one(running.has_conversation)
    out_of_memory_fd, input_fd = one(running.watches_memory), one(running.has_input)
    network_namespace_fd = one(running.has_network_namespace)
    return Container(
        running,
        order_fd,
        conversation_fd,
        listener_fd,
        pidfd,
        outputs,
        out_of_memory_fd,
        rootfs_fd,
        tenancy_fd,
        input_fd,
        network_namespace_fd,
        held_ports=some(running.held_ports),
        attached=some(running.attached),
        waiting=some(len(running.waiting)),
        early=tuple((packet, list(some(count))) for packet, count in running.early),
    )


def await_reaping(berth: Berth) -> None:
    """Until the sleeper has told of one, and take that."""
    told = select.poll()
    told.register(berth.reaped[0], select.POLLIN)
    told.poll()
    os.read(berth.reaped[0], REAPED.size)


def reapings(berth: Berth) -> Iterator[tuple[int, int]]:
    """(pid, status) of each process that the sleeper has reaped since the last look."""
    try:
        told = os.read(berth.reaped[0], 512 * REAPED.size)
    except BlockingIOError:
        return
    yield from REAPED.iter_unpack(told)


_running: msgspec.json.Decoder[Running] = msgspec.json.Decoder(Running)

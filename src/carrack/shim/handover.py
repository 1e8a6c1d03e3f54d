"""What a maker leaves to its shim once the container runs: one packet, with every descriptor that the container will need.

A shim asleep opens nothing of it: what it has to watch is in an epoll that the maker has filled.
"""

from __future__ import annotations

import _socket
from typing import NamedTuple

import msgspec

from carrack.shim import wire


class Running(msgspec.Struct, frozen=True):
    """A container whose program runs. Descriptors: `watched`, then root and tenancy, then the input, if any, and the network
    namespace, if any, then those of the early packets."""

    pid: int
    started_at_nanoseconds: int
    console: bool
    user_namespace: bool
    watches_memory: bool
    has_input: bool
    has_network_namespace: bool
    early: tuple[tuple[bytes, int], ...] = ()
    """Packets that came from the daemon before Go, unopened, and how many descriptors each has."""


class Container(NamedTuple):
    """The same with its descriptors in their places."""

    running: Running
    listener_fd: int
    pidfd: int
    outputs: tuple[int, ...]
    """Output and errors, or the pty's master."""
    out_of_memory_fd: int
    """-1: nothing to watch."""
    rootfs_fd: int
    tenancy_fd: int
    input_fd: int
    network_namespace_fd: int
    """-1: the host's."""
    early: tuple[tuple[bytes, list[int]], ...]


def send(sock: _socket.socket, container: Container) -> None:
    """Hand over. Raises OSError when the shim has gone."""
    fds = [container.listener_fd, container.pidfd, *container.outputs, container.out_of_memory_fd]
    fds += [container.rootfs_fd, container.tenancy_fd, container.input_fd, container.network_namespace_fd]
    fds += [fd for _, beside in container.early for fd in beside]
    sock.sendmsg([msgspec.json.encode(container.running)], wire.ancillary([fd for fd in fds if fd >= 0]), _socket.MSG_NOSIGNAL)


def opened(payload: bytes, fds: list[int]) -> Container:
    """The container in a packet that `send` has sent."""
    running = msgspec.json.decode(payload, type=Running)
    rest = iter(fds)
    return Container(
        running,
        listener_fd=next(rest),
        pidfd=next(rest),
        outputs=tuple(next(rest) for _ in range(1 if running.console else 2)),
        out_of_memory_fd=next(rest) if running.watches_memory else -1,
        rootfs_fd=next(rest),
        tenancy_fd=next(rest),
        input_fd=next(rest) if running.has_input else -1,
        network_namespace_fd=next(rest) if running.has_network_namespace else -1,
        early=tuple((packet, [next(rest) for _ in range(count)]) for packet, count in running.early),
    )

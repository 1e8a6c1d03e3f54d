"""Netlink sockets that the kernel reports changes on: how many reports may wait, and how they are read, losses included."""

from __future__ import annotations

import errno
import socket

_SO_RCVBUFFORCE, _BACKLOG_BYTES = 33, 8 << 20


def allow_backlog(listener: socket.socket) -> None:
    """Let many reports wait while the listener is busy."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BACKLOG_BYTES)
    except PermissionError:
        pass  # fewer fit; a loss is noticed


def drain(listener: socket.socket) -> tuple[list[bytes], bool]:
    """Everything that waits on a non-blocking netlink socket, and whether reports were lost.

    A loss (ENOBUFS) is told once, and goes on silently until the queue has been empty: only a look after that sees everything.
    """
    datagrams, lost = [], False
    while True:
        try:
            datagrams.append(listener.recv(1 << 18))
        except BlockingIOError:
            return datagrams, lost
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            lost = True

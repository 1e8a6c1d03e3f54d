"""The path of the names process's socket: who may take it, and when it goes.

A process that ends removes its own path, and a daemon may put another there at that very moment: both hold a lock meanwhile, that
of the directory, so that none removes what is another's.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_BACKLOG = 16


def listen(path: str) -> socket.socket:
    """A listening socket at a path where nobody answers, for root only. Raises OSError."""
    with _alone_with(path):
        if os.path.lexists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        try:
            before = os.umask(0o177)
            try:
                listener.bind(path)
            finally:
                os.umask(before)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def take(listener: socket.socket) -> int:
    """Be the process that the socket is asked for (SO_PEERCRED); the path's inode, by which it is known as ours."""
    listener.listen(_BACKLOG)
    try:
        return os.stat(listener.getsockname()).st_ino
    except FileNotFoundError:
        return -1


def leave(listener: socket.socket, inode: int) -> None:
    """Close the socket, and remove its path unless another is there by now."""
    path = listener.getsockname()
    try:
        with _alone_with(path):
            if os.stat(path).st_ino == inode:
                os.unlink(path)
    except FileNotFoundError:
        pass
    listener.close()


@contextmanager
def _alone_with(path: str) -> Iterator[None]:
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)

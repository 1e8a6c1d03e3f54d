"""`shims/<id>.sock`: where a carrackd that was started later finds the shim."""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable

from carrack.kernel.loop import READ, Loop

_SOCKET, _PEER_CREDENTIALS = _socket.SOL_SOCKET, _socket.SO_PEERCRED
_CREDENTIALS_BYTES, _UID, _ROOT = 12, slice(4, 8), bytes(4)
"""unix(7), struct ucred: pid, uid and gid, four bytes each."""
_BACKLOG = 128
"""A burst of orders must not be turned away while one of them is being forked for."""


def bind(path: str) -> _socket.socket:
    """A listening, non-blocking SEQPACKET socket that only root may connect to; what lay at the path is removed."""
    remove(path)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(_BACKLOG)
    return sock


def remove(path: str) -> None:
    """Remove a socket's path. Idempotent."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def accept(listening: _socket.socket) -> _socket.socket | None:
    """The next connection of a root process; others are closed. None when there is none."""
    try:
        fd, _ = listening._accept()  # type: ignore[attr-defined]  # what socket.accept is made of
    except OSError:
        return None
    sock = _socket.socket(fileno=fd)
    if not is_from_root(sock):
        sock.close()
        return None
    return sock


def is_from_root(connection: _socket.socket) -> bool:
    """Whether a root process has made this connection, as the kernel knows it."""
    credentials = connection.getsockopt(_SOCKET, _PEER_CREDENTIALS, _CREDENTIALS_BYTES)
    return credentials[_UID] == _ROOT


class Listener:
    """A listening socket of ours in the loop; its path goes with it, unless another has taken that place."""

    def __init__(
        self, loop: Loop, path: str, on_connection: Callable[[_socket.socket], None], sock: _socket.socket | None = None
    ) -> None:
        """`sock`: what `bind` has given before. Raises OSError."""
        self._loop = loop
        self._path = path
        self._on_connection = on_connection
        self._sock = sock or bind(path)
        self._inode = os.stat(path).st_ino if os.path.exists(path) else 0
        loop.watch(self._sock.fileno(), READ, self._ready)

    def close(self) -> None:
        """Also removes the path, unless a later shim has put its own there."""
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            pass

    @property
    def fd(self) -> int:
        return self._sock.fileno()

    def _ready(self, _: int) -> None:
        sock = accept(self._sock)
        if sock is not None:
            self._on_connection(sock)

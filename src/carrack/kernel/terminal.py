"""Pseudo-terminals: a master of a given devpts, its slave by TIOCGPTPEER (no path a container could have replaced), sizes."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def open_slave(master_fd: int) -> int:
    """Unlock the master's slave and open it through the master itself. Never becomes a controlling terminal by that."""
    fcntl.ioctl(master_fd, _TIOCSPTLCK, struct.pack("i", 0))
    return fcntl.ioctl(master_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def set_size(fd: int, height: int, width: int) -> None:
    """Set rows and columns; the foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def get_size(fd: int) -> tuple[int, int]:
    """Rows and columns (TIOCGWINSZ, ioctl_tty(2)). Raises OSError."""
    height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return height, width


def make_controlling(fd: int) -> None:
    """Make the terminal `fd` the controlling one of this session; the caller is its leader."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)

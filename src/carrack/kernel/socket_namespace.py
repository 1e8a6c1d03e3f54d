"""The network namespace that a socket stands in, by the socket itself: for processes of one thread, which may step inside and back.

(kernel/netns.py does it in a thread made for it, and needs a descriptor of the namespace.)
"""

from __future__ import annotations

import fcntl
import os
import socket

from carrack.kernel.process import CLONE_NEWNET, setns

_SIOCGSKNS = 0x894C


def socket_beside(other: socket.socket, family: int, kind: int) -> socket.socket:
    """Make a non-blocking socket in the namespace of another socket. Raises OSError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = fcntl.ioctl(other.fileno(), _SIOCGSKNS)
        try:
            setns(there, CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            return socket.socket(family, kind | socket.SOCK_NONBLOCK)
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)

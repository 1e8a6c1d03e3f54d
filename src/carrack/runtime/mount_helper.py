"""A mount made where it disturbs nobody: by a child in a mount namespace of its own, which hands it back as a descriptor."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from carrack.kernel import mount, process


def mount_from(work: Callable[[], int], what: str) -> int:
    """The detached mount that `work` makes in a new mount namespace and sends; `what` names it in failures. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        pid, pidfd = process.fork_into(process.CLONE_NEWNS)
        if pid == 0:
            _send(theirs, work)
        theirs.close()
        try:
            answer, descriptors, _, _ = socket.recv_fds(ours, 4096, 1)
        finally:
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)
    if not descriptors:
        number, _, text = answer.decode().partition(" ")
        raise OSError(int(number or errno.EIO), text or "the mounting process died", what)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _send(answer: socket.socket, work: Callable[[], int]) -> None:
    """The child's whole life."""
    try:
        mount.set_attributes(mount.AT_FDCWD, "/", propagation=mount.MS_PRIVATE, recursive=True)
        socket.send_fds(answer, [b"0"], [work()])
    except OSError as error:
        answer.send(f"{error.errno} {error.strerror}".encode())
    finally:
        os._exit(0)

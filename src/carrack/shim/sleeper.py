"""A shim asleep: the process beside a container to which nothing happens.

    zygote ── fork ──▶ shim ── fork ──▶ maker ── clone3(CLONE_PARENT) ──▶ init, the shim's own child
                         │◀── its name … the running container, by its descriptors ──│  it exits
                         └── poll … the first event ──▶ `shim.Shim`

Each page that a process writes after its fork, be it a reference count, is a page of its own until it dies. So this one runs next
to nothing: it has the container made by a fork, waits in one poll, and becomes a whole shim only when something happens.
"""

from __future__ import annotations

import _socket
import os
import select

from carrack.kernel import process, title
from carrack.shim import handover, maker, wire
from carrack.shim.shim import Shim

_NAME_BYTES = 400
_REHEARSALS = 20


def serve(order_fd: int, fds: list[int], orderer: _socket.socket, title_area: tuple[int, int]) -> int:
    """Live through one container, ordered by the StartOrder in `order_fd`; `fds` as it describes them. Returns the exit status."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    wake = select.epoll()
    pid = os.fork()
    if pid == 0:
        ours.close()
        maker.work(order_fd, fds, orderer, theirs, wake)
    theirs.close()
    orderer.close()
    container_id = ours.recv(_NAME_BYTES)
    if container_id.startswith(maker.INHERITS):
        process.become_subreaper()
        container_id = container_id.removeprefix(maker.INHERITS)
        ours.send(b"1")
    if container_id:
        title.set_title(title_area, "carrack-shim " + container_id.decode())
    if not ours.recv(1, _socket.MSG_PEEK):
        return _nothing_runs(pid, order_fd, fds)
    os.waitpid(pid, 0)
    if ours.recv(1, _socket.MSG_PEEK) == maker.BESIDE:
        os.waitpid(int(ours.recv(_NAME_BYTES)[1:]), 0)
    _sleep(wake, fds)
    payload, given = wire.receive_packet(ours)
    ours.close()
    Shim(order_fd, fds, handover.opened(payload, given)).run()
    return 0


def _sleep(wake: select.epoll, fds: list[int]) -> None:
    """Until something happens. A client that waits and goes, as that of `docker run -d` does, is let go meanwhile: -1 instead."""
    while True:
        for fd, events in wake.poll(-1, 1):
            if not events & select.EPOLLRDHUP:
                wake.close()
                return
            wake.unregister(fd)
            fds[fds.index(fd, 1)] = -1
            os.close(fd)


def _nothing_runs(pid: int, order_fd: int, fds: list[int]) -> int:
    """The maker has told everyone why, or it was killed before it could."""
    _, status = os.waitpid(pid, 0)
    if status != 0:
        maker.bury(order_fd, fds)
        return 1  # init, if it still is, dies with this process
    try:
        while True:
            os.waitpid(-1, 0)  # init, which has been killed
    except ChildProcessError:
        return 0


def rehearse(area: tuple[int, int], name: str) -> None:
    """In the zygote, before its first fork: what is done for the first time writes to more memory than what is done again."""
    for _ in range(_REHEARSALS):
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        wake = select.epoll()
        wake.register(ours.fileno(), select.EPOLLOUT)
        theirs.send(name.encode())
        title.set_title(area, ours.recv(_NAME_BYTES).decode())
        _sleep(wake, [])
        theirs.close()
        ours.recv(1, _socket.MSG_PEEK)
        ours.close()

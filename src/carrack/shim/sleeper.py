"""A shim asleep: the process beside a container to which nothing happens, and its hands.

    zygote ── fork ──▶ sleeper ── fork ──▶ maker ── clone3(CLONE_PARENT) ──▶ init, the sleeper's own child
                         │◀── its name, "it runs" ──────────────│  parks the container and exits, or stays as the first hand
                         └── poll … the first event ── fork ──▶ hand: the whole of a shim (`shim.Shim`) … parks it again, exits

Each page that a process writes after its fork, be it a reference count, is a page of its own until it dies. So the sleeper runs
next to nothing: it waits in one poll, or for its children; all work is done by a hand, one at a time, and the memory that the work
has touched goes with it. What the hand needs to know waits in a packet (`handover.py`). The sleeper is init's parent, so it alone
can reap it: it tells the hand. One that is killed takes the container with it, and so does its hand (law 5).
"""

from __future__ import annotations

import _socket
import os
import select
from typing import NoReturn

from carrack.errors import CarrackError
from carrack.kernel import process, title
from carrack.shim import handover, maker, wire
from carrack.shim.handover import PARKED, REAPED, Berth
from carrack.shim.shim import Shim
from carrack.shim.shim_order import shim_orders

_NAME_BYTES = 400
_REHEARSALS = 20
# Not looked up each time, and the berth is kept in names of its own: each object that is touched is a page of every shim.
_PACKETS = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
_QUIET = os.O_CLOEXEC | os.O_NONBLOCK
_PARKED = PARKED << 8
"""That exit status, as wait(2) gives it."""


def serve(order_fd: int, fds: list[int], orderer: _socket.socket, title_area: tuple[int, int]) -> int:
    """Live through one container, ordered by the StartOrder in `order_fd`; `fds` as it describes them. Returns the exit status."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _PACKETS)
    queue = _socket.socketpair(_socket.AF_UNIX, _PACKETS)
    reaped = os.pipe2(_QUIET)
    wake = select.epoll()
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        maker.work(order_fd, fds, orderer, theirs, Berth(me, queue, reaped, wake), title_area)
    theirs.close()
    orderer.close()
    container_id = ours.recv(_NAME_BYTES)
    if container_id.startswith(maker.INHERITS):
        process.become_subreaper()
        container_id = container_id.removeprefix(maker.INHERITS)
        ours.send(b"1")
    if container_id:
        title.set_title(title_area, maker.TITLE + container_id.decode())
    if not ours.recv(1):
        return _nothing_runs(pid, order_fd, fds)
    ours.close()
    for fd in fds:
        os.close(fd)  # they are the hand's, and then parked
    while True:
        status = _attend(pid, reaped)
        if status != _PARKED:
            return os.waitstatus_to_exitcode(status)
        wake.poll(-1, 1)
        wake.close()
        wake = select.epoll()
        pid = os.fork()
        if pid == 0:
            _be_hand(order_fd, Berth(me, queue, reaped, wake))


def _attend(hand: int, reaped: tuple[int, int]) -> int:
    """Until the hand has ended, reap who else does, and tell it. Returns its status, as wait(2) gives it."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == hand:
            return status
        try:
            os.write(reaped[1], REAPED.pack(pid, status))
        except BlockingIOError:
            pass  # thousands of orphans that nobody has asked for


def _be_hand(order_fd: int, berth: Berth) -> NoReturn:
    """A hand's whole life, for a container that was parked."""
    code = 1
    try:
        maker.die_with_sleeper(berth)
        order = wire.decode_sealed(order_fd, shim_orders)
        os.close(order_fd)
        code = Shim(order, handover.parked(berth), berth).run()
    except CarrackError as error:
        os.write(2, f"carrack: {error.message}\n".encode())
    except Exception as error:  # the process's root: say it, and end  # noqa: BLE001
        os.write(2, f"carrack: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


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
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _PACKETS)
        reaped = os.pipe2(_QUIET)
        wake = select.epoll()
        wake.register(ours.fileno(), select.EPOLLOUT)
        theirs.send(name.encode())
        title.set_title(area, ours.recv(_NAME_BYTES).decode())
        wake.poll(-1, 1)
        wake.close()
        theirs.close()
        ours.recv(1)
        ours.close()
        for fd in reaped:
            os.close(fd)

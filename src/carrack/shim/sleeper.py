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
from carrack.kernel import process
from carrack.shim import handover, maker, wire
from carrack.shim.handover import PARKED, REAPED, Berth
from carrack.shim.shim import Shim
from carrack.shim.shim_order import shim_orders

_INHERITS, _TITLE_BYTES = maker.INHERITS, maker.TITLE_BYTES
_PARKED = PARKED << 8
"""That exit status, as wait(2) gives it."""
# Each object that is touched is a page of every shim: so nothing is looked up by its name in a module or a type.
_pair, _pipe, _epoll, _sleep = _socket.socketpair, os.pipe2, select.epoll, select.epoll.poll
_fork, _getpid, _wait = os.fork, os.getpid, os.waitpid
_open, _close, _read, _write, _pwrite = os.open, os.close, os.read, os.write, os.pwrite
_UNIX, _PACKETS = _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
_CLOSED, _QUIET, _WRITING = os.O_CLOEXEC, os.O_CLOEXEC | os.O_NONBLOCK, os.O_CLOEXEC | os.O_WRONLY


def serve(orderer_fd: int, title_address: int) -> int:
    """Live through one container, ordered by the StartOrder that waits at `orderer_fd`. Returns the exit status."""
    queue = _pair(_UNIX, _PACKETS)
    reaped = _pipe(_QUIET)
    told, telling = _pipe(_CLOSED)
    wake = _epoll()
    me = _getpid()
    hand = _fork()
    if not hand:
        maker.work(orderer_fd, telling, Berth(me, queue, reaped, wake), title_address)
    _close(telling)
    _close(orderer_fd)
    name = _read(told, _TITLE_BYTES)
    if name == _INHERITS:
        process.become_subreaper()
        _tell(reaped[1], 0, 0)
        name = _read(told, _TITLE_BYTES)
    if name:
        fd = _open(b"/proc/self/mem", _WRITING)
        _pwrite(fd, name, title_address)
        _close(fd)
        fd = _open(b"/proc/self/comm", _WRITING)
        _write(fd, b"carrack-shim")
        _close(fd)
    if not _read(told, 1):
        return _nothing_runs(hand, Berth(me, queue, reaped, wake))
    _close(told)
    while True:
        ended, status = _wait(-1, 0)
        if ended != hand:
            _tell(reaped[1], ended, status)
        elif status != _PARKED:
            return os.waitstatus_to_exitcode(status)
        else:
            _sleep(wake, -1, 1)
            wake = _epoll()
            hand = _fork()
            if not hand:
                _be_hand(Berth(me, queue, reaped, wake))


def _tell(reaped_fd: int, pid: int, status: int) -> None:
    """The hand, of a process that was reaped."""
    try:
        os.write(reaped_fd, REAPED.pack(pid, status))
    except BlockingIOError:
        pass  # thousands of orphans that nobody has asked for


def _be_hand(berth: Berth) -> NoReturn:
    """A hand's whole life, for a container that was parked."""
    code = 1
    try:
        maker.die_with_sleeper(berth)
        container = handover.parked(berth)
        order = wire.decode_sealed(container.order_fd, shim_orders)
        code = Shim(order, container, berth).run()
    except CarrackError as error:
        os.write(2, f"carrack: {error.message}\n".encode())
    except Exception as error:  # the process's root: say it, and end  # noqa: BLE001
        os.write(2, f"carrack: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _nothing_runs(pid: int, berth: Berth) -> int:
    """The maker has told everyone why, or it was killed before it could."""
    _, status = os.waitpid(pid, 0)
    if status != 0:
        left = handover.deposited(berth)
        if left is not None:
            maker.bury(*left)
        return 1  # init, if it still is, dies with this process
    try:
        while True:
            os.waitpid(-1, 0)  # init, which has been killed
    except ChildProcessError:
        return 0

"""Being with a running container: its terminal on ours, our signals to it, its exit code ours; or the terminal given away."""

from __future__ import annotations

import os
import select
import signal
import socket
import termios
import tty
from typing import Any

from carrack.errors import SystemFailure
from carrack.kernel import process, terminal
from carrack.runtime.create import Creation
from carrack.runtime.criu.restore import Restoration

_CHUNK = 65536
_OWN_SIGNALS = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGPIPE, signal.SIGKILL, signal.SIGSTOP)


def hand_over(path: str, master_fd: int) -> None:
    """Send the pty's master over the unix socket at `path`, as runc's console-socket protocol has it. Raises SystemFailure."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as receiver:
            receiver.connect(path)
            socket.send_fds(receiver, [b"/dev/ptmx"], [master_fd])
    except OSError as error:
        raise SystemFailure(f"console socket {path}: {(error.strerror or '').lower()}") from None


def attend(creation: Creation | Restoration) -> int:
    """Stay until the container's init ends; returns its exit code, 128 and the signal's number when a signal ended it."""
    return attend_process(creation.pidfd, creation.console_fd)


def attend_process(pidfd: int, console_fd: int) -> int:
    """Forward signals and, with a console, bytes; reap the process and return its exit code."""
    for number in signal.valid_signals():
        if number not in _OWN_SIGNALS and number not in (32, 33):
            signal.signal(number, lambda received, _frame: _forward(pidfd, received))
    saved = _raw() if console_fd >= 0 else None
    try:
        if console_fd >= 0:
            _follow_size(console_fd)
            _copy(console_fd, pidfd)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
    if ended is None:
        return 255
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def _forward(pidfd: int, number: int) -> None:
    try:
        process.send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def _raw() -> list[Any] | None:
    """Our own terminal in raw mode; what to restore afterwards, None when stdin is no terminal."""
    if not os.isatty(0):
        return None
    saved = termios.tcgetattr(0)
    tty.setraw(0)
    return saved


def _follow_size(console_fd: int) -> None:
    def resize(*_: object) -> None:
        try:
            terminal.set_size(console_fd, *terminal.get_size(0))
        except OSError:
            pass

    if os.isatty(0):
        resize()
        signal.signal(signal.SIGWINCH, resize)


def _copy(console_fd: int, pidfd: int) -> None:
    """Bytes both ways until the terminal's other end is closed, or the process ended and nothing is left to read."""
    poll = select.poll()
    poll.register(console_fd, select.POLLIN)
    poll.register(0, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    ended = False
    while True:
        ready = dict(poll.poll(0 if ended else None))
        if console_fd in ready:
            try:
                data = os.read(console_fd, _CHUNK)
            except OSError:
                return
            if not data:
                return
            _write_all(1, data)
        elif ended:
            return
        if 0 in ready:
            data = os.read(0, _CHUNK)
            if data:
                _write_all(console_fd, data)
            else:
                poll.unregister(0)
        if pidfd in ready:
            ended = True
            poll.unregister(pidfd)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]

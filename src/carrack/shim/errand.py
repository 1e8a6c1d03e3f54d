"""What a child of the zygote does: it greets who has connected, takes one order, and becomes what that asks for."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import select
import signal
from typing import NamedTuple, NoReturn

from carrack.errors import SystemFailure
from carrack.kernel import process as kernel_process
from carrack.kernel import title
from carrack.networks.dns.process import be_the_names_process
from carrack.shim import listener, messages, sleeper, wire
from carrack.shim.messages import Leave, ServeNames, WorkerJob
from carrack.shim.worker import work

_END_SECONDS = 10.0
_WORD_BYTES = 96
_START, _JOB, _LEAVE = messages.START, messages.JOB, wire.encode(Leave())
# Each object that is touched before a shim sleeps is a page of every shim: nothing is looked up by its name in a module.
_set_signal, _setsid, _close, _read, _write = _signal.signal, os.setsid, os.close, os.read, os.write
_be_shim = sleeper.serve
_CHILD_ENDED, _DEFAULT = int(signal.SIGCHLD), _signal.SIG_DFL


class Child(NamedTuple):
    """What a child has from the zygote; taken by number where a shim begins, for the same reason."""

    greeting: bytes
    listening_fd: int
    title_address: int
    title_bytes: int
    zygote_pid: int
    socket_path: str


def be_child(fd: int, child: Child) -> NoReturn:
    """The whole life of a child of the zygote; `fd`: the connection that brings its order.

    An order to start a container is not touched here: this process becomes its shim asleep.
    """
    code = 70
    try:
        _set_signal(_CHILD_ENDED, _DEFAULT)
        _setsid()
        _close(child[1])
        _write(fd, child[0])
        word = _read(fd, _WORD_BYTES)
        code = _be_shim(fd, child[2]) if word == _START else _do(word, fd, child)
    except (ConnectionError, EOFError):  # who connected has gone again
        code = 0
    except Exception as error:  # the process's root: say it, and end  # noqa: BLE001
        os.write(2, f"carrack: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _do(word: bytes, fd: int, child: Child) -> int:
    """Everything but starts."""
    sock = _socket.socket(fileno=fd)
    if listener.is_from_root(sock):
        if word == _LEAVE:
            _end(child.zygote_pid, child.socket_path)
        elif word == _JOB:
            _work(sock, (child.title_address, child.title_bytes))
    return 0


def _work(sock: _socket.socket, title_area: tuple[int, int]) -> None:
    """Be a worker, or the names process."""
    order, fds = wire.receive(sock)
    kernel_process.close_all_but((0, 1, 2, sock.fileno(), *fds))
    if isinstance(order, ServeNames):
        title.set_title(title_area, f"carrack-names {order.socket_path}")
        sock.close()
        be_the_names_process(*fds)
    elif isinstance(order, WorkerJob):
        title.set_title(title_area, f"carrack-worker {type(order).__name__}")
        work(sock, order, fds)
    else:
        raise SystemFailure(f"not a job for a zygote: {type(order).__name__}")


def _end(zygote_pid: int, socket_path: str) -> None:
    """Kill the zygote, this process's parent, and wait until it is dead: whoever ordered it sees the end of the connection then."""
    try:
        pidfd = os.pidfd_open(zygote_pid)
    except ProcessLookupError:
        return
    if os.getppid() != zygote_pid:
        return  # it has died, and the number may be another's
    listener.remove(socket_path)
    kernel_process.send_signal(pidfd, signal.SIGKILL)
    dead = select.poll()
    dead.register(pidfd, select.POLLIN)
    dead.poll(_END_SECONDS * 1000)

"""The zygote: a ready interpreter that forks shims and workers, in about a millisecond each.

    zygote.sock ── accept ──▶ zygote ── fork, one child for each connection ──▶ child: a Greeting, then one order (`errand.py`)
                                 ▲───────────── kill, when the order is to Leave ────────┘

It imports everything that any of them can ever need, then takes away its own means to import (law 1), and then does nothing but
accept and fork. For each page that it writes after a fork, the child keeps the old one to itself until it dies: so whatever can be
done in the child is done there. It never sees an order, and no container's environment or secret comes near it. It has one thread,
is not dumpable, and outlives the carrackd that made it.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import signal
import sys
from typing import NoReturn

from carrack.kernel import memory, title
from carrack.kernel import process as kernel_process
from carrack.shim import everything, listener, open_files, wire
from carrack.shim.errand import Child, be_child
from carrack.shim.messages import Greeting

READY = b"+"
_NAME = "carrack-zygote"
_PAUSE_MILLISECONDS = 20
"""Between two connections that could not be served; without, a machine that is full would be kept busy as well."""


def main(socket_path: str, build: str, ready_fd: int) -> None:
    """The zygote's whole life. A byte is written to `ready_fd` once the socket answers."""
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    kernel_process.set_dumpable(False)
    open_files.raise_limit()
    everything.warm_up()
    forbid_imports()
    listening = listener.bind(socket_path)
    listening.setblocking(True)
    me = os.getpid()
    greeting = wire.encode(Greeting(me, build))
    title_area = title.argument_area()
    title.set_title(title_area, _NAME)
    gc.collect()
    memory.give_back_free()
    memory.gather_locks()
    gc.freeze()
    gc.enable()
    os.write(ready_fd, READY)
    os.close(ready_fd)
    _fork_for_each(listening, Child(greeting, listening.fileno(), *title_area, me, socket_path), build)


def _fork_for_each(listening: _socket.socket, child: Child, build: str) -> NoReturn:
    """Accept and fork, for ever."""
    accept, fork, close = listening._accept, os.fork, os.close  # type: ignore[attr-defined]  # what socket.accept is made of
    fd = -1
    while True:
        try:
            fd, _ = accept()
            if not fork():
                be_child(fd, child)
            close(fd)
        except OSError as error:
            _turn_away(fd, build, error)
        fd = -1


def _turn_away(fd: int, build: str, error: OSError) -> None:
    """Say why there is no child to take an order, so that nobody thinks the zygote dead; and wait a little."""
    poll = select.poll()
    if fd < 0:
        poll.poll(_PAUSE_MILLISECONDS)
        return
    sock = _socket.socket(fileno=fd)
    poll.register(fd, select.POLLIN)
    try:
        sock.send(wire.encode(Greeting(os.getpid(), build, trouble=f"cannot fork: {error.strerror}")))
        poll.poll(_PAUSE_MILLISECONDS)
        while sock.recv(wire.PACKET_BYTES, _socket.MSG_DONTWAIT):
            pass  # what lies here unread would take the greeting with it
    except OSError:
        pass  # that was all, or it has gone
    sock.close()


def forbid_imports() -> None:
    """From here on a module is either loaded or out of reach (law 1)."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()

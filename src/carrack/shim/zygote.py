"""The zygote: a ready interpreter that forks shims and workers, in about a millisecond each.

It imports everything that any of them can ever need, then takes away its own means to import (law 1), and serves `zygote.sock`:
a Greeting to whoever connects, then orders. It never reads an order: the packet is opened in the forked child, so that no
container's environment or secret stays in this process. It has one thread, is not dumpable, and outlives the carrackd that made it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import os
import signal
import sys
from typing import NoReturn

from carrack.errors import SystemFailure
from carrack.kernel import memory, title
from carrack.kernel import process as kernel_process
from carrack.kernel.loop import READ, Loop
from carrack.shim import everything, open_files, sleeper, wire
from carrack.shim.errand import serve_order
from carrack.shim.listener import Listener
from carrack.shim.messages import Greeting, Leave

READY = b"+"
_NAME = "carrack-zygote"
_LEAVE = wire.encode(Leave())


class Zygote:
    def __init__(self, socket_path: str, build: str) -> None:
        self._loop = Loop()
        self._title_area = title.argument_area()
        self._greeting = Greeting(os.getpid(), build)
        self._connections: dict[int, _socket.socket] = {}
        self._listener = Listener(self._loop, socket_path, self._connected)
        self._own_fds = (self._listener.fd, self._loop.fd)
        sleeper.rehearse(self._title_area, _NAME)

    def run(self) -> None:
        """Serve until told to leave."""
        self._loop.run()
        self._listener.close()

    def _connected(self, sock: _socket.socket) -> None:
        sock.setblocking(False)
        try:
            wire.send(sock, self._greeting)
        except OSError:
            sock.close()
            return
        fd = sock.fileno()
        self._connections[fd] = sock
        self._loop.watch(fd, READ, lambda _: self._receive(fd))

    def _receive(self, fd: int) -> None:
        sock = self._connections[fd]
        try:
            payload, fds = wire.receive_packet(sock, wait=False)
        except BlockingIOError:
            return
        except (OSError, EOFError, SystemFailure):
            self._loop.forget(fd)
            del self._connections[fd]
            sock.close()
            return
        if payload == _LEAVE:
            self._loop.stop()
        elif os.fork() == 0:
            self._become_child(sock, payload, fds)
        wire.close_all(fds)

    def _become_child(self, sock: _socket.socket, payload: bytes, fds: list[int]) -> NoReturn:
        """Never returns: the child ends here."""
        code = 70
        try:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # not by its enumerations: this is every shim's memory
            os.setsid()
            ordered_by = sock.fileno()
            for fd in self._connections:
                if fd != ordered_by:
                    os.close(fd)
            for fd in self._own_fds:
                os.close(fd)
            code = serve_order(sock, payload, fds, self._title_area)
        except Exception as error:  # the process's root: say it, and end  # noqa: BLE001
            os.write(2, f"carrack: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)


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
    zygote = Zygote(socket_path, build)
    gc.collect()
    memory.give_back_free()
    gc.freeze()
    gc.enable()
    os.write(ready_fd, READY)
    os.close(ready_fd)
    zygote.run()


def forbid_imports() -> None:
    """From here on a module is either loaded or out of reach (law 1)."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()

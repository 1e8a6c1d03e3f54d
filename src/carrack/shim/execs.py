"""Exec sessions: further processes in the container, each with streams of its own and usually one client."""

from __future__ import annotations

import os
from collections.abc import Callable
from mmap import mmap

from carrack.kernel import process as kernel_process
from carrack.kernel.loop import READ, Loop
from carrack.runtime.cgroups import Cgroup
from carrack.runtime.create import enter
from carrack.shim import open_files
from carrack.shim.messages import Exec, ExecState
from carrack.shim.pipes import make_pipes
from carrack.shim.streams import Streams

DRAIN_SECONDS = 2.0
"""How long output is still read after the process has ended, when another process holds it open. Docker's own bound."""


class Room:
    """What every exec of a container needs to know of it."""

    def __init__(self, pidfd: int, cgroup: Cgroup, seccomp: bytes, *, user_namespace: bool) -> None:
        self.pidfd = pidfd
        self.cgroup = cgroup
        self.seccomp = seccomp
        self.user_namespace = user_namespace


class ExecSession:
    """One process and its client, from `start` until `on_end`."""

    def __init__(self, loop: Loop, buffer: mmap, order: Exec, on_end: Callable[[ExecSession], None]) -> None:
        self._loop = loop
        self._on_end = on_end
        self._order = order
        self._exited = False
        self._ended = False
        self.exec_id = order.exec_id
        self.pid = 0
        self.pidfd = -1
        self.exit_code: int | None = None
        self.streams = Streams(loop, buffer, close_input_with_client=True)
        self.streams.on_drained = self._end_if_complete

    @property
    def state(self) -> ExecState:
        return ExecState(self.exec_id, self.pid, not self._exited, self.exit_code)

    def start(self, room: Room) -> None:
        """Run the program; returns once it executes. Raises StartFailed, nothing left behind."""
        wanted, attach = self._order.process, self._order.attach
        seccomp = b"" if self._order.privileged else room.seccomp
        pipes = None if wanted.terminal else make_pipes(stdin=attach is not None and attach.stdin)
        open_files.restore_limit()
        try:
            entered = enter(
                room.pidfd,
                wanted,
                cgroup=room.cgroup,
                stdio=pipes.stdio if pipes else None,
                console=wanted.terminal,
                seccomp_filter=seccomp,
                user_namespace=room.user_namespace,
            )
        except BaseException:
            if pipes:
                pipes.close_own_ends()
            raise
        finally:
            open_files.raise_limit()
            if pipes:
                pipes.close_process_ends()
        self.pid, self.pidfd = entered.pid, entered.pidfd
        if pipes:
            self.streams.use_pipes(pipes.input_fd, pipes.outputs)
        else:
            self.streams.use_terminal(entered.console_fd)
        self._loop.watch(self.pidfd, READ, lambda _: self._process_ended())

    def end_with_container(self) -> None:
        """Init has ended, so this process has been killed too: reap it now."""
        if not self._exited:
            self._process_ended()
        self.streams.drain_now()
        self._end()

    def signal(self, number: int) -> None:
        """Raises ProcessLookupError when the process has ended."""
        if self._exited:
            raise ProcessLookupError
        kernel_process.send_signal(self.pidfd, number)

    def _process_ended(self) -> None:
        self._loop.forget(self.pidfd)
        self.exit_code = reap(self.pid)
        os.close(self.pidfd)
        self.pidfd = -1
        self._exited = True
        self._loop.call_later(DRAIN_SECONDS, self._end)
        self._end_if_complete()

    def _end_if_complete(self) -> None:
        if self._exited and self.streams.drained:
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)
            self.streams.close()


def reap(pid: int) -> int:
    """Wait for a child that has ended: its exit status as shells count it."""
    return shell_code(os.waitpid(pid, 0)[1])


def shell_code(status: int) -> int:
    """A status of wait(2) as shells count it: 128 + signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code

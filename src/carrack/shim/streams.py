"""The standard streams of one process, init's or an exec's: read once, logged first, then copied to every client.

A client that owns the stream (it was there at the start, or it ordered the exec) is as a pipe: when it is slow the process waits,
and no byte is lost. One that joined later must keep up; when its queue is full it is dropped. The log is never behind a client.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import deque
from collections.abc import Callable
from mmap import mmap

from carrack.errors import Conflict
from carrack.kernel import terminal
from carrack.kernel.loop import READ, WRITE, Loop
from carrack.shim.client import AttachedClient
from carrack.shim.framing import STDOUT
from carrack.shim.logs.writer import Log, NoLog

BUFFER_BYTES = 64 * 1024
_LAST_READS = 64
"""A pipe holds one buffer's worth unless someone enlarged it."""
_INPUT_BYTES = 64 * 1024
"""What waits for a process that does not read its input; more stays with the clients."""


class Streams:
    """Input to one descriptor, output from one (a terminal) or two. Descriptors become the Streams' own."""

    def __init__(self, loop: Loop, buffer: mmap, log: Log | None = None, *, close_input_with_client: bool) -> None:
        """`close_input_with_client`: the first client that ends its input ends the process's (StdinOnce, and every exec)."""
        self._loop = loop
        self._buffer = buffer
        self._view = memoryview(buffer)
        self.log: Log = log or NoLog()
        self._close_input_with_client = close_input_with_client
        self._outputs: dict[int, int] = {}
        self._paused = False
        self._input_fd = -1
        self._input: deque[bytes] = deque()
        self._input_bytes = 0
        self._input_ending = False
        self._writing = False
        self.clients: list[AttachedClient] = []
        self.is_terminal = False
        self.on_drained: Callable[[], None] = lambda: None
        self.on_detached: Callable[[], None] = lambda: None

    def use_pipes(self, input_fd: int, outputs: dict[int, int]) -> None:
        """`outputs` maps descriptors to stream numbers; `input_fd` may be -1."""
        self._input_fd = input_fd
        for fd in (input_fd, *outputs):
            if fd >= 0:
                _set_non_blocking(fd)
        self._outputs = dict(outputs)
        self._resume()

    def use_terminal(self, console_fd: int) -> None:
        """Both directions over one pty master."""
        self.is_terminal = True
        _set_non_blocking(console_fd)
        self._input_fd = console_fd
        self._outputs = {console_fd: STDOUT}
        self._resume()

    @property
    def drained(self) -> bool:
        return not self._outputs

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way: nobody joined, no input waiting, every output open and read."""
        whole = len(self._outputs) == (1 if self.is_terminal else 2)
        return whole and not (self.clients or self._input or self._paused or (self._input_ending and self._input_fd >= 0))

    @property
    def pipe_fd(self) -> int:
        """Where the process's input is written; -1: it has none (any more), or a terminal."""
        return -1 if self.is_terminal else self._input_fd

    @property
    def takes_input(self) -> bool:
        return self._input_fd >= 0 and not self._input_ending

    def resize(self, height: int, width: int) -> None:
        """Raises Conflict without a terminal."""
        if not self.is_terminal or self._input_fd < 0:
            raise Conflict("the process has no terminal")
        terminal.set_size(self._input_fd, height, width)

    def add(self, client: AttachedClient) -> None:
        """From now on the client gets what is read; what it had sent before is input."""
        self.clients.append(client)
        client.join(self)

    def remove(self, client: AttachedClient) -> None:
        """The client has gone."""
        if client in self.clients:
            self.clients.remove(client)
            self.client_relieved()

    def detached(self) -> None:
        self.on_detached()

    def client_relieved(self) -> None:
        """A client took what was queued for it: reading may go on."""
        if self._paused and not self._must_wait():
            self._resume()

    # ── input ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def input_is_full(self) -> bool:
        return self._input_bytes >= _INPUT_BYTES

    def write_input(self, content: bytes) -> None:
        """Queue bytes for the process's standard input."""
        if not self.takes_input or not content:
            return
        self._input.append(content)
        self._input_bytes += len(content)
        self._write_input()

    def client_input_ended(self, client: AttachedClient) -> None:
        """Docker's rule: it ends the process's input when that is bound to the client, else it ends the client."""
        if self._close_input_with_client and not self.is_terminal:
            self.end_input()
        else:
            client.finish()

    def end_input(self) -> None:
        """Close the process's input once what waits for it is written."""
        self._input_ending = True
        if not self._input:
            self._close_input()

    def _write_input(self) -> None:
        while self._input and self._input_fd >= 0:
            try:
                written = os.write(self._input_fd, self._input[0])
            except BlockingIOError:
                break
            except OSError:
                self._input_ending = True
                self._forget_input()
                return
            self._input_bytes -= written
            if written < len(self._input[0]):
                self._input[0] = self._input[0][written:]
            else:
                self._input.popleft()
        self._watch_input(bool(self._input))
        if not self._input and self._input_ending:
            self._close_input()
        if not self.input_is_full:
            for client in self.clients:
                client.resume_input()

    def _watch_input(self, writing: bool) -> None:
        if writing == self._writing:
            return
        self._writing = writing
        if self.is_terminal:
            if not self._paused:
                self._loop.change(self._input_fd, READ | WRITE if writing else READ)
        elif writing:
            self._loop.watch(self._input_fd, WRITE, lambda _: self._write_input())
        else:
            self._loop.forget(self._input_fd)

    def _forget_input(self) -> None:
        self._input.clear()
        self._input_bytes = 0
        self._close_input()
        for client in self.clients:
            client.resume_input()

    def _close_input(self) -> None:
        if self.is_terminal or self._input_fd < 0:
            return
        if self._writing:
            self._loop.forget(self._input_fd)
            self._writing = False
        os.close(self._input_fd)
        self._input_fd = -1

    # ── output ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _output_events(self, fd: int, events: int) -> None:
        if self.is_terminal and events & WRITE:
            self._write_input()
        if events & ~WRITE and fd in self._outputs:
            self._read(fd)

    def _read(self, fd: int) -> bool:
        """Read once and pass it on; False when there was nothing."""
        try:
            length = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last slave of the terminal was closed
            length = 0
        if not length:
            self._output_ended(fd)
            return False
        stream = self._outputs[fd]
        self.log.write(stream, self._buffer, length, time.time_ns())
        for client in tuple(self.clients):
            client.output(stream, self._view[:length])
        if self._must_wait():
            self._pause()
        return True

    def drain_now(self) -> None:
        """Read what is there, whoever is slow; for the end, when nobody may be kept waiting.

        Bounded: a process that got away and writes on must not keep the end from being told.
        """
        for fd in tuple(self._outputs):
            for _ in range(_LAST_READS):
                if not self._read(fd):
                    break

    def _must_wait(self) -> bool:
        return any(client.owns_stream and client.is_full for client in self.clients)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            for fd in self._outputs:
                self._loop.forget(fd)

    def _resume(self) -> None:
        self._paused = False
        for fd in self._outputs:
            events = READ | WRITE if self.is_terminal and self._writing else READ
            self._loop.watch(fd, events, lambda events, fd=fd: self._output_events(fd, events))  # type: ignore[misc]

    def _output_ended(self, fd: int) -> None:
        if not self._paused:
            self._loop.forget(fd)
        del self._outputs[fd]
        if fd != self._input_fd:
            os.close(fd)
        if not self._outputs:
            self.log.flush(time.time_ns())
            self.on_drained()

    def close(self) -> None:
        """Stop everything; clients get what is queued for them and are closed."""
        for fd in self._outputs:
            if not self._paused:
                self._loop.forget(fd)
            if fd != self._input_fd:
                os.close(fd)
        if self._outputs:
            self._outputs = {}
            self.log.flush(time.time_ns())
        self._input.clear()
        self._input_ending = True
        if self.is_terminal and self._input_fd >= 0:
            os.close(self._input_fd)
            self._input_fd = -1
        self._close_input()
        for client in tuple(self.clients):
            client.finish()


def _set_non_blocking(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)

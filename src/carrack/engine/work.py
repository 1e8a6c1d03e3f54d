"""A confined worker's job under way, on the event loop: its answers, the stream it writes, the stream it reads.

None of it holds a thread, so that any number of slow clients may have a worker each.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, TypeVar

from carrack.engine.threads import in_thread
from carrack.errors import Cancelled, SystemFailure
from carrack.shim import wire
from carrack.shim.messages import PathFacts, WorkerDone, WorkerFailed, WorkerJob
from carrack.shim.workers import error_of

T = TypeVar("T")
PIPE_BYTES = 1 << 20
"""What a worker may be ahead of its client; the kernel's limit for everyone."""
_PIECE_BYTES = 256 << 10


class BeginJob(Protocol):
    """Gives a worker its job. Blocking, briefly."""

    def __call__(self, job: WorkerJob, fds: Sequence[int], /) -> socket.socket: ...


class Work:
    """One job. `close` (or `cancel`) ends a worker that is not done."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._cancelled = False

    @classmethod
    async def begin(cls, begin_job: BeginJob, job: WorkerJob, fds: Sequence[int]) -> Work:
        """Give the job to a worker; the descriptors stay the caller's."""
        return cls(await in_thread(begin_job, job, tuple(fds)))

    async def facts(self) -> PathFacts:
        """The first answer of a job that tells of a path. Raises the worker's own kind of error."""
        answer = await self._answer()
        if not isinstance(answer, PathFacts):
            raise SystemFailure(f"a worker does not begin with {type(answer).__name__}")
        return answer

    async def done(self) -> WorkerDone:
        """Wait for the end. Raises the worker's own kind of error, Cancelled, SystemFailure when it died."""
        try:
            answer = await self._answer()
        finally:
            self.close()
        if not isinstance(answer, WorkerDone):
            raise SystemFailure(f"a worker does not end with {type(answer).__name__}")
        return answer

    def cancel(self) -> None:
        """Kill the worker: who waits for it is told that it was cancelled."""
        self._cancelled = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """End the conversation, and with it a worker that is not done. May be called more than once."""
        self._sock.close()

    async def _answer(self) -> PathFacts | WorkerDone:
        try:
            answer, fds = await _when_ready(self._sock.fileno(), lambda: wire.receive(self._sock))
        except (EOFError, OSError):
            if self._cancelled:
                raise Cancelled("the copy was cut short, because its container began anew or was removed") from None
            raise SystemFailure("the worker died") from None
        wire.close_all(fds)
        if isinstance(answer, WorkerFailed):
            raise error_of(answer)
        if isinstance(answer, PathFacts | WorkerDone):
            return answer
        raise SystemFailure(f"a worker does not answer with {type(answer).__name__}")


def make_pipe() -> tuple[int, int]:
    """A wide pipe, close-on-exec: (to read, to write)."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # the user's share of pipe buffers is used up: a narrow one does as well
    return reader, writer


async def read_pipe(fd: int) -> AsyncIterator[bytes]:
    """What comes out of a pipe, up to its end. Closes it."""
    os.set_blocking(fd, False)
    try:
        while True:
            try:
                piece = os.read(fd, _PIECE_BYTES)
            except BlockingIOError:
                piece = await _when_ready(fd, lambda: os.read(fd, _PIECE_BYTES))
            if not piece:
                return
            yield piece
    finally:
        os.close(fd)


async def write_pipe(fd: int, pieces: AsyncIterator[bytes]) -> None:
    """Write everything into a pipe and close it. That nobody reads any more is no error: who read knows why."""
    os.set_blocking(fd, False)
    try:
        async for piece in pieces:
            view = memoryview(piece)
            while view:
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    await _when_writable(fd)
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


async def _when_ready(fd: int, act: Callable[[], T]) -> T:
    """Do what may fail with BlockingIOError once the descriptor has something to read, or has ended."""
    loop = asyncio.get_running_loop()
    while True:
        ready = loop.create_future()
        loop.add_reader(fd, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_reader(fd)
        try:
            return act()
        except BlockingIOError:
            continue


async def _when_writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""Docker's mode=non-blocking: a ring in memory between a container and a disk that may stand still.

The log is written by a child of the shim, so that a write that hangs hangs there. What it does not take waits in the ring; what the
ring does not hold is lost, and the container never waits. The child tells of what it has written, and hands over each new file,
so that followers read on as ever; it ends with the shim.
"""

from __future__ import annotations

import _socket
import os
import signal
import struct
import time
from collections import deque
from collections.abc import Callable
from mmap import mmap
from typing import BinaryIO

from carrack.kernel import process
from carrack.kernel.loop import READ, WRITE, Loop
from carrack.shim import wire
from carrack.shim.aside import compress
from carrack.shim.logs.opening import open_log
from carrack.shim.logs.rotation import Follower
from carrack.shim.logs.writer import Log
from carrack.shim.messages import LogPlan

_HEAD = struct.Struct("<BIQ")
"""Stream (0: the output has ended), length, nanoseconds since 1970."""
_WROTE, _NEW_FILE, _FLUSHED = b"w", b"n", b"f"
_PIECE_BYTES = 64 * 1024
FLUSH_SECONDS = 2.0
"""How long the end of a container waits for its last lines to be on disk."""


class RingLog:
    """A `Log` whose writing cannot hold anybody up."""

    def __init__(self, loop: Loop, plan: LogPlan) -> None:
        """Raises OSError."""
        ours, theirs = _pair()
        self._loop = loop
        self._sock = ours
        self._limit = plan.non_blocking_buffer_bytes
        self._queue: deque[bytes | memoryview] = deque()
        self._queued_bytes = 0
        self.lost_bytes = 0
        self._followers: list[Follower] = []
        self._file_fd = -1
        self._flushed = False
        self.child = os.fork()
        if self.child == 0:
            _write_for(theirs, plan)
        theirs.close()
        ours.setblocking(False)
        loop.watch(ours.fileno(), READ, self._events)

    def write(self, stream: int, buffer: mmap, length: int, now_nanoseconds: int) -> None:
        if self._queue and self._queued_bytes + length > self._limit:
            self.lost_bytes += length
            return
        self._put(_HEAD.pack(stream, length, now_nanoseconds) + buffer[:length])
        self._send()

    def flush(self, now_nanoseconds: int) -> None:
        self._put(_HEAD.pack(0, 0, now_nanoseconds))
        self._send()
        deadline = time.monotonic() + FLUSH_SECONDS
        while not self._flushed and self._sock.fileno() >= 0 and (left := deadline - time.monotonic()) > 0:
            self._sock.settimeout(left)
            try:
                if self._queue:
                    self._sock.sendall(self._queue[0])
                    self._queued_bytes -= len(self._queue.popleft())
                else:
                    self._hear(wait=True)
            except OSError:
                break
        if self._sock.fileno() >= 0:
            self._sock.setblocking(False)

    def held(self, stream: int) -> bytes:
        return b""

    def take_up(self, stream: int, content: bytes) -> None:
        """Nothing: a shim with a ring does not sleep again."""

    def follow(self, follower: Follower) -> int:
        while self._file_fd < 0 and self._hear(wait=True):
            pass
        self._followers.append(follower)
        return os.dup(self._file_fd) if self._file_fd >= 0 else -1

    def leave(self, follower: Follower) -> None:
        self._followers.remove(follower)

    def close(self) -> None:
        self._give_up()
        if self._file_fd >= 0:
            os.close(self._file_fd)
            self._file_fd = -1

    def _put(self, record: bytes) -> None:
        self._queue.append(record)
        self._queued_bytes += len(record)

    def _send(self) -> None:
        if self._sock.fileno() < 0:
            self._queue.clear()
            return
        try:
            while self._queue:
                sent = self._sock.send(self._queue[0], _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
                self._queued_bytes -= sent
                if sent < len(self._queue[0]):
                    self._queue[0] = memoryview(self._queue[0])[sent:]
                else:
                    self._queue.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._give_up()
            return
        self._loop.change(self._sock.fileno(), READ | WRITE if self._queue else READ)

    def _events(self, events: int) -> None:
        if events & WRITE:
            self._send()
        if events & ~WRITE and self._sock.fileno() >= 0:
            self._hear(wait=False)

    def _hear(self, *, wait: bool) -> bool:
        """Take what the child tells; False when it has gone."""
        flags = _socket.MSG_CMSG_CLOEXEC | (0 if wait else _socket.MSG_DONTWAIT)
        if wait:
            self._sock.settimeout(FLUSH_SECONDS)
        try:
            told, beside, _, _ = self._sock.recvmsg(4096, _socket.CMSG_SPACE(64 * 4), flags)
        except BlockingIOError:
            return True
        except OSError:
            told, beside = b"", []
        for _, _, content in beside:
            for (fd,) in struct.iter_unpack("i", content[: len(content) // 4 * 4]):
                self._take_file(fd)
        if not told:
            self._give_up()
            return False
        self._flushed = self._flushed or _FLUSHED in told
        for follower in tuple(self._followers):
            follower.appended()
        if wait:
            self._sock.setblocking(False)
        return True

    def _take_file(self, fd: int) -> None:
        if self._file_fd >= 0:
            os.close(self._file_fd)
            for follower in tuple(self._followers):
                follower.rotated(os.dup(fd))
        self._file_fd = fd

    def _give_up(self) -> None:
        """The child has gone, or is to go: nothing more is kept."""
        if self._sock.fileno() >= 0:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            os.waitpid(self.child, os.WNOHANG)


def _pair() -> tuple[_socket.socket, _socket.socket]:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    return ours, theirs


class _Teller:
    """A follower that is told of everything, and tells it on. When nobody listens to it, it says nothing."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock

    def appended(self) -> None:
        try:
            self._sock.send(_WROTE, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def rotated(self, file_fd: int) -> None:
        try:
            self._sock.sendmsg([_NEW_FILE], wire.ancillary([file_fd]), _socket.MSG_NOSIGNAL)
        except OSError:
            pass
        os.close(file_fd)


def _write_for(sock: _socket.socket, plan: LogPlan) -> None:
    """The child's whole life: write what comes, and tell."""
    code = 1
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        process.close_all_but((2, sock.fileno()))
        from_shim = open(sock.fileno(), "rb", closefd=False)  # noqa: SIM115  # it ends with this process
        log: Log = open_log(plan, _compress_here)
        teller = _Teller(sock)
        first = log.follow(teller)
        if first >= 0:
            teller.rotated(first)
        _serve(from_shim, log, sock)
        code = 0
    except OSError as error:
        os.write(2, f"carrack: a log cannot be written: {error}\n".encode())
    finally:
        os._exit(code)


def _serve(from_shim: BinaryIO, log: Log, sock: _socket.socket) -> None:
    buffer = mmap(-1, _PIECE_BYTES)
    while len(head := from_shim.read(_HEAD.size)) == _HEAD.size:
        stream, length, now_nanoseconds = _HEAD.unpack(head)
        if not stream:
            log.flush(now_nanoseconds)
            sock.sendall(_FLUSHED)
            continue
        content = from_shim.read(length)
        buffer[: len(content)] = content
        log.write(stream, buffer, len(content), now_nanoseconds)
    log.close()


def _compress_here(source_fd: int, target: str, done: Callable[[bool], None]) -> None:
    """This process has time: what waits for it waits in the ring."""
    try:
        compress(source_fd, target)
    except OSError:
        done(False)
    else:
        done(True)

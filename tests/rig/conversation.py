"""Talking to a running program: over a pseudo-terminal (what a person at a keyboard has) or over pipes (what a script has).
Both are driven by the same words: expect a pattern, send text, wait for the end. Nothing sleeps: reads wait in select(2)."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

_READ_BYTES = 65536


class Conversation:
    """A program whose output is read as it comes. A subclass opens the descriptors.

    Owns the process and both descriptors; leaving the ``with`` block kills what still runs.
    """

    def __init__(self, process: subprocess.Popen[bytes], read_fd: int, write_fd: int) -> None:
        self.process = process
        self.seen = ""  # everything read so far, for messages
        self._unread = ""
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._at_end = False

    def expect(self, pattern: str, *, timeout_seconds: float = 15.0) -> re.Match[str]:
        """Read until the pattern appears in what is unread; what lies before and in it is then read."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            match = re.search(pattern, self._unread, re.MULTILINE)
            if match is not None:
                self._unread = self._unread[match.end() :]
                return match
            if self._at_end:
                raise AssertionError(f"the program ended before {pattern!r} came; it wrote:\n{self.seen}")
            if not self._read_some(deadline - time.monotonic()):
                raise AssertionError(f"no {pattern!r} within {timeout_seconds:g} s; the program wrote:\n{self.seen}")

    def silent_for(self, seconds: float) -> bool:
        """Whether the program writes nothing for so long."""
        before = len(self.seen)
        self._read_some(seconds)
        return len(self.seen) == before

    def send(self, text: str) -> None:
        """Write to the program's standard input."""
        os.write(self._write_fd, text.encode())

    def send_line(self, text: str) -> None:
        """Write a line, as the Enter key ends it."""
        self.send(text + "\n")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        self.process.send_signal(number)

    def wait(self, *, timeout_seconds: float = 20.0) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + timeout_seconds
        while not self._at_end:
            if not self._read_some(deadline - time.monotonic()):
                raise AssertionError(f"still running after {timeout_seconds:g} s; it wrote:\n{self.seen}")
        return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))

    def rest(self, *, timeout_seconds: float = 20.0) -> str:
        """Read to the end and return what had not been read before."""
        self.wait(timeout_seconds=timeout_seconds)
        text, self._unread = self._unread, ""
        return text

    def close(self) -> None:
        """Kill what still runs and give the descriptors back. May be called twice."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in {self._read_fd, self._write_fd} - {-1}:
            os.close(fd)
        self._read_fd = self._write_fd = -1

    def _read_some(self, seconds: float) -> bool:
        """Take in what comes first; False when the time is over, True also at the end of the output."""
        if self._at_end:
            return True
        readable, _, _ = select.select([self._read_fd], [], [], max(0.0, seconds))
        if not readable:
            return False
        try:
            chunk = os.read(self._read_fd, _READ_BYTES)
        except OSError:  # EIO: the last holder of the terminal's other end has gone
            chunk = b""
        if not chunk:
            self._at_end = True
            return True
        text = chunk.decode(errors="replace")
        self.seen += text
        self._unread += text
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Terminal(Conversation):
    """A program on a pseudo-terminal of its own, as its controlling terminal."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        master_fd, slave_fd = pty.openpty()
        _set_size(master_fd, rows, columns)
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=slave_fd,
                stdout=slave_fd,
                stderr=slave_fd,
                env=dict(env),
                start_new_session=True,
                preexec_fn=_take_terminal,  # noqa: PLW1509 - the tests start no threads
            )
        finally:
            os.close(slave_fd)
        super().__init__(process, master_fd, master_fd)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the kernel sends SIGWINCH to the program in front."""
        _set_size(self._read_fd, rows, columns)

    def modes(self) -> list[int]:
        """The terminal's local modes as termios has them (to see raw mode being put back)."""
        flags: int = termios.tcgetattr(self._read_fd)[3]
        return [flag for flag in (termios.ICANON, termios.ECHO, termios.ISIG) if flags & flag]


class Pipes(Conversation):
    """A program on pipes; standard error is merged into what is read unless told apart."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], merge_stderr: bool = True) -> None:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_stderr else subprocess.DEVNULL,
            env=dict(env),
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        read_fd, write_fd = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdin.close()
        process.stdout.close()
        super().__init__(process, read_fd, write_fd)

    def end_input(self) -> None:
        """Close the program's standard input."""
        os.close(self._write_fd)
        self._write_fd = -1


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

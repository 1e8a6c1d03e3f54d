"""The process's three standard streams: buffered output, the terminal's size and raw mode.

Text is UTF-8 whatever the locale; bytes that are no UTF-8 pass through unharmed. A reader that went away ends the process by
SIGPIPE, as it ends any other program of a pipeline (the connection to the daemon has no part in that).
"""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLUSH_BYTES = 32768


def fill_standard_streams() -> None:
    """Opens /dev/null where we were started without a standard stream, or the next socket would be taken for it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


class ReaderGone(Exception):
    """Nobody reads our output any more."""


class Output:
    """Standard output or error. Text is kept until `flush`, a full buffer, or, on a terminal, the end of a line."""

    __slots__ = ("_kept", "_kept_bytes", "_terminal", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._terminal: bool | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches."""
        if self._terminal is None:
            self._terminal = os.isatty(self.fd)
        return self._terminal

    def write(self, text: str) -> None:
        """Writes text."""
        self.write_bytes(text.encode("utf-8", "surrogateescape"))

    def line(self, text: str = "") -> None:
        """Writes text and a line break."""
        self.write(f"{text}\n")

    def write_bytes(self, data: bytes) -> None:
        """Writes bytes. Raises ReaderGone."""
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes >= FLUSH_BYTES or (self.is_terminal and data.endswith(b"\n")):
            self.flush()

    def flush(self) -> None:
        """Hands everything kept to the kernel. Raises ReaderGone."""
        if not self._kept:
            return
        data, self._kept, self._kept_bytes = b"".join(self._kept), [], 0
        write_all(self.fd, data)

    def size(self) -> tuple[int, int]:
        """(height, width) of the terminal; (0, 0) when this is none."""
        if not self.is_terminal:
            return 0, 0
        try:
            columns, lines = os.get_terminal_size(self.fd)
        except OSError:
            return 0, 0
        return lines, columns


def write_all(fd: int, data: bytes) -> None:
    """Writes all of `data`, waiting when the descriptor is not blocking. Raises ReaderGone, CommandFailure (a full disk)."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            _wait_writable(fd)
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            name = {1: "/dev/stdout", 2: "/dev/stderr"}.get(fd, "file")
            raise CommandFailure(f"write {name}: {(error.strerror or str(error)).lower()}") from None


def _wait_writable(fd: int) -> None:
    import select

    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    poller.poll()


class Input:
    """Standard input: its terminal, if it has one, and raw mode with its way back."""

    __slots__ = ("_saved", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved: list[Any] | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person types."""
        return os.isatty(self.fd)

    def read(self, size: int) -> bytes:
        """What is there now, at least one byte, or empty at the end."""
        try:
            return os.read(self.fd, size)
        except OSError:
            return b""  # a terminal that hung up reads as an error: there is no more input either way

    def read_all(self) -> bytes:
        """Everything up to the end."""
        pieces: list[bytes] = []
        while True:
            data = self.read(65536)
            if not data:
                return b"".join(pieces)
            pieces.append(data)

    def set_raw(self) -> None:
        """Passes every key to the container: no echo, no line editing, no signals. Nothing happens without a terminal."""
        if self._saved is not None or not self.is_terminal or os.environ.get("NORAW"):
            return
        import termios

        mode = termios.tcgetattr(self.fd)
        self._saved = list(mode)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6] = [*mode[6]]
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)

    def restore(self) -> None:
        """Puts the terminal back as it was; safe to call again."""
        if self._saved is None:
            return
        import termios

        saved, self._saved = self._saved, None
        termios.tcsetattr(self.fd, termios.TCSANOW, saved)

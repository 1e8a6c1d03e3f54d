"""An attached container or exec: keys in, output out, signals and the terminal's size passed on, in one `select` loop.

No thread: input waits in a buffer of one read while the daemon takes no more, so that a container that prints before it reads
cannot lock us. The terminal is raw while the loop runs and put back on every way out of it.
"""

from __future__ import annotations

from select import select

from carrack.cli.console import write_all
from carrack.cli.failure import CommandFailure, ExitWith
from carrack.client.failure import ConnectionFailed
from carrack.client.frames import STDERR, SYSTEM_ERROR, FrameReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from carrack.cli.session import Session
    from carrack.cli.signals import SignalWatch
    from carrack.client.engine import Hijacked, Response

READ_BYTES = 32768
DEFAULT_DETACH_KEYS = b"\x10\x11"
RESIZE_TRIES = 10
RESIZE_PAUSE_SECONDS = 0.01


def read_detach_keys(text: str) -> bytes:
    """The bytes of a key sequence (`ctrl-p,ctrl-q`, `a,b`). Raises ValueError."""
    keys = bytearray()
    for part in text.split(","):
        if len(part) == 1:
            keys += part.encode()
            continue
        name, dash, key = part.partition("-")
        if name != "ctrl" or not dash or len(key) != 1:
            raise ValueError(f"Unknown character: '{part}'")
        position = "@abcdefghijklmnopqrstuvwxyz[\\]^_".find(key)
        if position == -1:
            raise ValueError(f"Unknown character: '{part}'")
        keys.append(position)
    return bytes(keys)


class DetachKeys:
    """Watches typed bytes for the detach sequence; a sequence begun is held back until it ends one way or the other."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0
        self.found = False

    def pass_on(self, typed: bytes) -> bytes:
        """The bytes that are the container's. After the whole sequence `found` is true."""
        if not self._keys:
            return typed
        passed = bytearray()
        for byte in typed:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self.found = True
                    return bytes(passed)
            else:
                passed += self._keys[: self._matched]
                passed.append(byte)
                self._matched = 0
        return bytes(passed)


class Attachment:
    """One hijacked connection and the terminal in front of it."""

    def __init__(
        self,
        session: Session,
        hijacked: Hijacked,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        keys: str = "",
    ) -> None:
        self.session = session
        self.connection = hijacked.connection
        self.tty = tty
        self.has_output = stdout or stderr
        self.detached = False
        self.status: int | None = None
        self._stdout, self._stderr = stdout, stderr
        self._input_open = stdin
        self._unsent = b""
        self._output_open = True
        self._frames = None if tty and stdout else FrameReader()
        self._keys: DetachKeys | None = None
        self._resize_tries = 0
        self._resize: Callable[[int, int], bool] | None = None
        if tty and stdin:
            self._keys = DetachKeys(self._chosen_keys(keys))

    def _chosen_keys(self, text: str) -> bytes:
        if not text:
            return DEFAULT_DETACH_KEYS
        try:
            return read_detach_keys(text)
        except ValueError as error:
            self.session.err.line(f"invalid detach escape keys, using default: {error}")
            return DEFAULT_DETACH_KEYS

    def prepare(self) -> None:
        """Makes the terminal raw, or tells the container that no input comes. Called before it starts."""
        if self._keys is not None:
            self.session.input.set_raw()
        if not self._input_open:
            self.connection.half_close()

    def run(
        self,
        *,
        waiting: Response | None = None,
        signals: SignalWatch | None = None,
        resize: Callable[[int, int], bool] | None = None,
    ) -> None:
        """Copies until the output ends, the keys say detach, or (without output) the input ends; `waiting` gives `status`.

        Raises ReaderGone, ConnectionFailed.
        """
        self._resize = resize
        self.session.out.flush()
        self.session.err.flush()
        if resize:
            self._resize_tries = RESIZE_TRIES
            self._try_resize()
        try:
            while self._output_open and not self.detached:
                self._step(waiting, signals)
                if not self.has_output and (self.status is not None or not (self._input_open or self._unsent)):
                    break
        finally:
            self.session.input.restore()

    def _step(self, waiting: Response | None, signals: SignalWatch | None) -> None:
        readers: list[int] = [self.connection.fileno()]
        if self._input_open and not self._unsent:
            readers.append(self.session.input.fd)
        if waiting is not None and self.status is None:
            readers.append(waiting.body.fileno())
        if signals is not None:
            readers.append(signals.fileno())
        writers = [self.connection.fileno()] if self._unsent else []
        pause = RESIZE_PAUSE_SECONDS * (RESIZE_TRIES + 1 - self._resize_tries) if self._resize_tries else None
        if self.connection.buffered:
            readable, writable = [self.connection.fileno()], writers
        else:
            readable, writable, _ = select(readers, writers, [], pause)
        if not readable and not writable and self._resize_tries:
            self._try_resize()
        if signals is not None and signals.fileno() in readable and signals.forward():
            self._try_resize()
        if writable:
            self._send()
        if self.session.input.fd in readable and self._input_open and not self._unsent:
            self._read_input()
        if self.connection.fileno() in readable:
            self._read_output()
        if waiting is not None and self.status is None and waiting.body.fileno() in readable:
            self.status = read_status(self.session, waiting)

    def _read_input(self) -> None:
        typed = self.session.input.read(READ_BYTES)
        if typed:
            if self._keys is not None:
                typed = self._keys.pass_on(typed)
                self.detached = self._keys.found
            self._unsent = typed
            if typed:
                self._send()
            return
        self._input_open = False
        self.session.input.restore()
        self.connection.half_close()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self.connection.send_some(self._unsent) :]
        except ConnectionFailed:
            self._unsent = b""  # the container is gone: its output, still on the way, says more than this error
            self._input_open = False

    def _read_output(self) -> None:
        try:
            data = self.connection.receive()
        except ConnectionFailed:
            data = b""
        if not data:
            self._output_open = False
            return
        if self._frames is None:
            write_all(1, data)
            return
        for stream, piece in self._frames.feed(data):
            if stream == SYSTEM_ERROR:
                raise CommandFailure(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
            if stream == STDERR and self._stderr:
                write_all(1 if self.tty else 2, piece)
            elif stream != STDERR and self._stdout:
                write_all(1, piece)

    def _try_resize(self) -> None:
        if self._resize is None:
            return
        height, width = self.session.out.size()
        if (height == 0 and width == 0) or self._resize(height, width):
            self._resize_tries = 0
        elif self._resize_tries:
            self._resize_tries -= 1
            if not self._resize_tries:
                self.session.err.line("failed to resize tty, using default size")

    def close(self) -> None:
        """Puts the terminal back and lets the connection go."""
        self.session.input.restore()
        self.connection.close()


def read_status(session: Session, waiting: Response, *, quiet: bool = False) -> int:
    """The exit status that POST …/wait answers with; 125 when it cannot be learnt, which is said unless `quiet`."""
    problem = ""
    answer: dict[str, Any] = {}
    try:
        answer = next(iter(waiting.documents()), {})
        if not answer:
            problem = "error waiting for container: unexpected EOF"
    except ConnectionFailed as error:
        problem = f"error waiting for container: {error}"
    if answer.get("Error"):
        problem = f"Error waiting for container: {answer['Error'].get('Message', '')}"
    if problem:
        if not quiet:
            session.err.line(problem)
        return 125
    return int(answer.get("StatusCode") or 0)


def await_status(session: Session, waiting: Response, signals: SignalWatch | None, *, quiet: bool = False) -> int:
    """Waits for the exit status alone, passing signals on meanwhile."""
    while signals is not None:
        readable, _, _ = select([waiting.body.fileno(), signals.fileno()], [], [])
        if signals.fileno() in readable:
            signals.forward()
        if waiting.body.fileno() in readable:
            break
    return read_status(session, waiting, quiet=quiet)


def check_terminal(session: Session, *, attach_stdin: bool, tty: bool) -> None:
    """Refuses a container's terminal without one of ours to show it in."""
    if tty and attach_stdin and not session.input.is_terminal:
        raise CommandFailure("the input device is not a TTY")


def exit_with(status: int) -> None:
    """Ends the program with the container's status, unless that is 0."""
    if status:
        raise ExitWith(status)


def resizer(session: Session, path: str) -> Callable[[int, int], bool]:
    """A function that tells the daemon a terminal's size, on a connection of its own; false when it was refused."""
    from carrack.errors import CarrackError

    engine = session.new_engine()

    def resize(height: int, width: int) -> bool:
        try:
            engine.order("POST", path, {"h": str(height), "w": str(width)})
        except CarrackError:
            return False
        return True

    return resize

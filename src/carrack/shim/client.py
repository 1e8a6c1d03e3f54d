"""One client of a process's streams: its options, its input with the detach keys, its output framed or raw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from carrack.kernel.loop import READ
from carrack.shim.detach import DetachKeys
from carrack.shim.framing import STDERR, STDOUT, frame_header
from carrack.shim.messages import Attach
from carrack.shim.outgoing import Outgoing

if TYPE_CHECKING:
    from typing import Protocol

    class ProcessStreams(Protocol):
        """The process's side, as its client sees it: `streams.Streams`."""

        is_terminal: bool

        @property
        def takes_input(self) -> bool:
            """Whether its standard input is open."""

        @property
        def input_is_full(self) -> bool:
            """Whether more waits to be written to it than is good."""

        def write_input(self, content: bytes) -> None: ...
        def client_input_ended(self, client: AttachedClient) -> None: ...
        def client_relieved(self) -> None: ...
        def remove(self, client: AttachedClient) -> None: ...
        def detached(self) -> None:
            """A client has left by its detach keys."""


_READ_BYTES = 32 * 1024


class AttachedClient:
    """A client, from its arrival until its socket is closed."""

    def __init__(self, options: Attach, enter: Callable[[Callable[[], None]], Outgoing], *, owns_stream: bool) -> None:
        """`owns_stream`: the process waits for this client when it is slow; another is dropped then.

        `enter` gives the client's socket as an Outgoing, when told what to call at its end.
        """
        self.options = options
        self.owns_stream = owns_stream
        self.on_gone: Callable[[], None] = lambda: None
        self.on_relieved: Callable[[], None] = lambda: None
        self._streams: ProcessStreams | None = None
        self._wants_input = options.stdin
        self._keys = DetachKeys(b"")
        self._reading = False
        self.live = not options.replay_logs
        """Gets output as it is read; not yet while the log is replayed to it."""
        self.outgoing = enter(self._gone)
        self.outgoing.on_input = self._input
        self.outgoing.wants_input = lambda: self._wants_input
        self.outgoing.on_relieved = self._relieved

    @property
    def is_full(self) -> bool:
        return self.live and self.outgoing.is_full

    @property
    def framed(self) -> bool:
        """Whether output is framed for it (stdcopy), or raw."""
        if self.options.framing:
            return self.options.framing == "framed"
        return self._streams is None or not self._streams.is_terminal

    def join(self, streams: ProcessStreams) -> None:
        """Called by the streams that the client was added to."""
        self._streams = streams
        if not self._wants_input:
            return
        if streams.is_terminal:
            self._keys = DetachKeys(self.options.detach_keys)
        if self.options.head:
            self._take(self.options.head)
        if self.options.end_of_input and self._wants_input:
            self._input_ended()
        self.resume_input()

    def output(self, stream: int, content: bytes | memoryview) -> None:
        """Send a piece of output, if the client asked for that stream."""
        if not self.live or not (self.options.stdout if stream == STDOUT else self.options.stderr and stream == STDERR):
            return
        if self.framed:
            self.outgoing.write(frame_header(stream, len(content)), content)
        else:
            self.outgoing.write(content)
        if self.outgoing.is_full and not self.owns_stream:
            self.outgoing.close()

    def finish(self) -> None:
        """No more output: close once everything queued is written."""
        self._stop_reading()
        self.outgoing.finish()

    def let_go(self) -> None:
        """Give the connection back to the daemon that handed it over."""
        self._stop_reading()
        self.outgoing.let_go()

    def resume_input(self) -> None:
        """The process takes input (again)."""
        streams = self._streams
        if streams is None or not self._wants_input or self.outgoing.closed:
            return
        if not streams.takes_input:
            self._stop_reading()
        elif not self._reading and not streams.input_is_full:
            self._reading = True
            self.outgoing.listen_to(READ)

    def _input(self) -> None:
        content = self.outgoing.receive(_READ_BYTES)
        if content is None:
            return
        if content:
            self._take(content)
        else:
            self._input_ended()

    def _take(self, content: bytes) -> None:
        streams = self._streams
        if streams is None:
            return
        passed, detached = self._keys.feed(content)
        streams.write_input(passed)
        if detached:
            self._stop_reading()
            streams.detached()
            self.finish()
        elif streams.input_is_full or not streams.takes_input:
            self._pause_reading()

    def _input_ended(self) -> None:
        self._stop_reading()
        if self._streams is not None:
            self._streams.write_input(self._keys.rest())
            self._streams.client_input_ended(self)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.outgoing.listen_to(0)

    def _stop_reading(self) -> None:
        self._wants_input = False
        self._pause_reading()

    def _relieved(self) -> None:
        self.on_relieved()
        if self._streams is not None:
            self._streams.client_relieved()

    def _gone(self) -> None:
        streams = self._streams
        if streams is not None:
            if self._wants_input:
                self._wants_input = False
                streams.client_input_ended(self)
            streams.remove(self)
        self.on_gone()

"""The clients of a container, whose own sockets were handed to the shim: they attach, follow the log, or wait."""

from __future__ import annotations

from collections.abc import Callable

from carrack.errors import Conflict
from carrack.kernel.loop import Loop
from carrack.shim.client import AttachedClient
from carrack.shim.follow import LogFeed, LogFollower
from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.logs.record import LogRequest, Rendering
from carrack.shim.messages import Attach, FollowLogs, LogPlan
from carrack.shim.outgoing import Outgoing
from carrack.shim.streams import Streams
from carrack.shim.waiters import Waiters


class Guests:
    """Everyone who holds a socket of their own. The shim stays until each has what is theirs."""

    def __init__(self, loop: Loop, plan: LogPlan) -> None:
        self._loop = loop
        self._plan = plan
        self._sockets: set[Outgoing] = set()
        self._followers: set[LogFollower] = set()
        self._over = False
        self.waiters = Waiters(self.enter)
        self.on_empty: Callable[[], None] = lambda: None

    @property
    def empty(self) -> bool:
        return not self._sockets

    @property
    def only_wait(self) -> bool:
        """Whether nobody is there but those who wait for the end."""
        return len(self._sockets) == len(self.waiters.at_rest)

    def enter(self, sock_fd: int, on_gone: Callable[[], None] = lambda: None) -> Outgoing:
        """Take a client's socket into account."""

        def gone() -> None:
            self._sockets.discard(outgoing)
            on_gone()
            if not self._sockets:
                self.on_empty()

        outgoing = Outgoing(self._loop, sock_fd, gone)
        self._sockets.add(outgoing)
        return outgoing

    def client(self, options: Attach, sock_fd: int, *, owns_stream: bool) -> AttachedClient:
        """A client of some process's streams, not yet joined to them."""
        return AttachedClient(options, lambda on_gone: self.enter(sock_fd, on_gone), owns_stream=owns_stream)

    def attach(self, streams: Streams, options: Attach, sock_fd: int, *, owns_stream: bool) -> None:
        """Join a client with the container's streams, after the log if it wants that first.

        Raises InvalidParameter when the log cannot be read, Conflict when the container has ended; the socket is closed then.
        """
        client = self.client(options, sock_fd, owns_stream=owns_stream)
        try:
            if self._over:
                raise Conflict("the container has exited")
            if options.replay_logs:
                self._replay(streams, client)
        except BaseException:
            client.finish()
            raise
        if options.stream or options.replay_logs:
            streams.add(client)
        else:
            client.finish()

    def follow(self, streams: Streams, order: FollowLogs, sock_fd: int) -> None:
        """Begin to write the log to a client. Raises InvalidParameter when it cannot be read; the socket is closed then."""
        follower = LogFollower(
            self._loop,
            streams.log,
            self._plan,
            order,
            lambda on_gone: self.enter(sock_fd, on_gone),
            framed=not streams.is_terminal,
            on_gone=self._followers.discard,
        )
        self._followers.add(follower)
        if self._over:
            follower.end()

    def stop_following(self) -> None:
        """No more will be logged."""
        self._over = True
        for follower in tuple(self._followers):
            follower.end()

    def _replay(self, streams: Streams, client: AttachedClient) -> None:
        options = client.options
        request = LogRequest(options.stdout, options.stderr)
        how = Rendering(framed=not streams.is_terminal)
        feed = LogFeed(self._loop, streams.log, self._plan, request, how, client.outgoing)

        def caught_up() -> None:
            feed.close()
            client.on_gone = lambda: None
            client.live = True
            for stream in (STDOUT, STDERR):
                if held := streams.log.held(stream):
                    client.output(stream, held)
            if not options.stream:
                client.finish()

        feed.on_caught_up = caught_up
        client.on_gone = feed.close
        client.on_relieved = feed.pump

"""What happened, told to whoever listens: Docker's events, with the last 256 kept for those who ask for the past."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from carrack.engine.filters import Filters

KEPT = 256
QUEUE_LIMIT = 1024
"""Events that wait for one slow listener; the oldest go first when there are more, so memory is bounded."""

FILTERS = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
)  # fmt: skip


class Event(msgspec.Struct, frozen=True):
    """One thing that happened to one object."""

    type: str
    """container, image, network, volume, daemon, builder, …"""
    action: str
    """start, die, exec_create: /bin/sh, …"""
    actor_id: str
    attributes: dict[str, str]
    time_nanoseconds: int
    scope: str = "local"


class Events:
    """The hub. `emit` may be called from any thread; everything else on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._listeners: set[Subscription] = set()
        self.told = 0
        """How many events there were."""

    @property
    def listener_count(self) -> int:
        return len(self._listeners)

    def emit(self, type: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Tell every listener."""
        event = Event(type, action, actor_id, dict(attributes), time.time_ns())
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._deliver(event)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, event)

    def subscribe(self, filters: Filters, since_nanoseconds: int = 0, until_nanoseconds: int = 0) -> Subscription:
        """Events from `since` (0: from now) up to `until` (0: without end); listening begins with this call.

        The caller closes the subscription (`aclose`) when it leaves.
        """
        past: list[Event] = []
        if since_nanoseconds or until_nanoseconds:
            last = until_nanoseconds or time.time_ns()
            past = [e for e in self._past if since_nanoseconds <= e.time_nanoseconds <= last]
        subscription = Subscription(self._listeners, filters, past, until_nanoseconds)
        self._listeners.add(subscription)
        return subscription

    def _deliver(self, event: Event) -> None:
        self._past.append(event)
        self.told += 1
        for listener in self._listeners:
            listener.put(event)


class Subscription:
    """One listener: an asynchronous iterator over the events it asked for, with a bounded queue."""

    def __init__(self, listeners: set[Subscription], filters: Filters, past: Iterable[Event], until_nanoseconds: int) -> None:
        self._listeners = listeners
        self._filters = filters
        self._until = until_nanoseconds
        self._queue: deque[Event] = deque(past, maxlen=QUEUE_LIMIT)
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        """Have an event come to this listener."""
        self._queue.append(event)
        self._arrived.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = await self._next()
            if event is None or (self._until and event.time_nanoseconds > self._until):
                await self.aclose()
                raise StopAsyncIteration
            if matches(event, self._filters):
                return event

    async def aclose(self) -> None:
        """Stop listening. May be called more than once."""
        self._listeners.discard(self)

    async def _next(self) -> Event | None:
        while not self._queue:
            remaining = None
            if self._until and (remaining := (self._until - time.time_ns()) / 1e9) <= 0:
                return None
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), remaining)
            except TimeoutError:
                return None
        return self._queue.popleft()


def matches(event: Event, filters: Filters) -> bool:
    """Docker's rules: alternatives within a name, all names together; objects by id, id prefix or name."""
    if filters.get("type") and event.type not in filters.get("type"):
        return False
    if filters.get("event"):
        action = event.action.partition(":")[0]
        if event.action not in filters.get("event") and action not in filters.get("event"):
            return False
    if filters.get("scope") and event.scope not in filters.get("scope"):
        return False
    if not filters.matches_labels(event.attributes):
        return False
    for noun in ("container", "image", "network", "volume", "daemon", "plugin", "service", "node", "secret", "config"):
        wanted = filters.get(noun)
        if wanted and not _is_about(event, noun, wanted):
            return False
    return True


def _is_about(event: Event, noun: str, wanted: tuple[str, ...]) -> bool:
    if noun == "image" and event.type == "container":
        names = {event.attributes.get("image", "")}
    elif event.type == noun:
        names = {event.actor_id, event.attributes.get("name", "")}
    else:
        return False
    for want in wanted:
        bare = want.removeprefix("/")
        if bare in names or any(name.startswith(bare) for name in names if name and noun != "image"):
            return True
        if noun == "image" and any(name.partition(":")[0] == bare for name in names):
            return True
    return False

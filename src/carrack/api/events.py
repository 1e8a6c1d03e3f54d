"""GET /events: what happened, one document after another, for as long as the client listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from carrack.api import json_streams
from carrack.api.json import encode
from carrack.api.moments import parse_timestamp
from carrack.api.router import Route
from carrack.api.versions import at_least
from carrack.engine.events import FILTERS, Event
from carrack.engine.filters import Filters
from carrack.errors import InvalidParameter
from carrack.http import Request, StreamResponse


class EventStream(Protocol):
    """One listener's view, `engine.events.Subscription`: ends by itself at `until`."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def aclose(self) -> None: ...


class EventsBackend(Protocol):
    """What the engine offers: `engine.events.Events`. Listening begins with the call; times are nanoseconds since 1970, 0: none."""

    def subscribe(self, filters: Filters, since_nanoseconds: int = 0, until_nanoseconds: int = 0) -> EventStream: ...


def routes(backend: EventsBackend) -> list[Route]:
    """The one route."""

    async def events(request: Request) -> StreamResponse:
        query = request.query
        since, until = parse_timestamp(query.get("since"), "since"), parse_timestamp(query.get("until"), "until")
        if until and until < since:
            raise InvalidParameter(f"`since` time ({query.get('since')}) cannot be after `until` time ({query.get('until')})")
        filters = Filters.parse(query.get("filters")).accept(*FILTERS)
        content_type = json_streams.asked(
            request, json_streams.JSON_LINES if at_least(request.version, "1.52") else json_streams.JSON
        )
        stream = backend.subscribe(filters, since, until)
        shown = EventDocuments(stream, request.version, json_streams.encoder(content_type))
        return StreamResponse(200, shown, {"Content-Type": content_type}, endless=True)

    return [Route("GET", "/events", events)]


def event_json(event: Event, version: str) -> dict[str, object]:
    """One event as Docker writes it; up to 1.51 those of containers and images repeat themselves in the fields of 1.21."""
    document: dict[str, object] = {}
    if event.type in ("container", "image") and not at_least(version, "1.52"):
        document = {"status": event.action, "id": event.actor_id}
        if event.type == "container" and event.attributes.get("image"):
            document["from"] = event.attributes["image"]
    return document | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": event.attributes},
        "scope": event.scope,
        "time": event.time_nanoseconds // 10**9,
        "timeNano": event.time_nanoseconds,
    }


class EventDocuments:
    """The listener's view as bytes. A class, so that closing it before the first step ends the listening, too."""

    def __init__(self, stream: EventStream, version: str, encode: json_streams.Encode = encode) -> None:
        self._stream = stream
        self._encode = encode
        self._events = aiter(stream)
        self._version = version

    def __aiter__(self) -> EventDocuments:
        return self

    async def __anext__(self) -> bytes:
        while True:
            event = await anext(self._events)
            if event.type == "image" and event.action == "create" and not at_least(self._version, "1.46"):
                continue
            return self._encode(event_json(event, self._version))

    async def aclose(self) -> None:
        await self._stream.aclose()

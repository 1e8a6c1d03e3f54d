"""A build's events as BuildKit's status: what buildx shows, in its plain and its redrawn form."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

from carrack.api.build_events import in_words
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from carrack.build.progress import (
    Event,
    Told,
    VertexCompleted,
    VertexLog,
    VertexMiss,
    VertexStarted,
    VertexStatus,
    Warned,
)

_LOG_LIMIT_BYTES = 8 << 20
"""How much output of steps waits for a client that reads slowly; what comes then is left out, and that is said."""
_BATCH_BYTES = 1 << 20
_CLIPPED = b"[output clipped: the client reads too slowly]\n"


class StatusFeed:
    """One build's events, for one reader who may come late. Lives on the event loop; `tell` may be called from any thread."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._loop = asyncio.get_running_loop()
        self._waiting: list[wire.StatusResponse] = []
        self._changed = asyncio.Event()
        self._ended = False
        self._log_bytes = 0
        self._clipped = False
        self._vertices: dict[str, wire.Vertex] = {}
        self._statuses: dict[tuple[str, str], wire.Moment] = {}
        self._last = ""
        """The vertex that a word about the whole build is shown with."""
        self.dockerfile = wire.SourceInfo()

    def tell(self, event: Event) -> None:
        """Take an event."""
        self._loop.call_soon_threadsafe(self._take, event)

    def end(self) -> None:
        """No more will come, behind what was told before."""
        self._loop.call_soon(self._end)

    async def responses(self) -> AsyncIterator[wire.StatusResponse]:
        """What is told, from now on and what nobody has read yet, to the end."""
        while True:
            while self._waiting:
                batch = wire.StatusResponse()
                size = 0
                while self._waiting and size < _BATCH_BYTES:
                    each = self._waiting.pop(0)
                    size += each.ByteSize()
                    self._log_bytes -= sum(len(log.msg) for log in each.logs)
                    batch.MergeFrom(each)
                yield batch
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()

    def _take(self, event: Event) -> None:
        response = self._response(event)
        if response is not None:
            self._waiting.append(response)
            self._changed.set()

    def _response(self, event: Event) -> wire.StatusResponse | None:
        match event:
            case VertexStarted():
                vertex = self._vertex(event.vertex)
                vertex.name = event.name
                vertex.inputs[:] = [self._digest(each) for each in event.inputs]
                vertex.started.CopyFrom(moment(event.started_nanoseconds))
                self._last = vertex.digest
                return wire.StatusResponse(vertexes=[vertex])
            case VertexCompleted():
                vertex = self._vertex(event.vertex)
                if not vertex.HasField("started"):
                    vertex.started.CopyFrom(moment(event.completed_nanoseconds))
                vertex.completed.CopyFrom(moment(event.completed_nanoseconds))
                vertex.cached = event.cached
                vertex.error = in_words(event.error)
                return wire.StatusResponse(vertexes=[vertex])
            case VertexStatus():
                return self._status(event)
            case VertexLog():
                return self._log(event.vertex, event.stream, event.data, event.moment_nanoseconds)
            case VertexMiss():
                return None
            case Warned():
                return wire.StatusResponse(warnings=[self._warning(event)])
            case Told(text=text):
                return self._said(text)
        return None

    def _vertex(self, name: str) -> wire.Vertex:
        digest = self._digest(name)
        return self._vertices.setdefault(digest, wire.Vertex(digest=digest, name=name))

    def _digest(self, name: str) -> str:
        """The vertex's name as clients want one: a digest."""
        if name.startswith("sha256:"):
            return name
        return f"sha256:{hashlib.sha256(f'{self._reference} {name}'.encode()).hexdigest()}"

    def _status(self, event: VertexStatus) -> wire.StatusResponse | None:
        """A part of a step. Of a transfer the numbers say more than its words, which come for every layer again."""
        if not (event.total or event.current or event.completed):
            return None
        digest = self._digest(event.vertex)
        name = event.id if (event.total or event.current) and event.id else event.text or event.id
        if event.text == "Extracting":
            name = f"extracting {name}"
        now = moment(time.time_ns())
        started = self._statuses.setdefault((digest, name), now)
        done = event.completed or (event.total > 0 and event.current >= event.total)
        status = wire.VertexStatus(ID=name, vertex=digest, current=event.current, total=event.total, timestamp=now, started=started)
        if done:
            status.completed.CopyFrom(now)
        return wire.StatusResponse(statuses=[status])

    def _log(self, vertex: str, stream: int, data: bytes, nanoseconds: int) -> wire.StatusResponse | None:
        if self._log_bytes + len(data) > _LOG_LIMIT_BYTES:
            if self._clipped:
                return None
            data = _CLIPPED
        self._clipped = data is _CLIPPED
        self._log_bytes += len(data)
        log = wire.VertexLog(vertex=self._digest(vertex), timestamp=moment(nanoseconds or time.time_ns()), stream=stream, msg=data)
        return wire.StatusResponse(logs=[log])

    def _warning(self, event: Warned) -> wire.VertexWarning:
        place = wire.Range(start=wire.Position(line=event.line), end=wire.Position(line=event.last_line or event.line))
        short = f"{event.rule}: {event.message}" + (f" (line {event.line})" if event.line else "")
        return wire.VertexWarning(
            vertex=self._last,
            level=1,
            short=short.encode(),
            detail=[each.encode() for each in event.detail],
            url=event.url,
            info=self.dockerfile,
            ranges=[place] if event.line else [],
        )

    def _said(self, text: str) -> wire.StatusResponse | None:
        if not self._last:
            return None
        if text.startswith("[Warning] "):
            short = text.removeprefix("[Warning] ").encode()
            return wire.StatusResponse(warnings=[wire.VertexWarning(vertex=self._last, level=1, short=short)])
        return self._log(self._last, 1, f"{text}\n".encode(), 0)


def moment(nanoseconds: int) -> wire.Moment:
    """Nanoseconds since the epoch, as the protocol has them."""
    return wire.Moment(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)

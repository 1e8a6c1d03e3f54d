"""Prunes, with their report at the end or, since 1.56 with `stream=true`, told while they go on.

A streamed prune is JSON lines: ``{"status": "Deleted", "id": …}`` for each thing that is gone, and last ``{"aux": REPORT}``, or
``{"errorDetail": …}``. What was begun goes on to its end, whether or not the client still listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from carrack.api import json_streams
from carrack.api.json import reply
from carrack.api.versions import at_least
from carrack.errors import CarrackError
from carrack.http import Reply, Request, StreamResponse

Tell = Callable[[str], None]
Work = Callable[[Tell], Awaitable[object]]
"""Does the prune and gives its report; tells of each thing that is gone. `tell` may be called from any thread."""

_going: set[asyncio.Task[None]] = set()


async def prune(request: Request, work: Work) -> Reply:
    """Answer a prune in the form that was asked for."""
    if not (at_least(request.version, "1.56") and request.query.flag("stream")):
        return reply(await work(lambda gone: None))
    content_type = json_streams.asked(request, json_streams.JSON_LINES)
    return StreamResponse(200, _Lines(work, json_streams.encoder(content_type)), {"Content-Type": content_type})


def _gone(what: str) -> dict[str, object]:
    return {"status": "Deleted", "id": what}


class _Lines(AsyncIterator[bytes]):
    """A prune under way, as lines."""

    def __init__(self, work: Work, encode: json_streams.Encode) -> None:
        self._encode = encode
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()
        task = asyncio.create_task(self._run(work))
        _going.add(task)
        task.add_done_callback(_going.discard)

    async def _run(self, work: Work) -> None:
        try:
            report = await work(self._tell)
        except CarrackError as error:
            self._last({"errorDetail": {"message": error.message}})
        else:
            self._last({"aux": report})
        finally:
            self._loop.call_soon(self._put, None)  # behind what threads have told

    def _tell(self, gone: str) -> None:
        self._loop.call_soon_threadsafe(self._put, _gone(gone))

    def _last(self, line: dict[str, object]) -> None:
        self._loop.call_soon(self._put, line)

    def _put(self, line: dict[str, object] | None) -> None:
        self._lines.put_nowait(line)

    async def __anext__(self) -> bytes:
        line = await self._lines.get()
        if line is None:
            raise StopAsyncIteration
        return self._encode(line)

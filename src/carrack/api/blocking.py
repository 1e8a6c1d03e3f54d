"""The one crossing between the event loop and threads: the floors below block, the API does not.

Work runs in the engine's pool of threads. A cancelled caller leaves at once; the thread finishes its
piece of work, so anything that must be undone is undone there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator

from carrack.engine.threads import in_thread
from carrack.engine.threads import stream_from_thread as in_steps
from carrack.errors import Cancelled

__all__ = ["BlockingReader", "in_steps", "in_thread"]


class BlockingReader(Iterator[bytes]):
    """A request's body for a thread: a blocking iterator over pieces that arrive on the loop, taken only as fast as they are read.

    Made on the loop, iterated in a thread. What the body raises is raised there; Cancelled when the daemon ends.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()

    def __iter__(self) -> BlockingReader:
        return self

    def __next__(self) -> bytes:
        try:
            piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        except concurrent.futures.CancelledError:
            raise Cancelled("the daemon is ending") from None
        if piece is None:
            raise StopIteration
        return piece

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)

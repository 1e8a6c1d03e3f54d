"""The crossings between the event loop and threads that the API needs: the floors below block, the API does not.

Short work runs in the engine's pool (`in_thread`). What goes on for as long as a client likes, such as an upload that is read while
it comes, has a thread of its own (`in_steps`): sixteen slow clients must not stop the daemon.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from carrack.engine.threads import in_thread
from carrack.errors import Cancelled

__all__ = ["BlockingReader", "in_own_thread", "in_steps", "in_thread"]

P = ParamSpec("P")
T = TypeVar("T")
_END = object()


async def in_own_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run what may take as long as its client likes, in a thread of its own; its exceptions are raised here."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="carrackd-long")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, lambda: function(*args, **kwargs))
    finally:
        thread.shutdown(wait=False)


async def in_steps(items: Iterator[T]) -> AsyncIterator[T]:
    """A blocking iterator as an asynchronous one, each step in one thread; closed there when the reader leaves early."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="carrackd-stream")
    loop = asyncio.get_running_loop()
    step: asyncio.Future[object] | None = None
    try:
        while True:
            step = loop.run_in_executor(thread, next, items, _END)
            step.add_done_callback(_look)
            item = await asyncio.shield(step)
            if item is _END:
                return
            yield item  # type: ignore[misc]  # the sentinel is excluded above
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            # behind the step that may still run there: a generator cannot be closed while it does
            closing = loop.run_in_executor(thread, close)
            closing.add_done_callback(_look)
            if step is None or step.done():
                await closing
        thread.shutdown(wait=False)


def _look(done: asyncio.Future[object]) -> None:
    """What a step raises after its reader has left is nobody's."""
    if not done.cancelled():
        done.exception()


class BlockingReader(Iterator[bytes]):
    """A request's body for a thread: a blocking iterator over pieces that arrive on the loop, taken only as fast as they are read.

    Made on the loop (or told of it), iterated in a thread. What the body raises is raised there; Cancelled when the daemon ends.
    """

    def __init__(self, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._pieces = pieces
        self._loop = loop or asyncio.get_running_loop()

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

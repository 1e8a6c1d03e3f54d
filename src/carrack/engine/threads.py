"""The one crossing from the event loop to blocking code: a bounded pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_END = object()

THREADS = 16
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="carrackd")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in the pool; its exceptions are raised here."""
    loop = asyncio.get_running_loop()
    if kwargs:
        return await loop.run_in_executor(_pool, lambda: function(*args, **kwargs))
    return await loop.run_in_executor(_pool, function, *args)


async def stream_from_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """A blocking iterator as an asynchronous one: each step in the pool, closed there when the reader leaves early."""
    step: asyncio.Future[object] | None = None
    try:
        while True:
            step = asyncio.ensure_future(in_thread(next, items, _END))
            item = await asyncio.shield(step)
            if item is _END:
                return
            yield item  # type: ignore[misc]  # the sentinel is excluded above
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            if step is not None and not step.done():
                # a generator cannot be closed while it runs: after its present step
                step.add_done_callback(lambda _: asyncio.ensure_future(in_thread(close)))
            else:
                await in_thread(close)

"""The one crossing from the event loop to blocking code: a bounded pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="carrackd")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in the pool; its exceptions are raised here."""
    loop = asyncio.get_running_loop()
    if kwargs:
        return await loop.run_in_executor(_pool, lambda: function(*args, **kwargs))
    return await loop.run_in_executor(_pool, function, *args)


async def stream_from_thread(items: Iterator[T]) -> AsyncIterator[T]:
    """Draw a blocking iterator item by item in the pool; it is closed when the reader leaves early."""
    nothing = object()

    def draw() -> object:
        return next(items, nothing)

    try:
        while (item := await in_thread(draw)) is not nothing:
            yield item  # type: ignore[misc]  # the sentinel is excluded above
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            await in_thread(close)

"""The way into a container that runs: processes that enter it, or a freeze of it, never both at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PATIENCE_SECONDS = 5.0
"""How long a freeze waits for those on their way; usually they are in within milliseconds."""


class Doorway:
    """A process that is frozen half way in keeps the container's supervisor, which waits for it, from everything else."""

    def __init__(self) -> None:
        self._entering = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._open = asyncio.Event()
        self._open.set()

    @asynccontextmanager
    async def entering(self) -> AsyncIterator[None]:
        """Go in within it. Waits while it is closed, and may find the container frozen then."""
        while not self._open.is_set():
            await self._open.wait()
        self._entering += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._entering -= 1
            if not self._entering:
                self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Freeze within it, once those on their way are in."""
        self._open.clear()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _PATIENCE_SECONDS)
            yield
        finally:
            self._open.set()

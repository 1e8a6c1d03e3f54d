"""A folder of the client as a build's context, sent when a step first needs it: what no step copies from never travels."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from carrack.build.dockerfile.ignore import ignore_file_names
from carrack.build.ports import LocalContext, Tree
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled


class ClientFolder:
    """`ports.LocalContext` over one that `receive` gives. Made on the event loop, used in threads."""

    def __init__(self, receive: Callable[[], Coroutine[Any, Any, LocalContext]], cancel: Cancellation) -> None:
        self._receive = receive
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._received: LocalContext | None = None
        self._closed = False

    @property
    def key(self) -> str:
        """See `ports.LocalContext.key`."""
        return self._here().key

    def tree(self, ignore: Sequence[str] = ()) -> Tree:
        """See `ports.LocalContext.tree`."""
        return self._here().tree(ignore)

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """See `ports.LocalContext.read`. An ignore file is not there: the client has applied it."""
        return None if path.endswith(ignore_file_names("")[0]) else self._here().read(path, limit_bytes)

    def open(self, path: str, limit_bytes: int) -> int | None:
        """See `ports.LocalContext.open`."""
        return self._here().open(path, limit_bytes)

    def close(self) -> None:
        """See `ports.LocalContext.close`."""
        with self._lock:
            self._closed = True
            if self._received is not None:
                self._received.close()

    def _here(self) -> LocalContext:
        with self._lock:
            if self._closed:
                raise Cancelled("the build has ended")
            if self._received is None:
                self._cancel.check()
                receiving = asyncio.run_coroutine_threadsafe(self._receive(), self._loop)
                with self._cancel.calling(lambda: _take_back(receiving)):
                    try:
                        self._received = receiving.result()
                    except concurrent.futures.CancelledError:
                        raise Cancelled("the build was cancelled") from None
            return self._received


def _take_back(receiving: concurrent.futures.Future[LocalContext]) -> None:
    receiving.cancel()

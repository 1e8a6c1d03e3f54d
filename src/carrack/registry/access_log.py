"""The access log: one JSON object per line and request, written in batches so that a slow disk holds nobody up.

Secrets do not reach it: neither the Authorization field nor the query of a request is written. What a client chose is escaped
by JSON, so that no line can be forged.
"""

from __future__ import annotations

import asyncio
import os
import time

import msgspec

from carrack.http import Exchange

_FLUSH_SECONDS = 0.2
_BUFFER_BYTES = 1 << 20
_TEXT_LIMIT = 512


class AccessLog:
    """Lines on their way to a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0
        """Lines given up because the reader of the log did not keep up."""

    def write(self, exchange: Exchange, user: str) -> None:
        """Take one line; it is out within a fraction of a second."""
        request = exchange.request
        line = msgspec.json.encode(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "remote": request.remote,
                "user": _text(user),
                "method": request.method[:16],
                "path": _text(request.path),
                "status": exchange.status,
                "bytes": exchange.body_bytes,
                "seconds": round(exchange.seconds, 6),
                "complete": exchange.complete,
                "agent": _text(request.headers.get("user-agent")),
            }
        )
        if len(self._lines) > _BUFFER_BYTES:
            self.dropped += 1
            return
        self._lines += line + b"\n"
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, bytearray()
        try:
            while lines:
                del lines[: os.write(self._fd, lines)]
        except OSError:
            self.dropped += lines.count(b"\n")


def _text(value: str) -> str:
    """A client's words, cut, and without the stray bytes that JSON cannot hold."""
    return value[:_TEXT_LIMIT].encode("utf-8", "replace").decode()

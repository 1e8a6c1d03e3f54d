"""A response that goes on: its JSON documents one by one, over a connection that may also just be left unread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.rig.unix_http import UnixConnection


class JsonStream:
    """A request whose answer is one JSON document per line, without end."""

    def __init__(self, path: Path, target: str, *, headers: Mapping[str, str] | None = None, timeout_seconds: float = 30.0) -> None:
        self._connection = UnixConnection(path, timeout_seconds)
        self._connection.request("GET", target, headers=dict(headers or {}))
        self._response = self._connection.getresponse()
        self.status = self._response.status

    def next(self) -> Any:
        """The next document; None at the end of the stream."""
        line = self._response.readline()
        return json.loads(line) if line.strip() else None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

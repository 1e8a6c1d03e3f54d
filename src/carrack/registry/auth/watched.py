"""A configuration file that is read again when it changes, so that a right taken away is gone with the next request."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from carrack.errors import InvalidParameter, Unavailable

Parsed = TypeVar("Parsed")


class WatchedFile(Generic[Parsed]):
    """What a file says now. The first reading may raise InvalidParameter; a later one that fails refuses (Unavailable), because
    going on with what the file said before would keep rights that its author has just taken away."""

    def __init__(self, path: str, parse: Callable[[bytes], Parsed]) -> None:
        self._path = path
        self._parse = parse
        self._state: tuple[int, int, int] | None = None
        self._value = self._read()

    def current(self) -> Parsed:
        """The present meaning of the file; one stat(2) when nothing changed."""
        try:
            if self._identity() != self._state:
                self._value = self._read()
        except InvalidParameter as error:
            self._state = None
            raise Unavailable(f"registry configuration is broken: {error.message}") from error
        return self._value

    def _identity(self) -> tuple[int, int, int]:
        try:
            state = os.stat(self._path)
        except OSError as error:
            raise InvalidParameter(f"{self._path}: {error.strerror}") from error
        return state.st_ino, state.st_size, state.st_mtime_ns

    def _read(self) -> Parsed:
        state = self._identity()
        try:
            with open(self._path, "rb") as file:
                value = self._parse(file.read())
        except OSError as error:
            raise InvalidParameter(f"{self._path}: {error.strerror}") from error
        except InvalidParameter as error:
            raise InvalidParameter(f"{self._path}: {error.message}") from error
        self._state = state
        return value

"""What comes bit by bit: an iterator that holds a connection, and lets it go when it is closed or read to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from carrack.client.engine import Response

T = TypeVar("T")


class Stream(Generic[T]):
    """An iterator over an answer that is still coming. `close` it, use it in a `with`, or read it to the end.

    Leaving a `with` early tells the daemon at once that nobody reads on.
    """

    def __init__(self, response: Response, items: Iterator[T]) -> None:
        self._response = response
        self._items = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            return next(self._items)
        except StopIteration:
            self.close()
            raise

    def close(self) -> None:
        """Lets the connection go; safe to call again."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

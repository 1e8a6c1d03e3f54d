"""The table of containers: in memory for everyone who reads, in state.db for the next daemon. No reader takes a lock.

`Table` knows names, ids and prefixes; it does not know what a container does. Changes are made on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from sqlite3 import Connection
from typing import Protocol, TypeVar

import msgspec

from carrack.engine import names
from carrack.engine.container import Container
from carrack.errors import Conflict, InvalidParameter, NotFound

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Container).decode


class Store(Protocol):
    """What the table needs of state.db."""

    def read(self, sql: str, params: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """The rows of a query, as of now."""

    def write(self, change: Callable[[Connection], T], *, durable: bool = False) -> Future[T]:
        """Queue a change for the writer thread; the future has its result once it is committed (and, `durable`, on disk)."""


class Table:
    """Every container of this instance, by id and by name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_id: dict[str, Container] = {}
        self._id_of_name: dict[str, str] = {}

    def load(self) -> None:
        """Read every record. Blocking; once, before the API answers."""
        for (document,) in self._store.read("SELECT document FROM containers"):
            assert isinstance(document, bytes)
            self._remember(_decode(document))

    def __iter__(self) -> Iterator[Container]:
        return iter(tuple(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, container_id: str) -> Container | None:
        """The container with exactly this id, if it is still there."""
        return self._by_id.get(container_id)

    def get(self, ref: str) -> Container:
        """By full id, name, or unique id prefix, in that order. Raises NotFound or InvalidParameter as Docker does."""
        if not ref:
            raise InvalidParameter("invalid container name or ID: value is empty")
        found = self._by_id.get(ref)
        if found is not None:
            return found
        named = self._by_id.get(self._id_of_name.get(ref.removeprefix("/"), ""))
        if named is not None:  # a name alone may be reserved for a container that is still being made
            return named
        matches = [identity for identity in self._by_id if identity.startswith(ref)]
        if len(matches) == 1:
            return self._by_id[matches[0]]
        if matches:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {ref}")
        raise NotFound(f"No such container: {ref}")

    def reserve_name(self, name: str, container_id: str) -> str:
        """Take a name (an empty one: invent it) for a container that is about to be. Raises Conflict, InvalidParameter."""
        if not name:
            name = names.invent()
            while name in self._id_of_name:
                name = f"{names.invent()}{container_id[:2]}"
        else:
            name = names.check(name)
        holder = self._id_of_name.get(name)
        if holder is not None and holder != container_id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._id_of_name[name] = container_id
        return name

    def release_name(self, name: str, container_id: str) -> None:
        """Give a name back."""
        if self._id_of_name.get(name) == container_id:
            del self._id_of_name[name]

    def add(self, container: Container) -> Future[None]:
        """Make a container known. It is acknowledged only after the returned write is done.

        A power cut may cost the newest containers (never half of one: their directories are then garbage); a crash does not.
        """
        self._remember(container)
        row = (container.id, container.name, _encode(container))

        def write(connection: Connection) -> None:
            connection.execute("INSERT INTO containers(id, name, document) VALUES (?, ?, ?)", row)

        return self._store.write(write)

    def save(self, container: Container, *, durable: bool = False) -> Future[None]:
        """Record a container as it stands; one that was removed meanwhile stays so, or the next daemon would have it again."""
        row = (container.name, _encode(container), container.id)

        def write(connection: Connection) -> None:
            connection.execute("UPDATE containers SET name = ?, document = ? WHERE id = ?", row)

        return self._store.write(write, durable=durable)

    def remove(self, container: Container) -> Future[None]:
        """Forget a container and its name."""
        self._by_id.pop(container.id, None)
        self.release_name(container.name, container.id)
        identity = container.id

        def write(connection: Connection) -> None:
            connection.execute("DELETE FROM containers WHERE id = ?", (identity,))

        return self._store.write(write)

    def _remember(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._id_of_name[container.name] = container.id

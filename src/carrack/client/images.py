"""Images: `client.images`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrack.client import codec
from carrack.client.failure import ApiError
from carrack.client.http import percent_encode
from carrack.client.queries import filters_query, flags_query
from carrack.client.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from carrack.client.engine import Engine

NOBODY = "e30="  # base64 of {}: the daemon wants the header even when there is nothing to say


def login_header(username: str, password: str) -> str:
    """A registry login as the API's X-Registry-Auth."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(codec.encode({"username": username, "password": password}).encode()).decode()


class Images:
    """The daemon's images. A `login` is a (user, password) of the registry."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """The images' summaries."""
        found: list[dict[str, Any]] = self._engine.json("GET", "/images/json", filters_query(filters))
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """One image's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"/images/{percent_encode(name, keep='/:@')}/json")
        return document

    def history(self, name: str) -> tuple[dict[str, Any], ...]:
        """The steps it was made in, the newest first. Raises NotFound."""
        return tuple(self._engine.json("GET", f"/images/{percent_encode(name, keep='/:@')}/history"))

    def pull(self, name: str, *, platform: str = "", login: tuple[str, str] | None = None) -> None:
        """Pulls an image (`latest` if the name says nothing). Raises ApiError with the registry's reason."""
        with self.pulling(name, platform=platform, login=login) as messages:
            for _ in messages:
                pass

    def pulling(self, name: str, *, platform: str = "", login: tuple[str, str] | None = None) -> Stream[dict[str, Any]]:
        """The same, with the messages of its progress as they come."""
        repository, tag = split_name(name)
        query = {"fromImage": repository, "tag": tag, **({"platform": platform} if platform else {})}
        return self._progress("/images/create", query, login)

    def push(self, name: str, *, login: tuple[str, str] | None = None) -> None:
        """Pushes an image. Raises ApiError with the registry's reason."""
        repository, tag = split_name(name)
        with self._progress(f"/images/{percent_encode(repository, keep='/:')}/push", {"tag": tag}, login) as messages:
            for _ in messages:
                pass

    def _progress(self, path: str, query: Mapping[str, str], login: tuple[str, str] | None) -> Stream[dict[str, Any]]:
        headers = {"X-Registry-Auth": login_header(*login) if login else NOBODY}
        response = self._engine.request("POST", path, query, headers=headers)
        return Stream(response, checked(response.documents()))

    def tag(self, source: str, target: str) -> None:
        """Gives an image another name. Raises NotFound."""
        repository, tag = split_name(target)
        self._engine.order("POST", f"/images/{percent_encode(source, keep='/:@')}/tag", {"repo": repository, "tag": tag})

    def load(self, archive: bytes | Iterable[bytes]) -> tuple[str, ...]:
        """Loads images from a tar archive; their names or ids."""
        response = self._engine.request("POST", "/images/load", {"quiet": "1"}, content=archive, media_type="application/x-tar")
        with response:
            said = [str(message.get("stream") or "") for message in checked(response.documents())]
        return tuple([line.partition(": ")[2].strip() for line in said if line.startswith("Loaded image")])

    def save(self, *names: str) -> Stream[bytes]:
        """A tar archive of images, in pieces. Raises NotFound."""
        response = self._engine.request("GET", "/images/get", {"names": list(names)})
        return Stream(response, iter(response.body))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Removes a name, and the image with its last one. Raises NotFound, Conflict."""
        self._engine.json("DELETE", f"/images/{percent_encode(name, keep='/:@')}", flags_query(force=force))

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> int:
        """Removes images that nothing names or uses; the bytes that makes free."""
        return int(self._engine.json("POST", "/images/prune", filters_query(filters)).get("SpaceReclaimed") or 0)


def split_name(name: str) -> tuple[str, str]:
    """(repository, tag or digest); `latest` when there is neither."""
    repository, at, digest = name.partition("@")
    if at:
        return repository, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def checked(messages: Iterator[Any]) -> Iterator[Any]:
    """Progress messages. Raises ApiError when one reports a failure."""
    for message in messages:
        if message.get("error"):
            raise ApiError(500, str((message.get("errorDetail") or {}).get("message") or message["error"]))
        yield message

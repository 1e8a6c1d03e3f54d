"""The Python client: a daemon as an object, its containers, images, networks and volumes as attributes.

    from carrack.client import Client

    with Client() as client:
        print(client.containers.run("busybox", ["echo", "hi"]).decode())
        web = client.containers.run("nginx", detach=True, ports={"80/tcp": 8080})
        with web.logs(follow=True) as lines:
            print(next(lines).decode(), end="")
        web.stop()

It is synchronous, typed, has no dependencies, and speaks to any Engine API, Carrack's or Docker's: see docs/client.md.
Failures are `ApiError`s that are also of a kind of `carrack.errors`: `except NotFound`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from carrack.client.containers import Containers
from carrack.client.endpoint import DEFAULT_HOST, DOCKER_SOCKET, TlsFiles, parse_endpoint
from carrack.client.engine import Engine
from carrack.client.images import Images
from carrack.client.networks import Networks, Volumes
from carrack.client.queries import filters_query
from carrack.client.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Self


class Client:
    """A daemon. Without an address: CARRACK_HOST, DOCKER_HOST, Carrack's own socket, or Docker's where that one is not.

    Close it, or use it in a `with`. Not for several threads at once: give each its own.
    """

    def __init__(self, host: str = "", *, tls: TlsFiles | None = None, version: str = "") -> None:
        self.engine = Engine(parse_endpoint(host or _default_host(), tls=tls), version=version, user_agent="carrack-python")
        self.containers = Containers(self.engine)
        self.images = Images(self.engine)
        self.networks = Networks(self.engine)
        self.volumes = Volumes(self.engine)

    def ping(self) -> dict[str, str]:
        """The daemon's `_ping` headers. Raises ConnectionFailed when nobody answers."""
        return self.engine.ping()

    def version(self) -> dict[str, Any]:
        """The daemon's version document."""
        document: dict[str, Any] = self.engine.json("GET", "/version")
        return document

    def info(self) -> dict[str, Any]:
        """What the daemon says of itself and its host."""
        document: dict[str, Any] = self.engine.json("GET", "/info")
        return document

    def disk_usage(self) -> dict[str, Any]:
        """What images, containers and volumes take on disk."""
        document: dict[str, Any] = self.engine.json("GET", "/system/df")
        return document

    def events(
        self, *, since: str = "", until: str = "", filters: Mapping[str, Sequence[str]] | None = None
    ) -> Stream[dict[str, Any]]:
        """Events as they happen, each as the daemon's document; ends at `until`, else when it is closed."""
        query = {**{name: value for name, value in (("since", since), ("until", until)) if value}, **filters_query(filters)}
        response = self.engine.request("GET", "/events", query)
        return Stream(response, response.documents())

    def close(self) -> None:
        """Closes the kept connection."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _default_host() -> str:
    named = os.environ.get("CARRACK_HOST") or os.environ.get("DOCKER_HOST")
    if named:
        return named
    return (
        DEFAULT_HOST
        if os.path.exists(DEFAULT_HOST.removeprefix("unix://")) or not os.path.exists(DOCKER_SOCKET)
        else f"unix://{DOCKER_SOCKET}"
    )

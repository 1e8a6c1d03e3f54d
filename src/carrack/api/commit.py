"""POST /commit: an image out of a container."""

from __future__ import annotations

from typing import Protocol

from carrack.api.json import read, reply
from carrack.api.router import Route
from carrack.engine.commits import CommitWish, name_of
from carrack.engine.config import ContainerConfig
from carrack.http import Request, Response
from carrack.images.image import Image


class CommitBackend(Protocol):
    """What the engine offers: `engine.commits.Commits`. Raises NotFound, InvalidParameter, Conflict."""

    async def commit(self, ref: str, wish: CommitWish) -> Image: ...


def routes(backend: CommitBackend) -> list[Route]:
    """The one route."""

    async def commit(request: Request) -> Response:
        query = request.query
        wish = CommitWish(
            name=name_of(query.get("repo"), query.get("tag")),
            author=query.get("author"),
            comment=query.get("comment"),
            changes=query.all("changes"),
            config=await read(request, ContainerConfig),
            pause=query.flag("pause", True),
        )
        image = await backend.commit(query.get("container"), wish)
        return reply({"Id": str(image.id)}, 201)

    return [Route("POST", "/commit", commit)]

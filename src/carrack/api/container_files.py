"""The routes of a container's files: `archive` as `docker cp` uses it (facts of a path in a header), `changes`, `export`."""

from __future__ import annotations

import base64
import stat
from collections.abc import AsyncIterator
from typing import Protocol

from carrack.api.json import encode, reply
from carrack.api.moments import rfc3339
from carrack.api.router import Route
from carrack.api.versions import at_least
from carrack.engine.filesystems import Change
from carrack.errors import InvalidParameter
from carrack.http import Request, Response, StreamResponse
from carrack.shim.messages import PathFacts

FACTS_HEADER = "X-Docker-Container-Path-Stat"
TAR = "application/x-tar"
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class FilesBackend(Protocol):
    """What the engine offers: `engine.filesystems.Filesystems`.

    Raises NotFound, InvalidParameter; writing, Forbidden for what is read-only.
    """

    async def facts(self, ref: str, path: str) -> PathFacts: ...
    async def read(self, ref: str, path: str) -> tuple[PathFacts, AsyncIterator[bytes]]: ...
    async def export(self, ref: str) -> AsyncIterator[bytes]: ...
    async def changes(self, ref: str) -> list[Change]: ...
    async def write(self, ref: str, path: str, archive: AsyncIterator[bytes], *, keep_kinds: bool, as_user: bool) -> None: ...


def routes(backend: FilesBackend) -> list[Route]:
    """Every route of this module."""
    files = Files(backend)
    return [
        Route("HEAD", "/containers/{id}/archive", files.facts),
        Route("GET", "/containers/{id}/archive", files.read),
        Route("PUT", "/containers/{id}/archive", files.write),
        Route("GET", "/containers/{id}/changes", files.changes),
        Route("GET", "/containers/{id}/export", files.export),
    ]


class Files:
    """The handlers."""

    def __init__(self, backend: FilesBackend) -> None:
        self._backend = backend

    async def facts(self, request: Request) -> Response:
        facts = await self._backend.facts(request.params["id"], _path(request))
        return Response(200, headers={FACTS_HEADER: facts_header(facts)})

    async def read(self, request: Request) -> StreamResponse:
        facts, pieces = await self._backend.read(request.params["id"], _path(request))
        return StreamResponse(200, pieces, {"Content-Type": TAR, FACTS_HEADER: facts_header(facts)})

    async def export(self, request: Request) -> StreamResponse:
        pieces = await self._backend.export(request.params["id"])
        return StreamResponse(
            200, pieces, {"Content-Type": TAR if at_least(request.version, "1.42") else "application/octet-stream"}
        )

    async def changes(self, request: Request) -> Response:
        found = await self._backend.changes(request.params["id"])
        return reply([{"Path": change.path, "Kind": change.kind} for change in found] or None)

    async def write(self, request: Request) -> Response:
        query = request.query
        await self._backend.write(
            request.params["id"],
            _path(request),
            request.stream(),
            keep_kinds=query.flag("noOverwriteDirNonDir"),
            as_user=query.flag("copyUIDGID"),
        )
        return Response(200)


def facts_header(facts: PathFacts) -> str:
    """The facts as Docker's clients decode them: base64 of JSON, the mode as Go's os.FileMode."""
    document = {
        "name": facts.name,
        "size": facts.size_bytes,
        "mode": go_mode(facts.mode),
        "mtime": rfc3339(facts.mtime_nanoseconds),
        "linkTarget": facts.link_target,
    }
    return base64.b64encode(encode(document).rstrip()).decode()


def go_mode(mode: int) -> int:
    """`st_mode` as Go's os.FileMode: the permissions, and a bit of its own for each kind."""
    found = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    return found | sum(go for bit, go in _GO_BITS if mode & bit)


def _path(request: Request) -> str:
    path = request.query.get("path")
    if not path:
        raise InvalidParameter("bad parameter: 'path' cannot be empty")
    return path

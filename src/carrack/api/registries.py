"""The routes that speak of registries and keep nothing: login, what a name stands for, search."""

from __future__ import annotations

from typing import Protocol

import msgspec

from carrack.api import image_json
from carrack.api.blocking import in_own_thread
from carrack.api.json import read, reply
from carrack.api.router import Route
from carrack.engine.filters import Filters
from carrack.errors import InvalidParameter
from carrack.http import Request, Response
from carrack.images.registries import SearchResult
from carrack.oci.descriptor import Descriptor, PlatformDocument

_LIMITS = (1, 100)
_DEFAULT_LIMIT = 25


class RegistryBackend(Protocol):
    """What this module needs: `images.registries.Puller`. `credentials` is an X-Registry-Auth header."""

    def login(self, server: str, username: str, password: str, identity_token: str = "") -> None: ...
    def describe(self, name: str, credentials: str) -> tuple[Descriptor, list[PlatformDocument]]: ...
    def search(self, term: str, limit: int, credentials: str) -> list[SearchResult]: ...


class LoginRequest(msgspec.Struct):
    """The body of POST /auth."""

    username: str = ""
    password: str = ""
    serveraddress: str = ""
    identitytoken: str = ""


def routes(backend: RegistryBackend) -> list[Route]:
    """The three routes."""

    async def login(request: Request) -> Response:
        wanted = await read(request, LoginRequest)
        await in_own_thread(backend.login, wanted.serveraddress, wanted.username, wanted.password, wanted.identitytoken)
        return reply({"Status": "Login Succeeded", "IdentityToken": ""})

    async def describe(request: Request) -> Response:
        credentials = request.headers.get("x-registry-auth")
        descriptor, platforms = await in_own_thread(backend.describe, request.params["name"], credentials)
        return reply({"Descriptor": image_json.descriptor(descriptor), "Platforms": platforms})

    async def search(request: Request) -> Response:
        query = request.query
        limit = query.integer("limit") or _DEFAULT_LIMIT
        if not _LIMITS[0] <= limit <= _LIMITS[1]:
            raise InvalidParameter(f"limit {limit} is outside the range of [{_LIMITS[0]}, {_LIMITS[1]}]")
        filters = Filters.parse(query.get("filters")).accept("stars", flags=("is-automated", "is-official"))
        found = await in_own_thread(backend.search, query.get("term"), limit, request.headers.get("x-registry-auth"))
        return reply([result for result in found if _passes(result, filters)])

    return [
        Route("POST", "/auth", login),
        Route("GET", "/distribution/{name:path}/json", describe, since="1.30"),
        Route("GET", "/images/search", search),
    ]


def _passes(result: SearchResult, filters: Filters) -> bool:
    if "is-official" in filters and result.is_official != filters.flag("is-official"):
        return False
    if "is-automated" in filters and result.is_automated != filters.flag("is-automated"):
        return False
    for stars in filters.get("stars"):
        if not (stars.isascii() and stars.isdecimal() and len(stars) < 19):
            raise InvalidParameter(f"invalid filter 'stars={stars}'")
        if result.star_count < int(stars):
            return False
    return True

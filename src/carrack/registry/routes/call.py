"""What every route gets: the request, the names in it, what its sender may do, and the one crossing to blocking code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import msgspec

from carrack.http import Request, Response
from carrack.registry.auth.permits import Action, Permit
from carrack.registry.errors import PageInvalid
from carrack.registry.names import Target
from carrack.registry.storage import Storage
from carrack.registry.verification import Verifier

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PAGE_LIMIT = 1000
"""No page of a list is longer, whatever was asked (CVE-2017-11468, CVE-2023-2253)."""
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on what clients send. A blob size of 0: none."""

    blob_bytes: int = 0
    sparse_indexes: bool = False
    """Whether an index may name manifests that are not here."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes share."""

    storage: Storage
    verifier: Verifier
    threads: Executor
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True)
class Call:
    """One admitted request."""

    request: Request
    target: Target
    permit: Permit
    services: Services

    @property
    def storage(self) -> Storage:
        return self.services.storage

    @property
    def repository(self) -> str:
        return self.target.repository

    def may(self, action: Action, repository: str = "") -> bool:
        """Whether the sender may also do this."""
        return self.permit.allows(repository or self.repository, action)

    async def look(self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        """Call a look-up of the store: here where the store is prompt, else in a thread."""
        if self.storage.prompt:
            return function(*arguments, **named)
        return await self.work(function, *arguments, **named)

    async def work(self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        """Call blocking code in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.services.threads, lambda: function(*arguments, **named))


def page_length(call: Call) -> int:
    """The `n` of a list, capped. Raises PageInvalid."""
    text = call.request.query.get("n")
    if not text:
        return PAGE_LIMIT
    if not (text.isascii() and text.isdecimal()):
        raise PageInvalid("invalid number of results requested", detail={"n": text[:32]})
    return PAGE_LIMIT if len(text) > _DIGITS else min(int(text), PAGE_LIMIT)


def json_reply(document: object, headers: Mapping[str, str] | None = None, content_type: str = "application/json") -> Response:
    """A JSON answer."""
    return Response(200, msgspec.json.encode(document), {"Content-Type": content_type, **(headers or {})})

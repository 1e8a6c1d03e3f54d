"""From a request's path to the function of its noun, with Docker's version prefix, headers and errors around it.

The first route in the given order that fits wins; Docker's paths work with and without `/v{version}`, without meaning the newest.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from carrack.api.status import error_response, status_of
from carrack.api.versions import MAX_VERSION, MIN_VERSION, at_least, check
from carrack.errors import CarrackError, NotFound, SystemFailure
from carrack.http import Reply, Request

log = logging.getLogger("carrack.api")

RouteHandler = Callable[[Request], Awaitable[Reply]]

_PREFIX = re.compile(r"/v([0-9]+(?:\.[0-9]+)*)(/.*)")
_PLACE = re.compile(r"\{([a-z_]+)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Product:
    """What the daemon calls itself towards clients."""

    version: str
    """The Docker release of the newest API version offered, with `+carrack<version>`."""
    operating_system: str = "linux"
    experimental: Callable[[], bool] = lambda: False
    """Whether Docker's client shall offer what Docker calls experimental: checkpoints."""


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path that mean something: `{id}` is one segment, `{name:path}` may hold slashes."""

    method: str
    pattern: str
    handler: RouteHandler
    since: str = "1.24"
    until: str | None = None
    """The last version that has it."""

    def serves(self, version: str) -> bool:
        """Whether this version has the route."""
        return at_least(version, self.since) and (self.until is None or at_least(self.until, version))


class Api:
    """Answers every request of the Engine API."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        product: Product,
        min_version: str = MIN_VERSION,
        max_version: str = MAX_VERSION,
    ) -> None:
        self.routes = tuple(routes)
        self._min_version = min_version
        self._max_version = max_version
        self._experimental = product.experimental
        self._headers = {
            "Api-Version": max_version,
            "Ostype": product.operating_system,
            "Server": f"Docker/{product.version} ({product.operating_system})",
        }
        self._table: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            self._table.setdefault((route.method, _noun(route.pattern)), []).append((compile_pattern(route.pattern), route))

    async def __call__(self, request: Request) -> Reply:
        """Answer one request; every failure becomes a status and a message."""
        request.response_headers.update(self._headers)
        request.response_headers["Docker-Experimental"] = "true" if self._experimental() else "false"
        log.debug("%s %s", request.method, request.raw_target)
        try:
            return await self._find(request)(request)
        except CarrackError as error:
            if request.handed_over:
                log.warning("%s %s, after its connection was handed over: %s", request.method, request.path, error.message)
                return None
            if status_of(error) == 500:  # 501 and 503 are answers, not accidents
                log.error("%s %s: %s", request.method, request.path, error.message)
            return error_response(error)
        except Exception as error:  # the root of a request
            log.exception("%s %s failed", request.method, request.path)
            if request.handed_over:
                return None
            return error_response(SystemFailure(f"internal error: {type(error).__name__}"))

    def _find(self, request: Request) -> RouteHandler:
        prefix = _PREFIX.fullmatch(request.path)
        path = prefix[2] if prefix else request.path
        request.version = self._max_version
        if "//" in path:  # a name with its leading slash, as clients that do not clean their paths write it
            path = re.sub("/{2,}", "/", path)
        found = self._match(request, path, prefix[1] if prefix else self._max_version)
        if found is None:
            raise NotFound("page not found")
        if prefix:
            check(prefix[1], self._min_version, self._max_version)
            request.version = prefix[1]
        return found.handler

    def _match(self, request: Request, path: str, version: str) -> Route | None:
        candidates: list[tuple[re.Pattern[str], Route]] = [
            *self._table.get((request.method, _noun(path)), ()),
            *self._table.get((request.method, ""), ()),
        ]
        for pattern, route in candidates:
            match = pattern.fullmatch(path)
            # a version out of bounds is told so by `check`, whatever it has
            if match is not None and (route.serves(version) or not self._is_served(version)):
                request.params = match.groupdict()
                return route
        return None

    def _is_served(self, version: str) -> bool:
        return at_least(version, self._min_version) and at_least(self._max_version, version)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A route's pattern as a regular expression."""
    parts: list[str] = []
    end = 0
    for place in _PLACE.finditer(pattern):
        parts += (re.escape(pattern[end : place.start()]), f"(?P<{place[1]}>{'.+' if place[2] else '[^/]+'})")
        end = place.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]), re.DOTALL)


def _noun(path: str) -> str:
    """The first segment, by which routes are found; empty for a pattern that may be anything."""
    noun = path[1:].partition("/")[0]
    return "" if noun.startswith("{") else noun

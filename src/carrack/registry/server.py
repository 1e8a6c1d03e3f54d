"""From a request to its route: the path is parsed, the gate asked, the method looked up; each failure becomes the spec's answer.

The table below is the whole server: one line per endpoint of distribution-spec, with the rights it needs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from carrack.errors import Cancelled, CarrackError, NotFound, SystemFailure
from carrack.http import Exchange, FileResponse, Request, Response, StreamResponse
from carrack.http.request import Reply
from carrack.registry.access_log import AccessLog
from carrack.registry.auth.gate import Gate
from carrack.registry.auth.permits import Action, Permit
from carrack.registry.errors import Unsupported, refusal_of
from carrack.registry.metrics import Metrics
from carrack.registry.names import Kind, Target, parse_path
from carrack.registry.routes import blobs, listings, manifests, uploads
from carrack.registry.routes.call import Call, Services

log = logging.getLogger("carrack.registry")

Route = Callable[[Call], Awaitable[Reply]]
_READ, _WRITE, _DELETE = (Action.PULL,), (Action.CREATE,), (Action.DELETE,)

ROUTES: dict[tuple[Kind, str], tuple[Route, tuple[Action, ...]]] = {
    (Kind.BASE, "GET"): (listings.base, ()),
    (Kind.CATALOG, "GET"): (listings.catalog, _READ),
    (Kind.TAGS, "GET"): (listings.tags, _READ),
    (Kind.REFERRERS, "GET"): (listings.referrers, _READ),
    (Kind.MANIFEST, "GET"): (manifests.get_manifest, _READ),
    (Kind.MANIFEST, "PUT"): (manifests.put_manifest, _WRITE),
    (Kind.MANIFEST, "DELETE"): (manifests.delete_manifest, _DELETE),
    (Kind.BLOB, "GET"): (blobs.get_blob, _READ),
    (Kind.BLOB, "HEAD"): (blobs.head_blob, _READ),
    (Kind.BLOB, "DELETE"): (blobs.delete_blob, _DELETE),
    (Kind.UPLOADS, "POST"): (uploads.start_upload, _WRITE),
    (Kind.UPLOAD, "GET"): (uploads.upload_status, _WRITE),
    (Kind.UPLOAD, "PATCH"): (uploads.append_chunk, _WRITE),
    (Kind.UPLOAD, "PUT"): (uploads.finish_upload, _WRITE),
    (Kind.UPLOAD, "DELETE"): (uploads.cancel_upload, _WRITE),
}
"""HEAD is GET without a body wherever it has no line of its own."""

_COMMON = {"Docker-Distribution-Api-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"}


class RegistryServer:
    """The handler of the registry's listener, and the observer of its exchanges."""

    def __init__(self, services: Services, gate: Gate, metrics: Metrics, access_log: AccessLog | None = None) -> None:
        self._services = services
        self._gate = gate
        self._metrics = metrics
        self._access_log = access_log

    async def handle(self, request: Request) -> Reply:
        """Answer one request, whatever happens."""
        self._metrics.gauges["carrack_registry_requests_in_flight"] += 1
        try:
            reply = await self._answer(request)
        except Cancelled:
            reply = Response(499)
        except CarrackError as error:
            if isinstance(error, SystemFailure):
                log.error("%s %s: %s", request.method, request.path, error.message)
            reply = Response(*refusal_of(error))
        except OSError as error:  # the store's disk: the client learns that it failed, the log how
            log.exception("%s %s failed", request.method, request.path)
            self._metrics.counters["carrack_registry_storage_errors_total"] += 1
            reply = Response(*refusal_of(SystemFailure(f"storage: {error.strerror or 'failed'}")))
        finally:
            self._metrics.gauges["carrack_registry_requests_in_flight"] -= 1
        return _with_common_headers(reply)

    async def _answer(self, request: Request) -> Reply:
        if request.path in ("/", "/healthz"):
            return Response(200, b"{}", {"Content-Type": "application/json"})  # alive; nothing else is told unasked
        target = parse_path(request.path)
        request.params["route"] = target.kind.value if target else "none"
        entry = _route(target, request.method) if target else None
        permit = await self._admit(request, target, entry[1] if entry else _READ)
        request.params["user"] = permit.identity.name
        if target is None:
            raise NotFound("no such endpoint in this registry")
        if entry is None:
            raise Unsupported("the operation is unsupported", headers={"Allow": _allowed(target.kind)})
        if request.path == "/v2":
            return Response(301, b"", {"Location": "/v2/"})
        return await entry[0](Call(request, target, permit, self._services))

    async def _admit(self, request: Request, target: Target | None, actions: tuple[Action, ...]) -> Permit:
        """Through the gate, also for what is no endpoint: a stranger learns nothing from a 404."""
        repository = target.repository if target else ""
        if target is None:
            actions = ()
        return await self._gate.admit(request.headers.get("authorization"), request.remote.rpartition(":")[0], repository, actions)

    def observe(self, exchange: Exchange) -> None:
        """Count and log an exchange that is over."""
        params = exchange.request.params
        self._metrics.count_request(params.get("route", "none"), exchange.request.method, exchange.status, exchange.seconds)
        if exchange.complete and exchange.body_bytes > 0:
            self._metrics.counters["carrack_registry_sent_bytes_total"] += exchange.body_bytes
        if self._access_log is not None:
            self._access_log.write(exchange, params.get("user", ""))


def _route(target: Target, method: str) -> tuple[Route, tuple[Action, ...]] | None:
    return ROUTES.get((target.kind, method)) or (ROUTES.get((target.kind, "GET")) if method == "HEAD" else None)


def _allowed(kind: Kind) -> str:
    methods = {method for known, method in ROUTES if known is kind}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _with_common_headers(reply: Reply) -> Reply:
    match reply:
        case Response() | FileResponse() | StreamResponse():
            return replace(reply, headers={**reply.headers, **_COMMON})
    return reply

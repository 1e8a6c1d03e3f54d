"""GET /openapi.json: the API described as OpenAPI 3.1, made from the routes that this daemon serves and the table of operations.

A route the table does not know, or the reverse, fails a test: the description cannot drift from what is served.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from carrack.api.json import encode
from carrack.api.operations import BODIES, Operation, Parameter, operations
from carrack.api.router import Route
from carrack.http import Request, Response

Json = dict[str, object]
_PLACE = re.compile(r"\{([a-z_]+)(?::path)?\}")
_TYPES: dict[str, Json] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "b": {"type": "boolean"},
    "a": {"type": "array", "items": {"type": "string"}},
}
_DOCUMENTS: dict[str, Json] = {
    "f": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    "p": {
        "type": "object",
        "required": ["os", "architecture"],
        "properties": {"os": {"type": "string"}, "architecture": {"type": "string"}, "variant": {"type": "string"}},
    },
    "j": {},
}
"""Query values that are written as JSON."""
_CONTENT: dict[str, tuple[str, Json]] = {
    "array": ("application/json", {"type": "array"}),
    "object": ("application/json", {"type": "object"}),
    "lines": ("application/json", {"type": "string"}),
    "text": ("text/plain", {"type": "string"}),
    "tar": ("application/x-tar", {"type": "string", "format": "binary"}),
    "stream": ("application/vnd.docker.raw-stream", {"type": "string", "format": "binary"}),
    "error": ("application/json", {"$ref": "#/components/schemas/ErrorResponse"}),
}
_ERROR: Json = {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}


def routes(served: Sequence[Route], version: str) -> list[Route]:
    """The one route, over all others. The description is made at the first request."""
    made: list[bytes] = []

    async def description(request: Request) -> Response:
        if not made:
            made.append(encode(describe((*served, own), version)))
        return Response(200, made[0], {"Content-Type": "application/json"})

    own = Route("GET", "/openapi.json", description)
    return [own]


def describe(served: Sequence[Route], version: str) -> Json:
    """The description of these routes, as of the newest version."""
    table = operations()
    schemas, components = msgspec.json.schema_components(
        BODIES.values(), schema_hook=lambda kind: {"description": "any value"}, ref_template="#/components/schemas/{name}"
    )
    bodies = dict(zip(BODIES, schemas, strict=True))
    paths: dict[str, Json] = {}
    for route in served:
        path = plain(route.pattern)
        operation = table.get((route.method, path))
        if operation is not None and route.method.lower() not in paths.setdefault(path, {}):
            paths[path][route.method.lower()] = _operation(route, operation, bodies)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Carrack: Docker's Engine API",
            "version": version,
            "description": "Every path also works below /v1.24 to the newest version, which a path without a version means.",
        },
        "paths": paths,
        "components": {"schemas": {**components, "ErrorResponse": _ERROR}},
    }


def plain(pattern: str) -> str:
    """A route's pattern as OpenAPI writes paths."""
    return _PLACE.sub(r"{\1}", pattern)


def _operation(route: Route, operation: Operation, bodies: dict[str, Json]) -> Json:
    places = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _PLACE.findall(route.pattern)
    ]
    document: Json = {
        "summary": operation.summary,
        "operationId": _identifier(route),
        "x-since": route.since,
        "parameters": [*places, *(_parameter(each) for each in operation.query)],
        "responses": {str(status): _answer(kind) for status, kind in (*operation.answers, (400, "error"))},
    }
    if operation.body:
        document["requestBody"] = {"required": operation.body_required, "content": _body(operation.body, bodies)}
    return document


def _body(name: str, bodies: dict[str, Json]) -> Json:
    if name == "tar":
        return {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}
    return {"application/json": {"schema": bodies.get(name, {"type": "object"})}}


def _parameter(of: Parameter) -> Json:
    document: Json = {"name": of.name, "in": "query", "required": of.required}
    if of.type in _DOCUMENTS:
        return document | {"content": {"application/json": {"schema": _DOCUMENTS[of.type]}}}
    return document | {"schema": _TYPES[of.type]}


def _answer(kind: str) -> Json:
    if kind == "nothing":
        return {"description": "done"}
    media_type, schema = _CONTENT[kind]
    return {"description": "a failure, in words" if kind == "error" else kind, "content": {media_type: {"schema": schema}}}


def _identifier(route: Route) -> str:
    words = re.findall(r"[A-Za-z0-9_]+", plain(route.pattern))
    return "_".join([route.method.lower(), *words, *([""] if route.pattern.endswith("/") else [])])

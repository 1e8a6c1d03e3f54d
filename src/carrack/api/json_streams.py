"""Streams of JSON documents: which framing a client asked for, and the documents in it.

JSON lines and ndjson are the same bytes under two names; a JSON text sequence (RFC 7464) begins each document with 0x1E.
"""

from __future__ import annotations

from collections.abc import Callable

from carrack.api.json import encode
from carrack.http import Request

JSON = "application/json"
JSON_LINES = "application/jsonl"
NDJSON = "application/x-ndjson"
JSON_SEQUENCE = "application/json-seq"
STREAMS = (JSON_LINES, NDJSON, JSON_SEQUENCE)

Encode = Callable[[object], bytes]


def negotiate(accept: str, default: str) -> str:
    """The framing that an Accept header names, the first of its best; wildcards name none, so that the default holds."""
    best, best_quality = default, 0.0
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = next((_quality(p.partition("=")[2]) for p in parameters if p.partition("=")[0].strip() == "q"), 1.0)
        if name.lower() in STREAMS and quality > best_quality:
            best, best_quality = name.lower(), quality
    return best


def encoder(content_type: str) -> Encode:
    """How one document is written in this framing."""
    return _sequence if content_type == JSON_SEQUENCE else encode


def asked(request: Request, default: str) -> str:
    """The framing this request asked for."""
    return negotiate(request.headers.get("accept"), default)


def _sequence(value: object) -> bytes:
    return b"\x1e" + encode(value)


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0

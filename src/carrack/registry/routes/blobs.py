"""Pulling, checking and deleting blobs (distribution-spec, "Pulling blobs", "Deleting blobs"): end-2, end-10."""

from __future__ import annotations

import os

from carrack.http import FileResponse, Response
from carrack.http.request import Reply
from carrack.registry.names import content_digest
from carrack.registry.ranges import Unsatisfiable, lists_tag, requested_span
from carrack.registry.routes.call import Call

_TYPE = "application/octet-stream"


async def head_blob(call: Call) -> Reply:
    """Whether the repository holds the blob, and its size; the asker may count on it from now on."""
    digest = content_digest(call.target.last)
    size = await call.work(call.storage.promise_blob, call.repository, digest)
    return Response(200, b"", {**_headers(str(digest)), "Content-Length": str(size)})


async def get_blob(call: Call) -> Reply:
    """The blob, or the one range of it that was asked for, by sendfile."""
    digest = content_digest(call.target.last)
    blob = await call.look(call.storage.open_blob, call.repository, digest)
    try:
        headers = _headers(str(digest))
        if lists_tag(call.request.headers.get("if-none-match"), headers["ETag"]):
            os.close(blob.fd)
            return Response(304, b"", headers)
        before_last = await call.services.verifier.before_last(digest, blob)
        try:
            span = requested_span(_range(call, headers["ETag"]), blob.size_bytes)
        except Unsatisfiable:
            os.close(blob.fd)
            return Response(416, b"", {**headers, "Content-Range": f"bytes */{blob.size_bytes}"})
    except BaseException:
        os.close(blob.fd)
        raise
    if span is None:
        return FileResponse(200, blob.fd, 0, blob.size_bytes, headers, before_last)
    headers["Content-Range"] = f"bytes {span.start}-{span.last}/{blob.size_bytes}"
    return FileResponse(206, blob.fd, span.start, span.length, headers, before_last)


def _range(call: Call, entity_tag: str) -> str:
    """The Range header, unless If-Range names other content (RFC 9110, 13.1.5)."""
    condition = call.request.headers.get("if-range")
    if condition and not lists_tag(condition, entity_tag):
        return ""
    return call.request.headers.get("range")


def _headers(digest: str) -> dict[str, str]:
    return {
        "Content-Type": _TYPE,
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        # No shared cache may keep it: who may read a blob, and whether it is still there, is decided at each request.
        "Cache-Control": "private, max-age=31536000, immutable",
    }


async def delete_blob(call: Call) -> Reply:
    """The repository holds the blob no longer; the bytes go with the next collection."""
    digest = content_digest(call.target.last)
    await call.work(call.storage.unlink_blob, call.repository, digest)
    return Response(202, b"", {"Docker-Content-Digest": str(digest)})

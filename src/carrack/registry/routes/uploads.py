"""Pushing blobs (distribution-spec, "Pushing blobs" to "Mounting a blob"): end-4, end-5, end-6, end-11, end-13, end-14.

Bytes go to the store as they come, in batches, written by a thread while the next batch arrives; what came before a client was cut
off is kept, so that it can go on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from carrack.errors import Cancelled, InvalidParameter
from carrack.http import Request, Response
from carrack.http.request import Reply
from carrack.oci.digest import Digest
from carrack.registry.auth.permits import Action
from carrack.registry.errors import (
    BlobTooLarge,
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    SizeInvalid,
    UploadBusy,
    UploadRangeInvalid,
)
from carrack.registry.names import content_digest, repository_name
from carrack.registry.ranges import Span, chunk_span, upload_range
from carrack.registry.routes.call import Call
from carrack.registry.storage import UploadWriter

_BATCH_BYTES = 512 << 10
_BUSY_SECONDS = 5.0
_BUSY_POLL_SECONDS = 0.05
_ALGORITHMS = ("sha256", "sha512")


async def start_upload(call: Call) -> Reply:
    """Begin an upload, take a whole blob in one request (``digest=``), or mount one (``mount=``, ``from=``)."""
    query = call.request.query
    if query.get("mount") and (mounted := await _mount(call)) is not None:
        return mounted
    algorithm = query.get("digest-algorithm", "sha256")
    if algorithm not in _ALGORITHMS:
        raise DigestInvalid(f"unsupported digest algorithm {algorithm[:32]!r}")
    digest = content_digest(query.get("digest")) if query.get("digest") and not query.get("mount") else None
    upload_id = await call.work(call.storage.start_upload, call.repository)
    if digest is None:
        return _in_progress(call, 202, upload_id, 0)
    writer = await _open(call, upload_id)
    try:
        await _receive(call, writer, None)
        await call.work(_commit, call, writer, digest)
    except BaseException:
        # One request, no session: nobody knows of this upload, nobody could go on with it.
        await call.work(_drop, call, upload_id)
        raise
    finally:
        writer.close()
    return _created(call, digest)


async def _mount(call: Call) -> Reply | None:
    """Hold a blob of another repository, if its sender may pull from there; None leads to an upload, whatever the reason."""
    query = call.request.query
    digest = content_digest(query.get("mount"))
    if not query.get("from"):
        return None
    source = repository_name(query.get("from"))
    if not call.may(Action.PULL, source):
        return None
    try:
        await call.work(call.storage.mount_blob, digest, source, call.repository)
    except BlobUnknown:
        return None
    return _created(call, digest)


async def upload_status(call: Call) -> Reply:
    """How far an upload is."""
    size = await call.look(call.storage.upload_size, call.repository, call.target.last)
    return _in_progress(call, 204, call.target.last, size)


async def cancel_upload(call: Call) -> Reply:
    """Throw an upload away."""
    await call.work(call.storage.cancel_upload, call.repository, call.target.last)
    return Response(204)


async def append_chunk(call: Call) -> Reply:
    """Take one chunk, or a stream of unknown length; in order only."""
    writer = await _open(call, call.target.last)
    try:
        span = _checked_span(call, writer)
        await _receive(call, writer, span)
        return _in_progress(call, 202, call.target.last, writer.offset)
    finally:
        writer.close()


async def finish_upload(call: Call) -> Reply:
    """Take the last bytes, if any, and make the upload a blob."""
    text = call.request.query.get("digest")
    if not text:
        raise DigestInvalid("digest parameter missing")
    digest = content_digest(text)
    writer = await _open(call, call.target.last)
    try:
        span = _checked_span(call, writer)
        await _receive(call, writer, span)
        await call.work(_commit, call, writer, digest)
    finally:
        writer.close()
    return _created(call, digest)


async def _open(call: Call, upload_id: str) -> UploadWriter:
    """The upload's writer. A request whose client was cut off may hold it for a moment more: wait for that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _BUSY_SECONDS
    while True:
        try:
            return await call.look(call.storage.open_upload, call.repository, upload_id)
        except UploadBusy:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(_BUSY_POLL_SECONDS)


def _checked_span(call: Call, writer: UploadWriter) -> Span | None:
    """What the request says it brings. Raises UploadRangeInvalid when something else comes next, SizeInvalid on contradictions."""
    span = chunk_span(call.request.headers.get("content-range"))
    if span is None:
        return None
    length = call.request.headers.get("content-length")
    if length and int(length) != span.length:
        raise SizeInvalid("content length and content range differ", detail={"length": length, "range": span.length})
    if span.start != writer.offset:
        headers = {"Location": _location(call, call.target.last), "Range": upload_range(writer.offset)}
        raise UploadRangeInvalid(f"the upload goes on at {writer.offset}, not at {span.start}", headers=headers)
    return span


async def _receive(call: Call, writer: UploadWriter, span: Span | None) -> None:
    """Append the request's body. What arrives before a failure is kept. Raises SizeInvalid, BlobTooLarge."""
    allowed = _allowance(call, writer, span)
    received = 0
    writing: asyncio.Future[None] | None = None
    try:
        async for batch in _batches(call.request, allowed):
            received += sum(map(len, batch))
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(call.work(writer.write, batch))
    except InvalidParameter as error:  # the body's framing broke, as it does when a client goes away half-way
        raise error if isinstance(error, (SizeInvalid, BlobTooLarge)) else SizeInvalid(error.message) from error
    finally:
        if writing is not None:
            await _settle(writing)
    if writing is not None:
        writing.result()
    if span is not None and received != span.length:
        raise SizeInvalid("the body is shorter than its content range")


async def _settle(writing: asyncio.Future[None]) -> None:
    """Wait for a thread to be done with the writer, even when this task is being cancelled."""
    while not writing.done():
        try:
            await asyncio.wait((writing,))
        except asyncio.CancelledError:
            continue


def _allowance(call: Call, writer: UploadWriter, span: Span | None) -> int | None:
    """How many bytes this body may have. Raises BlobTooLarge when what is announced already exceeds the registry's limit."""
    limit = call.services.bounds.blob_bytes
    left = limit - writer.offset if limit else None
    announced = call.request.headers.get("content-length")
    if left is not None and announced and int(announced) > left:
        raise BlobTooLarge(f"blob is larger than {limit} bytes")
    if span is not None:
        return span.length if left is None else min(span.length, left)
    return left


async def _batches(request: Request, allowed: int | None) -> AsyncIterator[list[bytes]]:
    """The body in pieces worth a thread's while; the last batch comes also when the body breaks off."""
    batch: list[bytes] = []
    size = total = 0
    try:
        async for piece in request.stream():
            total += len(piece)
            if allowed is not None and total > allowed:
                batch.append(piece[: len(piece) - (total - allowed)])  # what is in order is kept, however it arrived
                raise BlobTooLarge("the body is larger than announced or allowed")
            batch.append(piece)
            size += len(piece)
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except (Cancelled, InvalidParameter):
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _commit(call: Call, writer: UploadWriter, digest: Digest) -> None:
    writer.commit(digest)
    call.services.verifier.learn(digest)


def _drop(call: Call, upload_id: str) -> None:
    try:
        call.storage.cancel_upload(call.repository, upload_id)
    except BlobUploadUnknown:
        pass  # a wrong digest ended it already


def _location(call: Call, upload_id: str) -> str:
    # Relative: the Host field is the client's word and must not decide where others are sent.
    return f"/v2/{call.repository}/blobs/uploads/{upload_id}"


def _in_progress(call: Call, status: int, upload_id: str, size: int) -> Response:
    headers = {"Location": _location(call, upload_id), "Range": upload_range(size), "Docker-Upload-UUID": upload_id}
    return Response(status, b"", headers)


def _created(call: Call, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{call.repository}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return Response(201, b"", headers)

"""Pulling, pushing and deleting manifests and tags (distribution-spec, "Pushing Manifests" ff.): end-3, end-7, end-9."""

from __future__ import annotations

import asyncio

from carrack.errors import InvalidParameter
from carrack.http import Response
from carrack.http.request import Reply
from carrack.oci.descriptor import MANIFEST_LIMIT_BYTES
from carrack.oci.digest import Digest
from carrack.registry.auth.permits import Action
from carrack.registry.errors import Denied, DigestInvalid, ManifestInvalid, ManifestTooLarge, PreconditionFailed, TooManyTags
from carrack.registry.manifests import ManifestFacts, read_manifest, stored_media_type
from carrack.registry.names import tag_name, tag_or_digest
from carrack.registry.ranges import lists_tag
from carrack.registry.routes.call import Call
from carrack.registry.storage import ManifestPush, TagCheck
from carrack.registry.storage.digesting import digest_of

_TAGS_LIMIT = 100
_JUDGED_IN_PLACE_BYTES = 64 << 10


async def get_manifest(call: Call) -> Reply:
    """The manifest's exact bytes under the media type it was pushed with; HEAD gets the same head."""
    reference = tag_or_digest(call.target.last)
    digest = reference if isinstance(reference, Digest) else await call.look(call.storage.tag, call.repository, reference)
    content = await call.look(call.storage.manifest, call.repository, digest)
    if call.request.method == "HEAD" and isinstance(reference, Digest):
        await call.work(call.storage.promise_manifest, call.repository, digest)
    headers = {"Docker-Content-Digest": str(digest), "ETag": f'"{digest}"', "Cache-Control": "private, no-cache"}
    if lists_tag(call.request.headers.get("if-none-match"), headers["ETag"]):
        return Response(304, b"", headers)
    return Response(200, content, {"Content-Type": stored_media_type(content), **headers})


async def put_manifest(call: Call) -> Reply:
    """Store a manifest, under a tag, a digest, or a digest and several tags (``?tag=``)."""
    reference = tag_or_digest(call.target.last)
    tags = _tags(call, reference)
    content = await _manifest_body(call)
    digest = digest_of(content, reference.algorithm if isinstance(reference, Digest) else "sha256")
    if isinstance(reference, Digest) and digest != reference:
        raise DigestInvalid("provided digest did not match uploaded content", detail={"digest": str(reference)})
    media_type = call.request.headers.get("content-type").partition(";")[0].strip().lower()
    facts = await _judge(content, media_type)
    references = facts.blobs if call.services.bounds.sparse_indexes else facts.references
    push = ManifestPush(digest, content, references, facts.subject, tags, _check(call, digest))
    await call.work(call.storage.put_manifest, call.repository, push)
    headers = {"Location": f"/v2/{call.repository}/manifests/{digest}", "Docker-Content-Digest": str(digest)}
    if facts.subject is not None:
        headers["OCI-Subject"] = str(facts.subject)
    if isinstance(reference, Digest) and tags:
        headers["OCI-Tag"] = ", ".join(tags)
    return Response(201, b"", headers)


def _tags(call: Call, reference: str | Digest) -> tuple[str, ...]:
    asked = call.request.query.all("tag")
    if isinstance(reference, str):
        if asked:
            raise ManifestInvalid("tag parameters go with a push by digest")
        return (reference,)
    if len(asked) > _TAGS_LIMIT:
        raise TooManyTags(f"no more than {_TAGS_LIMIT} tags at once")
    return tuple(dict.fromkeys(tag_name(tag) for tag in asked))


async def _manifest_body(call: Call) -> bytes:
    announced = call.request.headers.get("content-length")
    if announced and int(announced) > MANIFEST_LIMIT_BYTES:
        raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT_BYTES} bytes")
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in call.request.stream():
            size += len(piece)
            if size > MANIFEST_LIMIT_BYTES:
                raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT_BYTES} bytes")
            pieces.append(piece)
    except ManifestTooLarge:
        raise
    except InvalidParameter as error:
        raise ManifestInvalid(f"manifest body: {error.message}") from error
    return b"".join(pieces)


async def _judge(content: bytes, media_type: str) -> ManifestFacts:
    if len(content) <= _JUDGED_IN_PLACE_BYTES:
        return read_manifest(content, media_type)
    return await asyncio.to_thread(read_manifest, content, media_type)


def _check(call: Call, digest: Digest) -> TagCheck:
    """Judges each tag at the moment it would move: `create` is no right to move one, and the conditions of RFC 9110 13.1 hold."""
    may_overwrite = call.may(Action.PUSH)
    condition = _condition(call)

    def check(tag: str, current: Digest | None) -> None:
        if tag and current not in (None, digest) and not may_overwrite:
            raise Denied(f"tag {tag} exists, and may not be moved", detail={"tag": tag})
        condition(tag, current)

    return check


def _condition(call: Call) -> TagCheck:
    if_match = call.request.headers.get("if-match")
    if_none_match = call.request.headers.get("if-none-match")

    def check(_tag: str, current: Digest | None) -> None:
        if if_match and (current is None or not lists_tag(if_match, str(current))):
            raise PreconditionFailed("If-Match does not hold: the tag points elsewhere")
        if if_none_match and current is not None and lists_tag(if_none_match, str(current)):
            raise PreconditionFailed("If-None-Match does not hold: it exists")

    return check


async def delete_manifest(call: Call) -> Reply:
    """Remove a tag, or a manifest with every tag that points at it."""
    reference = tag_or_digest(call.target.last)
    if isinstance(reference, Digest):
        await call.work(call.storage.delete_manifest, call.repository, reference)
    else:
        await call.work(call.storage.delete_tag, call.repository, reference, _condition(call))
    return Response(202)

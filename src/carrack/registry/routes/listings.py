"""Tags, referrers and registry:2's catalog, page by page (distribution-spec, "Content Discovery"): end-8, end-12."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from urllib.parse import quote, urlencode

import msgspec

from carrack.http import Response
from carrack.http.request import Reply
from carrack.oci.descriptor import OCI_INDEX
from carrack.oci.digest import Digest
from carrack.registry.auth.permits import Action
from carrack.registry.errors import BlobCorrupt, DigestInvalid, ManifestInvalid, ManifestUnknown
from carrack.registry.manifests import stored_facts
from carrack.registry.names import content_digest
from carrack.registry.routes.call import Call, json_reply, page_length

_REFERRERS_BYTES = 3 << 20
"""A page of referrers stays below what clients read of a manifest (4 MiB)."""


async def base(call: Call) -> Reply:
    """The registry is here, speaks this protocol, and knows who asks."""
    return Response(200, b"{}", {"Content-Type": "application/json"})


async def tags(call: Call) -> Reply:
    """A repository's tags in byte order."""
    length = page_length(call)
    names = await call.work(_tags_page, call, length)
    return _page_reply(call, {"name": call.repository, "tags": names[:length]}, names, length)


def _tags_page(call: Call, length: int) -> list[str]:
    return _page(call.storage.tags(call.repository, call.request.query.get("last")), length)


async def catalog(call: Call) -> Reply:
    """Repositories in byte order, those that the asker may pull from."""
    length = page_length(call)
    names = await call.work(_catalog_page, call, length)
    return _page_reply(call, {"repositories": names[:length]}, names, length)


def _catalog_page(call: Call, length: int) -> list[str]:
    names = call.storage.repositories(call.request.query.get("last"))
    if call.permit.identity.grants is not None:
        return _page(names, length)  # the token service said: the whole catalog
    return _page((name for name in names if call.may(Action.PULL, name)), length)


def _page(names: Iterator[str], length: int) -> list[str]:
    """One more than the page, to see whether another follows."""
    return list(islice(names, length + 1)) if length else []


def _page_reply(call: Call, document: object, names: list[str], length: int) -> Response:
    headers = {}
    if len(names) > length:
        headers["Link"] = _link(call, {"n": str(length), "last": names[length - 1]})
    return json_reply(document, headers)


def _link(call: Call, parameters: dict[str, str]) -> str:
    """RFC 5988; the path is our own, rebuilt from what was understood."""
    return f'<{quote(call.request.path)}?{urlencode(parameters)}>; rel="next"'


async def referrers(call: Call) -> Reply:
    """An index of the manifests that name the digest as their subject; `artifactType` filters."""
    subject = content_digest(call.target.last)
    wanted = call.request.query.get("artifactType")
    last = call.request.query.get("last")
    found, more = await call.work(_referrers_page, call, subject, wanted, last)
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    if more is not None:
        asked = {name: call.request.query.get(name) for name in ("artifactType", "n")}
        headers["Link"] = _link(call, {**{name: text for name, text in asked.items() if text}, "last": str(more)})
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
    return json_reply(document, headers, OCI_INDEX)


def _referrers_page(call: Call, subject: Digest, wanted: str, last: str) -> tuple[list[msgspec.Raw], Digest | None]:
    """Encoded descriptors, and the digest of the last one when others follow."""
    if last:
        try:
            after = content_digest(last)
        except DigestInvalid as error:
            raise DigestInvalid("last is no digest") from error
    size = 0
    page: list[msgspec.Raw] = []
    previous: Digest | None = None
    for digest in call.storage.referrers(call.repository, subject):
        if last and digest <= after:
            continue
        descriptor = _descriptor(call, digest, wanted)
        if descriptor is None:
            continue
        size += len(descriptor)
        if page and (size > _REFERRERS_BYTES or len(page) >= page_length(call)):
            return page, previous
        page.append(msgspec.Raw(descriptor))
        previous = digest
    return page, None


def _descriptor(call: Call, digest: Digest, wanted: str) -> bytes | None:
    """A referrer's descriptor with its artifact type and annotations; None when it is of another type, or gone meanwhile."""
    try:
        content = call.storage.manifest(call.repository, digest)
        facts = stored_facts(content)
    except (ManifestUnknown, ManifestInvalid, BlobCorrupt):
        return None
    if wanted and facts.artifact_type != wanted:
        return None
    descriptor: dict[str, object] = {"mediaType": facts.media_type, "digest": str(digest), "size": len(content)}
    if facts.artifact_type:
        descriptor["artifactType"] = facts.artifact_type
    if facts.annotations:
        descriptor["annotations"] = facts.annotations
    return msgspec.json.encode(descriptor)

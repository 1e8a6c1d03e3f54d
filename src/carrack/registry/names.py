"""The grammar of distribution-spec ("Pulling manifests") and the requests it makes: a path in, a `Target` out.

Pure: nothing here knows a store or a user. A path that is no endpoint of the spec is None, a name that breaks the grammar is
refused with NAME_INVALID, so `..`, empty components, upper case and control characters never reach a file system.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.registry.errors import DigestInvalid, ManifestInvalid, NameInvalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_UPLOAD_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME_LIMIT = 229
"""Clients bound host, `/` and name together to 255 characters (the spec's implementers' note works the number out)."""


class Kind(enum.Enum):
    """What a request is about; the value names the route in metrics and in the access log."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint with its names. `last` is the tag, digest or upload id as written in the path."""

    kind: Kind
    repository: str = ""
    last: str = ""


_SHAPES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"(.+)/blobs/uploads/?", re.DOTALL), Kind.UPLOADS),
    (re.compile(r"(.+)/blobs/uploads/([^/]+)", re.DOTALL), Kind.UPLOAD),
    (re.compile(r"(.+)/blobs/([^/]+)", re.DOTALL), Kind.BLOB),
    (re.compile(r"(.+)/manifests/([^/]+)", re.DOTALL), Kind.MANIFEST),
    (re.compile(r"(.+)/referrers/([^/]+)", re.DOTALL), Kind.REFERRERS),
    (re.compile(r"(.+)/tags/list", re.DOTALL), Kind.TAGS),
)


def parse_path(path: str) -> Target | None:
    """The endpoint a decoded path names, or None for no endpoint. Raises NameInvalid for a name outside the grammar."""
    if path in ("/v2", "/v2/"):
        return Target(Kind.BASE)
    if path == "/v2/_catalog":
        return Target(Kind.CATALOG)
    if not path.startswith("/v2/"):
        return None
    rest = path[4:]
    for shape, kind in _SHAPES:
        match = shape.fullmatch(rest)
        if match is not None:
            return Target(kind, repository_name(match.group(1)), match.group(2) if match.lastindex == 2 else "")
    return None


def repository_name(text: str) -> str:
    """`text` itself when it is a repository name. Raises NameInvalid."""
    if len(text) > _NAME_LIMIT:
        raise NameInvalid(f"repository name must not be more than {_NAME_LIMIT} characters")
    if _REPOSITORY.fullmatch(text) is None:
        raise NameInvalid("invalid repository name", detail={"name": text})
    return text


def tag_name(text: str) -> str:
    """`text` itself when it is a tag. Raises ManifestInvalid."""
    if _TAG.fullmatch(text) is None:
        raise ManifestInvalid("manifest tag is invalid", detail={"tag": text})
    return text


def is_upload_id(text: str) -> bool:
    """Whether `text` has the shape of the ids given out here; nothing else may become a directory name."""
    return _UPLOAD_ID.fullmatch(text) is not None


def content_digest(text: str) -> Digest:
    """A digest from a path or a query. Raises DigestInvalid."""
    try:
        return Digest.parse(text)
    except InvalidParameter as error:
        raise DigestInvalid(error.message, detail={"digest": text}) from error


def tag_or_digest(text: str) -> str | Digest:
    """The last part of a manifest path: a digest when it has a colon, else a tag. Raises DigestInvalid or ManifestInvalid."""
    return content_digest(text) if ":" in text else tag_name(text)

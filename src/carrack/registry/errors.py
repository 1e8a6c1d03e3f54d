"""The refusals of distribution-spec ("Error Codes"), each a class that carries its code and its status.

Raised where the cause is known, written out once by `refusal_of`. A failure without a code of its own is mapped by its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from carrack.errors import (
    CarrackError,
    Conflict,
    DataCorrupt,
    Forbidden,
    InvalidParameter,
    NotFound,
    Unauthorized,
    Unavailable,
)

Detail = dict[str, object] | list[dict[str, object]] | str | None


class RegistryError(CarrackError):
    """A refusal the spec has a word for. `detail` is what a client may use; `headers` go out with the answer."""

    code: ClassVar[str] = "UNSUPPORTED"
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, detail: Detail = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        self.headers = dict(headers or {})


class BlobUnknown(RegistryError, NotFound):
    """The repository does not hold the blob."""

    code, status = "BLOB_UNKNOWN", 404


class BlobUploadInvalid(RegistryError, InvalidParameter):
    """The upload cannot go on as asked."""

    code, status = "BLOB_UPLOAD_INVALID", 400


class UploadRangeInvalid(RegistryError, InvalidParameter):
    """A chunk does not begin where the upload ends."""

    code, status = "BLOB_UPLOAD_INVALID", 416


class UploadBusy(RegistryError, Conflict):
    """Another request is writing to this upload."""

    code, status = "BLOB_UPLOAD_INVALID", 409


class BlobUploadUnknown(RegistryError, NotFound):
    """No such upload in this repository."""

    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class DigestInvalid(RegistryError, InvalidParameter):
    """A digest is malformed, or is not that of the content."""

    code, status = "DIGEST_INVALID", 400


class ManifestBlobUnknown(RegistryError, InvalidParameter):
    """A manifest names content the repository does not hold."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 404


class ManifestInvalid(RegistryError, InvalidParameter):
    """A manifest is not what it says, or not valid at all."""

    code, status = "MANIFEST_INVALID", 400


class ManifestTooLarge(RegistryError, InvalidParameter):
    """A manifest exceeds the limit."""

    code, status = "MANIFEST_INVALID", 413


class ManifestUnknown(RegistryError, NotFound):
    """The repository holds no such manifest or tag."""

    code, status = "MANIFEST_UNKNOWN", 404


class TooManyTags(RegistryError, InvalidParameter):
    """More tags in one push than are taken."""

    code, status = "MANIFEST_INVALID", 414


class NameInvalid(RegistryError, InvalidParameter):
    """A repository name or a tag breaks the grammar."""

    code, status = "NAME_INVALID", 400


class NameUnknown(RegistryError, NotFound):
    """No such repository."""

    code, status = "NAME_UNKNOWN", 404


class SizeInvalid(RegistryError, InvalidParameter):
    """The body is shorter or longer than was said."""

    code, status = "SIZE_INVALID", 400


class BlobTooLarge(RegistryError, InvalidParameter):
    """A blob exceeds the configured limit."""

    code, status = "SIZE_INVALID", 413


class PageInvalid(RegistryError, InvalidParameter):
    """`n` is not a number of entries."""

    code, status = "PAGINATION_NUMBER_INVALID", 400


class AuthenticationRequired(RegistryError, Unauthorized):
    """No credentials, or wrong ones; the challenge travels in `headers`."""

    code, status = "UNAUTHORIZED", 401


class Denied(RegistryError, Forbidden):
    """Known, and not allowed."""

    code, status = "DENIED", 403


class TooManyRequests(RegistryError, Unavailable):
    """Too many wrong passwords from one place; `Retry-After` travels in `headers`."""

    code, status = "TOOMANYREQUESTS", 429


class Unsupported(RegistryError):
    """The method or the operation is not offered here."""

    code, status = "UNSUPPORTED", 405


class PreconditionFailed(RegistryError, Conflict):
    """If-Match or If-None-Match does not hold (RFC 9110, 13.1)."""

    code, status = "DENIED", 412


class BlobCorrupt(RegistryError, DataCorrupt):
    """Stored bytes are not what their digest promises: they are never served."""

    code, status = "BLOB_UNKNOWN", 500


_BY_KIND: tuple[tuple[type[CarrackError], int, str], ...] = (
    (NotFound, 404, "NAME_UNKNOWN"),
    (InvalidParameter, 400, "UNSUPPORTED"),
    (Unauthorized, 401, "UNAUTHORIZED"),
    (Forbidden, 403, "DENIED"),
    (Conflict, 409, "DENIED"),
    (Unavailable, 503, "UNAVAILABLE"),
    (CarrackError, 500, "UNKNOWN"),
)


def refusal_of(error: CarrackError) -> tuple[int, bytes, dict[str, str]]:
    """Status, JSON body and headers of the answer to a failed request (distribution-spec, "Error Codes")."""
    headers: dict[str, str] = {}
    detail: Detail = None
    if isinstance(error, RegistryError):
        status, code, detail = error.status, error.code, error.detail
        headers.update(error.headers)
    else:
        status, code = next((status, code) for kind, status, code in _BY_KIND if isinstance(error, kind))
    entry: dict[str, object] = {"code": code, "message": error.message}
    if detail is not None:
        entry["detail"] = detail
    headers["Content-Type"] = "application/json"
    try:
        body = msgspec.json.encode({"errors": [entry]})
    except UnicodeEncodeError:  # bytes of the client's that are no text, quoted back
        message = error.message.encode("utf-8", "replace").decode()
        body = msgspec.json.encode({"errors": [{"code": code, "message": message}]})
    return status, body, headers

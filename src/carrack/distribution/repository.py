"""One repository of one registry: its manifests and blobs, read and written (distribution-spec, "Pull" and "Push").

Each call authenticates itself, tries again what is worth it (a broken connection, 429, 5xx) with growing pauses, and speaks of
failures in Docker's words. Digests of manifests are checked here; those of blobs by who writes them down.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar
from urllib.parse import quote, urlencode, urlunsplit

import msgspec

from carrack.distribution.cancellation import Cancellation
from carrack.distribution.credentials import Credentials
from carrack.distribution.endpoints import Endpoint
from carrack.distribution.tokens import Tokens
from carrack.distribution.transport import Answer, Body, Transport, TransportFailure, joined, split
from carrack.errors import CarrackError, DataCorrupt, Forbidden, InvalidParameter, NotFound, Unauthorized, Unavailable
from carrack.oci.descriptor import INDEX_TYPES, MANIFEST_LIMIT_BYTES, MANIFEST_TYPES, Descriptor
from carrack.oci.digest import Digest

PULL = "pull"
PUSH = "pull,push"

_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_AGAIN = frozenset((408, 429, 500, 502, 503, 504))
_ERROR_LIMIT_BYTES = 64 << 10
_NEXT_PAGE = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_LIST_LIMIT_BYTES = 64 << 20
"""How long the pages of one list may be together: a million tags."""
_SMALLEST_PAGE_BYTES = 64 << 10
"""What a page counts for that is smaller: one that names itself as the next has no end."""


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Error] | None = None


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class _Catalog(msgspec.Struct):
    repositories: list[str] | None = None


_Page = TypeVar("_Page", _Tags, _Catalog)


class Repository:
    """A repository at one endpoint, as one person; without a path the registry as a whole. Safe from any thread.

    `cancel` ends its waiting.
    """

    def __init__(
        self, transport: Transport, tokens: Tokens, endpoint: Endpoint, path: str, credentials: Credentials, cancel: Cancellation
    ) -> None:
        self._transport = transport
        self._tokens = tokens
        self.endpoint = endpoint
        self._path = path
        self._base = f"{endpoint.url}/v2/{path}" if path else f"{endpoint.url}/v2"
        self._credentials = credentials
        self._cancel = cancel

    def manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest, with its descriptor. Raises DataCorrupt, InvalidParameter, and as `_call`."""
        answer = self._call("GET", f"manifests/{reference}", {"Accept": _ACCEPT})
        content = answer.read(MANIFEST_LIMIT_BYTES)
        wanted = Digest.parse(reference) if ":" in reference else None
        stated = answer.header("Docker-Content-Digest")
        if wanted is None and stated:
            wanted = Digest.parse(stated)
        digest = _digest_of(content, wanted.algorithm if wanted else "sha256")
        if wanted is not None and digest != wanted:
            raise DataCorrupt(f"manifest verification failed for digest {wanted}: the content is {digest}")
        media_type = answer.header("Content-Type").partition(";")[0].strip()
        return Descriptor(media_type, str(digest), len(content)), content

    def has_manifest(self, reference: str) -> Descriptor | None:
        """What a tag or digest stands for, without reading it."""
        try:
            answer = self._call("HEAD", f"manifests/{reference}", {"Accept": _ACCEPT})
        except NotFound:
            return None
        answer.finish()
        digest, length = answer.header("Docker-Content-Digest"), answer.header("Content-Length")
        if not digest or _number(length) is None:
            return self.manifest(reference)[0]
        return Descriptor(answer.header("Content-Type").partition(";")[0].strip(), digest, _number(length) or 0)

    def blob(self, digest: Digest, offset: int = 0) -> tuple[Generator[bytes, None, None], int]:
        """A blob's bytes from an offset on, and where they really begin: a registry without ranges begins at 0."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._call("GET", f"blobs/{digest}", headers, accept=(200, 206))
        return answer.pieces(), offset if answer.status == 206 else 0

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository holds a blob."""
        try:
            self._call("HEAD", f"blobs/{digest}", {}, actions=PUSH).finish()
        except NotFound:
            return False
        return True

    def mount(self, digest: Digest, source: str) -> bool:
        """Have a blob of another repository of this registry appear here. False when that was not possible."""
        source = self.endpoint.path(source)
        query = urlencode({"mount": str(digest), "from": source})
        try:
            answer = self._call("POST", f"blobs/uploads/?{query}", {}, accept=(201, 202), actions=PUSH, also=source)
        except (Unauthorized, Forbidden, NotFound):
            return False
        location = answer.header("Location")
        answer.finish()
        if answer.status == 202 and location:
            self._abandon(location)
        return answer.status == 201

    def upload(self, digest: Digest, size: int, content: Callable[[int], Iterator[bytes]]) -> None:
        """Send a blob. `content` gives its bytes from an offset on, again when a broken upload is resumed.

        Raises Unavailable when it could not be sent, and as `_call`.
        """
        location, offset = self._begin_upload(), 0
        for attempt in range(_ATTEMPTS):
            try:
                if size > offset:
                    headers = {"Content-Type": "application/octet-stream"}
                    if offset:
                        headers["Content-Range"] = f"{offset}-{size - 1}"
                    answer = self._send("PATCH", location, headers, content(offset), size - offset, accept=(201, 202, 204))
                    location = self._next(answer, location)
                break
            except TransportFailure:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._pause(attempt, "")
                location, offset = self._resume_upload(location)
        separator = "&" if "?" in location else "?"
        self._send("PUT", f"{location}{separator}digest={quote(str(digest), safe='')}", {}, None, None, accept=(201, 204)).finish()

    def put_manifest(self, reference: str, media_type: str, content: bytes) -> Digest:
        """Write a manifest or index under a tag or its digest."""
        answer = self._call(
            "PUT", f"manifests/{reference}", {"Content-Type": media_type}, body=content, accept=(200, 201, 202), actions=PUSH
        )
        stated = answer.header("Docker-Content-Digest")
        answer.finish()
        digest = Digest.of(content)
        if stated and stated != str(digest):
            raise DataCorrupt(f"the registry stored {stated} where {digest} was sent")
        return digest

    def tags(self) -> list[str]:
        """Every tag."""
        return [tag for page in self._pages("tags/list", _Tags) for tag in page.tags or ()]

    def catalog(self) -> list[str]:
        """The names of the registry's repositories (of the registry as a whole)."""
        return [name for page in self._pages("_catalog", _Catalog) for name in page.repositories or ()]

    def _pages(self, path: str, kind: type[_Page]) -> Iterator[_Page]:
        """A list that comes page by page (distribution-spec, "Listing Tags")."""
        asked, left = path, _LIST_LIMIT_BYTES
        while left > 0:
            answer = self._call("GET", asked, {})
            more = _NEXT_PAGE.search(answer.header("Link"))
            content = answer.read(MANIFEST_LIMIT_BYTES)
            left -= max(len(content), _SMALLEST_PAGE_BYTES)
            try:
                yield msgspec.json.decode(content, type=kind)
            except (msgspec.DecodeError, RecursionError) as error:
                raise Unavailable(f"{self.endpoint.host}: its {path} cannot be read") from error
            if more is None:
                return
            asked = f"{path}?{split(more[1]).query}"
        raise Unavailable(f"{self.endpoint.host}: its {path} has no end")

    # ── one call ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        *,
        body: bytes | None = None,
        accept: tuple[int, ...] = (200,),
        actions: str = PULL,
        also: str = "",
    ) -> Answer:
        """Send a request until it succeeds or is refused.

        Raises NotFound, Unauthorized, Forbidden, InvalidParameter, Unavailable after the last attempt, Cancelled.
        """
        url = f"{self._base}/{path}"
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._authorized(method, url, headers, body, None, actions, also)
            except TransportFailure:
                if self.endpoint.mirror or attempt == _ATTEMPTS - 1 or not self._reached:
                    raise
                self._pause(attempt, "")
                continue
            self._reached = True
            if answer.status in accept:
                return answer
            if answer.status not in _AGAIN or attempt == _ATTEMPTS - 1 or self.endpoint.mirror:
                raise self._failure(answer)
            after = answer.header("Retry-After")
            answer.close()
            self._pause(attempt, after)
        raise AssertionError("unreachable")

    _reached = False
    """Whether the endpoint ever answered: a host that was never reached is not tried for half a minute."""

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: Body | None, length: int | None, accept: tuple[int, ...]
    ) -> Answer:
        """One request of an upload, once: its body cannot be sent again from here."""
        answer = self._authorized(method, url, headers, body, length, PUSH, "")
        if answer.status not in accept:
            raise self._failure(answer)
        return answer

    def _authorized(
        self, method: str, url: str, headers: dict[str, str], body: Body | None, length: int | None, actions: str, also: str
    ) -> Answer:
        self._cancel.check()
        scope = f"repository:{self._path}:{actions}" if self._path else "registry:catalog:*"
        scope += f" repository:{also}:pull" if also else ""
        trust = self.endpoint.trust
        same = split(url)[:2] == split(self.endpoint.url)[:2]
        token = self._tokens.kept(self.endpoint, scope, self._credentials) if same else ""
        fields = headers | ({"Authorization": token} if token else {})
        answer = self._transport.request(method, url, fields, body=body, length=length, trust=trust, cancel=self._cancel)
        if answer.status != 401 or not same or not (body is None or isinstance(body, bytes)):
            return answer
        challenges = answer.headers("WWW-Authenticate")
        answer.finish()
        fields = headers | {"Authorization": self._tokens.answer(self.endpoint, challenges, scope, self._credentials, self._cancel)}
        return self._transport.request(method, url, fields, body=body, length=length, trust=trust, cancel=self._cancel)

    def _failure(self, answer: Answer) -> CarrackError:
        """An answer that refuses, as a kind with the registry's own words."""
        try:
            content = answer.read(_ERROR_LIMIT_BYTES)
            errors = msgspec.json.decode(content, type=_Errors).errors or []
        except (msgspec.DecodeError, RecursionError, InvalidParameter, TransportFailure):
            errors = []
        text = "; ".join(
            f"{error.code.lower().replace('_', ' ')}: {error.message}" for error in errors[:3] if error.code or error.message
        )
        status = answer.status
        if status == 401:
            return Unauthorized(text or "unauthorized: authentication required")
        if status == 403:
            return Forbidden(text or "denied: requested access to the resource is denied")
        if status == 404:
            return NotFound(text or "not found")
        if status == 429:
            return Unavailable(text or "toomanyrequests: too many requests")
        if status < 500:
            return InvalidParameter(f"{self.endpoint.host} refused with status {status}: {text or 'no reason given'}")
        return Unavailable(f"{self.endpoint.host} answered with status {status}{': ' + text if text else ''}")

    def _pause(self, attempt: int, after: str) -> None:
        """Wait before another attempt, as long as the registry asks for or a little longer each time."""
        seconds = _FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.75, 1.25)
        seconds = _number(after) or seconds
        if self._cancel.wait(min(seconds, _LONGEST_PAUSE_SECONDS)):
            self._cancel.check()

    # ── uploads ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_upload(self) -> str:
        answer = self._call("POST", "blobs/uploads/", {}, accept=(202,), actions=PUSH)
        return self._next(answer, f"{self._base}/blobs/uploads/")

    def _resume_upload(self, location: str) -> tuple[str, int]:
        """Where a broken upload stands; a new one when the registry has forgotten it."""
        try:
            answer = self._send("GET", location, {}, None, None, accept=(204,))
        except (NotFound, InvalidParameter):
            return self._begin_upload(), 0
        have = answer.header("Range").partition("-")[2]
        last = _number(have)
        return self._next(answer, location), last + 1 if last else 0

    def _next(self, answer: Answer, url: str) -> str:
        """Where an upload goes on. Only at the endpoint itself: nobody else gets what we send."""
        location = joined(url, answer.header("Location") or url)
        answer.finish()
        there, here = split(location), split(self.endpoint.url)
        if there.netloc != here.netloc:
            raise Forbidden(f"{self.endpoint.host} wants the upload sent to {there.netloc}: refused")
        # A registry behind a proxy that ends TLS may name itself by http.
        return urlunsplit((here.scheme, there.netloc, there.path, there.query, ""))

    def _abandon(self, location: str) -> None:
        """Cancel an upload that was begun instead of a mount."""
        try:
            url = joined(f"{self._base}/blobs/uploads/", location)
            if split(url)[:2] == split(self.endpoint.url)[:2]:
                self._send("DELETE", url, {}, None, None, accept=(202, 204)).finish()
        except CarrackError:
            return  # it expires by itself


def _number(text: str) -> int | None:
    """The number that a header field gives; None for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _digest_of(content: bytes, algorithm: str) -> Digest:
    import hashlib

    return Digest(algorithm, hashlib.new(algorithm, content).hexdigest())

"""Files by HTTP: fetched once, and asked about afterwards.

`downloads/` holds each content under its sha256, and for each URL what the server said of it (ETag, Last-Modified), so that the
next build asks with a condition and a server that answers 304 sends nothing. There is one ceiling; the least recently used goes.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import os
import posixpath
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from carrack import __version__
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter, NotFound, SystemFailure, Unavailable

if TYPE_CHECKING:
    from carrack.distribution.transport import Answer

KEPT_BYTES = 2 << 30
_UNFINISHED = "new-"


class _Facts(msgspec.Struct):
    url: str
    digest: str
    filename: str
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that a server gave. `path` stays until the next `trim`."""

    path: Path
    digest: str
    """``sha256:…`` of its content."""
    filename: str
    modified_seconds: int
    """By its Last-Modified; 0 when the server said nothing."""


class Downloads:
    """The downloads of a data-root. Safe from any thread."""

    def __init__(self, root: Path, kept_bytes: int = KEPT_BYTES) -> None:
        self._root = root
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for unfinished in root.glob(f"{_UNFINISHED}*"):
            unfinished.unlink(missing_ok=True)

    def get(self, url: str, headers: Mapping[str, str], cancel: Cancellation) -> Downloaded:
        """What a URL gives now. Raises NotFound, InvalidParameter, Unavailable, Cancelled."""
        plain, authorization = without_credentials(url)
        asked = {"User-Agent": f"carrack/{__version__}", **authorization, **headers}
        private = bool(headers or authorization)
        known = None if private else self._known(plain)
        if known is not None:
            if known.etag:
                asked["If-None-Match"] = known.etag
            elif known.last_modified:
                asked["If-Modified-Since"] = known.last_modified
        return self._fetch(plain, asked, known, cancel, keep=not private)

    def find(self, url: str, digest: str) -> Downloaded | None:
        """A content that a URL gave before, without asking again."""
        path = self._root / digest.removeprefix("sha256:")
        try:
            os.utime(path)
        except OSError:
            return None
        facts = self._known(without_credentials(url)[0])
        if facts is not None and facts.digest == digest:
            return _downloaded(path, facts)
        return Downloaded(path, digest, filename_of(url), 0)

    def trim(self) -> None:
        """Remove what is over the ceiling, the least recently used first."""
        with self._lock:
            files = sorted(((each.stat().st_mtime, each) for each in self._root.iterdir()), reverse=True)
            total = 0
            for _, path in files:
                total += path.stat().st_size
                if total > self._kept_bytes:
                    path.unlink(missing_ok=True)

    def prune(self) -> int:
        """Remove everything. Returns the bytes."""
        with self._lock:
            freed = 0
            for path in self._root.iterdir():
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
            return freed

    @property
    def idle_bytes(self) -> int:
        """What is kept."""
        return sum(path.stat().st_size for path in self._root.iterdir())

    def _fetch(self, url: str, headers: dict[str, str], known: _Facts | None, cancel: Cancellation, *, keep: bool) -> Downloaded:
        from carrack.distribution.transport import Transport  # rare: not worth its memory at every start

        transport = Transport()
        try:
            answer = transport.request("GET", url, headers, cancel=cancel, to_plain=True)
            if answer.status == http.client.OK:
                return self._store(url, answer, cancel, keep=keep)
        except Unavailable as error:
            cancel.check()
            raise Unavailable(f"cannot read {error.message}") from error
        finally:
            transport.close()
        answer.close()
        if answer.status == http.client.NOT_MODIFIED and known is not None:
            return self._again(known)
        kind = NotFound if answer.status in (404, 410) else Unavailable
        raise kind(f"invalid response status {answer.status} for {url}")

    def _store(self, url: str, answer: Answer, cancel: Cancellation, *, keep: bool) -> Downloaded:
        summing = hashlib.sha256()
        temporary = self._root / f"{_UNFINISHED}{os.urandom(8).hex()}"
        try:
            with temporary.open("xb") as file:
                for piece in answer.pieces():
                    cancel.check()
                    summing.update(piece)
                    file.write(piece)
            path = self._root / summing.hexdigest()
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        facts = _Facts(
            url,
            f"sha256:{summing.hexdigest()}",
            filename_of(url, answer.header("Content-Disposition")),
            answer.header("ETag"),
            answer.header("Last-Modified"),
        )
        if keep and (facts.etag or facts.last_modified):
            self._facts_path(url).write_bytes(msgspec.json.encode(facts))
        return _downloaded(path, facts)

    def _known(self, url: str) -> _Facts | None:
        try:
            facts = msgspec.json.decode(self._facts_path(url).read_bytes(), type=_Facts)
        except (OSError, msgspec.MsgspecError):
            return None
        return facts if facts.url == url and (self._root / facts.digest.removeprefix("sha256:")).is_file() else None

    def _again(self, facts: _Facts) -> Downloaded:
        path = self._root / facts.digest.removeprefix("sha256:")
        try:
            os.utime(path)
        except OSError as error:
            raise SystemFailure(f"{path} went while it was used: {error.strerror}") from error
        return _downloaded(path, facts)

    def _facts_path(self, url: str) -> Path:
        return self._root / f"{hashlib.sha256(url.encode()).hexdigest()}.json"


def filename_of(url: str, disposition: str = "") -> str:
    """The name of what a URL gives: as the server says, else the last word of its path, else ``download``."""
    message = Message()
    message["Content-Disposition"] = disposition or "inline"
    name = posixpath.basename(message.get_filename() or "") or posixpath.basename(unquote(urlsplit(url).path))
    return name if name not in ("", ".", "..") and "\0" not in name and len(name) <= 255 else "download"


def without_credentials(url: str) -> tuple[str, dict[str, str]]:
    """A URL without the user and password in it, and the header that they become. Raises InvalidParameter."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidParameter(f"unsupported URL {url!r}: want http or https")
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    if parts.username is None:
        return plain, {}
    from base64 import b64encode

    account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return plain, {"Authorization": f"Basic {b64encode(account.encode()).decode()}"}


def _downloaded(path: Path, facts: _Facts) -> Downloaded:
    moment = email.utils.parsedate_tz(facts.last_modified) if facts.last_modified else None
    seconds = email.utils.mktime_tz(moment) if moment else 0
    return Downloaded(path, facts.digest, facts.filename, max(0, seconds))

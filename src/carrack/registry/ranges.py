"""Ranges and conditions: `Content-Range` of upload chunks, `Range` of downloads, `If-*` preconditions (RFC 9110, 13 and 14).

Pure functions from header text to values; an absent header is the empty string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from carrack.registry.errors import BlobUploadInvalid

_CHUNK = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?")
_BYTE_RANGE = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")


@dataclass(frozen=True, slots=True)
class Span:
    """Some consecutive bytes: from `start`, `length` of them."""

    start: int
    length: int

    @property
    def last(self) -> int:
        """The position of the last byte, as headers count it."""
        return self.start + self.length - 1


class Unsatisfiable(Exception):
    """No byte of the content lies in the range asked for: 416."""


def upload_range(size: int) -> str:
    """The `Range` header of an upload that has `size` bytes: inclusive, so an empty upload also says ``0-0`` as clients expect."""
    return f"0-{max(size - 1, 0)}"


def chunk_span(content_range: str) -> Span | None:
    """The bytes a chunk says it is, None when it says nothing.

    The spec's form is ``<start>-<end>``; ``bytes <start>-<end>/<total>`` is what some older clients send. Raises BlobUploadInvalid.
    """
    if not content_range:
        return None
    match = _CHUNK.fullmatch(content_range.strip())
    if match is None:
        raise BlobUploadInvalid("content range is invalid: want <start>-<end>", detail={"range": content_range[:100]})
    start, last = int(match.group(1)), int(match.group(2))
    if last < start:
        raise BlobUploadInvalid("content range ends before it starts", detail={"range": content_range[:100]})
    return Span(start, last - start + 1)


def requested_span(range_header: str, size: int) -> Span | None:
    """The one range of a download, cut to `size`; None when the whole is to be sent.

    Another unit, a malformed value and a list of several ranges are ignored, as RFC 9110 14.2 allows. Raises Unsatisfiable.
    """
    unit, equals, value = range_header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    match = _BYTE_RANGE.fullmatch(value.strip())
    if match is None or not (match.group(1) or match.group(2)):
        return None
    if not match.group(1):
        length = min(int(match.group(2)), size)
        if length == 0:
            raise Unsatisfiable
        return Span(size - length, length)
    start = int(match.group(1))
    last = min(int(match.group(2)), size - 1) if match.group(2) else size - 1
    if match.group(2) and int(match.group(2)) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Span(start, last - start + 1)


def lists_tag(condition: str, entity_tag: str) -> bool:
    """Whether an `If-Match` / `If-None-Match` value names `entity_tag` (weak comparison: blobs and manifests never change)."""
    wanted = entity_tag.strip('"')
    for item in condition.split(","):
        item = item.strip().removeprefix("W/").strip('"')
        if item in ("*", wanted):
            return True
    return False

"""Content-Range, Range and the conditions, as RFC 9110 and distribution-spec write them."""

from __future__ import annotations

import pytest

from carrack.registry.errors import BlobUploadInvalid
from carrack.registry.ranges import Span, Unsatisfiable, chunk_span, lists_tag, requested_span, upload_range


def test_a_chunk_is_inclusive_on_both_ends() -> None:
    assert chunk_span("0-9") == Span(0, 10)
    assert chunk_span("10-10") == Span(10, 1)
    assert chunk_span("bytes 5-9/*") == Span(5, 5)
    assert chunk_span("") is None


@pytest.mark.parametrize("text", ["9-0", "a-b", "0-", "-5", "0", "0-9,10-19", "0 - 9", "-1-5", "1" * 30 + "-" + "2" * 30, "٣-٤"])
def test_a_malformed_chunk_range_is_refused(text: str) -> None:
    with pytest.raises(BlobUploadInvalid):
        chunk_span(text)


def test_the_range_of_an_upload_names_its_last_byte() -> None:
    assert upload_range(10) == "0-9"
    assert upload_range(0) == "0-0"


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-3", Span(0, 4)),
        ("bytes=2-", Span(2, 8)),
        ("bytes=-3", Span(7, 3)),
        ("bytes=-30", Span(0, 10)),
        ("bytes=5-500", Span(5, 5)),
        ("Bytes=9-9", Span(9, 1)),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=3-1", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=x-1", None),
    ],
)
def test_a_download_range_of_ten_bytes(header: str, span: Span | None) -> None:
    assert requested_span(header, 10) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
)
def test_a_range_beyond_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        requested_span(header, size)


@pytest.mark.parametrize(
    ("condition", "named"),
    [('"sha256:a"', True), ('"x", W/"sha256:a"', True), ("*", True), ("sha256:a", True), ('"sha256:b"', False), ("", False)],
)
def test_a_condition_names_an_entity_tag(condition: str, named: bool) -> None:
    assert lists_tag(condition, '"sha256:a"') is named

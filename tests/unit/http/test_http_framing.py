"""Heads and bodies are found wherever the bytes happen to be cut, and nothing past them is touched."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.errors import InvalidParameter
from carrack.http.framing import BrokenFraming, ChunkedBody, HeadTooLarge, Inbox, LengthBody
from carrack.http.head import parse_head, split_target
from carrack.http.headers import Query

HEAD = b"POST /a?b=c HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\n"


def cut(content: bytes, places: list[int]) -> list[bytes]:
    """The content in pieces, cut at these places."""
    edges = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[start:end] for start, end in itertools.pairwise(edges)]


@given(places=st.lists(st.integers(0, 200)), tail=st.binary(max_size=50))
def test_a_head_and_its_body_are_found_however_they_are_cut(places: list[int], tail: bytes) -> None:
    inbox, body = Inbox(), LengthBody(5)
    found, taken = None, b""
    for piece in cut(HEAD + b"hello" + tail, places):
        inbox.feed(piece)
        found = found or inbox.head(1000)
        while found and (part := body.next(inbox)):
            taken += part
    assert (found, taken) == (HEAD, b"hello")
    assert inbox.size_bytes == len(tail)
    assert inbox.rest() == tail


@given(chunks=st.lists(st.binary(min_size=1, max_size=300)), places=st.lists(st.integers(0, 5000)), tail=st.binary(max_size=50))
def test_chunks_are_joined_however_they_are_cut(chunks: list[bytes], places: list[int], tail: bytes) -> None:
    content = b"".join(b"%X;note=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    inbox, body = Inbox(), ChunkedBody()
    taken = b""
    for piece in cut(content + tail, places):
        inbox.feed(piece)
        while (part := body.next(inbox)) is not None:
            taken += part
    assert body.finished
    assert taken == b"".join(chunks)
    assert inbox.rest() == tail


@given(content=st.binary(max_size=400), places=st.lists(st.integers(0, 400)))
def test_any_bytes_are_a_body_or_broken_framing(content: bytes, places: list[int]) -> None:
    inbox, body = Inbox(), ChunkedBody()
    try:
        for piece in cut(content, places):
            inbox.feed(piece)
            while body.next(inbox) is not None:
                pass
    except BrokenFraming:
        return
    assert inbox.size_bytes <= len(content)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_head_or_broken_framing(content: bytes) -> None:
    try:
        head = parse_head(content + b"\r\n\r\n")
    except BrokenFraming:
        return
    assert head.method


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_any_target_is_a_path_or_an_invalid_parameter(target: str) -> None:
    try:
        path, _ = split_target(target)
    except InvalidParameter:
        return
    assert "?" not in target or path is not None


def test_empty_lines_before_a_request_are_skipped() -> None:
    inbox = Inbox()
    inbox.feed(b"\r\n\r\n" + HEAD)
    assert inbox.head(1000) == HEAD


def heads_of(inbox: Inbox, pieces: list[bytes]) -> None:
    """Looks for a head after each piece."""
    for piece in pieces:
        inbox.feed(piece)
        inbox.head(1000)


@pytest.mark.parametrize("step", range(1, 9))
def test_lines_that_end_in_line_feeds_alone_are_refused_however_they_are_cut(step: int) -> None:
    content = b"GET / HTTP/1.1\nHost: d\n\n"
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    with pytest.raises(BrokenFraming, match="CR LF"):
        heads_of(Inbox(), pieces)


@pytest.mark.parametrize("step", [1, 7, 5000])
def test_a_head_that_never_ends_is_refused_at_the_limit(step: int) -> None:
    inbox = Inbox()
    for _ in range(0, 1000 - step + 1, step):
        inbox.feed(b"x" * step)
        assert inbox.head(1000) is None
    inbox.feed(b"x" * step)
    with pytest.raises(HeadTooLarge):
        inbox.head(1000)


def test_a_chunk_line_that_never_ends_is_refused() -> None:
    inbox, body = Inbox(), ChunkedBody()
    inbox.feed(b"1;" + b"x" * 10_000)
    with pytest.raises(BrokenFraming):
        body.next(inbox)


def test_trailers_without_end_are_refused() -> None:
    inbox, body = Inbox(), ChunkedBody()
    inbox.feed(b"0\r\n" + b"X: y\r\n" * 10_000)
    with pytest.raises(BrokenFraming):
        body.next(inbox)


def test_a_query_is_read_as_gos_net_url_reads_it() -> None:
    query = Query("a=1&a=2&b&c=x+y%2B&=z&flag=None&d=%C3%A4")
    assert query.all("a") == ["1", "2"]
    assert (query.get("b", "absent"), query.get("zz", "absent")) == ("", "absent")
    assert (query.get("c"), query.get("d")) == ("x y+", "ä")
    assert (query.flag("flag"), query.flag("a"), query.flag("zz", default=True), query.flag("b")) == (False, True, True, False)


@pytest.mark.parametrize("text", ["a=%", "a=%2", "%zz=1"])
def test_a_broken_escape_in_a_query_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid URL escape"):
        Query(text)


@pytest.mark.parametrize("text", ["x", "1.5", "9223372036854775808", "٣", "--1"])
def test_what_is_no_64_bit_integer_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"strconv\.Atoi"):
        Query(f"n={text}").integer("n")


def test_an_absent_or_empty_integer_is_none() -> None:
    assert Query("n=").integer("n") is None
    assert Query("n=-5").integer("n") == -5


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b?x", "/a b"),
        ("http://host/a/b", "/a/b"),
        ("http://host", "/"),
        ("*", "*"),
        ("/a#b", "/a"),
        ("/a?u=http://x/y", "/a"),
    ],
)
def test_a_target_is_read_in_each_of_its_forms(target: str, path: str) -> None:
    assert split_target(target)[0] == path

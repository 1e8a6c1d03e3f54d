"""JSON and frames as they come out of a stream, cut anywhere."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.client import codec
from carrack.client.failure import ProtocolError
from carrack.client.frames import STDERR, STDOUT, FrameReader

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)

small = st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.integers() | st.booleans(), max_size=3)


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_frames_may_arrive_one_byte_at_a_time() -> None:
    reader = FrameReader()
    pieces = [piece for byte in frame(STDOUT, b"out") + frame(STDERR, b"err") for piece in reader.feed(bytes([byte]))]
    assert b"".join([data for stream, data in pieces if stream == STDOUT]) == b"out"
    assert b"".join([data for stream, data in pieces if stream == STDERR]) == b"err"
    assert reader.between_frames


def test_the_beginning_of_a_long_frame_is_handed_on_at_once() -> None:
    assert FrameReader().feed(frame(STDOUT, b"x" * 100)[:20]) == [(STDOUT, b"x" * 12)]


def test_an_empty_frame_is_nothing() -> None:
    assert FrameReader().feed(frame(STDOUT, b"") + frame(STDOUT, b"a")) == [(STDOUT, b"a")]


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ProtocolError, match="Unrecognized input header: 9"):
        FrameReader().feed(frame(9, b"x"))


@given(values)
def test_what_we_write_any_json_reader_reads(value: object) -> None:
    assert json.loads(codec.encode(value)) == value


@given(values)
def test_we_read_what_any_json_writer_writes(value: object) -> None:
    assert codec.decode(json.dumps(value).encode()) == value


@given(st.lists(small, min_size=1, max_size=4), st.integers(1, 7))
def test_documents_of_a_stream_may_be_cut_anywhere(documents: list[object], size: int) -> None:
    stream = "\r\n".join([json.dumps(document, ensure_ascii=False) for document in documents]).encode("utf-8", "surrogatepass")
    reader = codec.DocumentReader()
    read = [document for at in range(0, len(stream), size) for document in reader.feed(stream[at : at + size])]
    assert read == documents


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a" 1}', "{} x", "nul"])
def test_what_is_not_one_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON|Expecting|Illegal|property|delimiter"):
        codec.decode(text)


def test_html_is_escaped_only_on_request() -> None:
    assert codec.encode("<a&b>") == '"<a&b>"'
    assert codec.encode("<a&b>", escape_html=True) == '"\\u003ca\\u0026b\\u003e"'


@pytest.mark.parametrize(
    ("number", "text"), [(1.0, "1"), (0.5, "0.5"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-7, "1e-7")]
)
def test_numbers_are_written_as_go_writes_them(number: float, text: str) -> None:
    assert codec.encode(number) == text

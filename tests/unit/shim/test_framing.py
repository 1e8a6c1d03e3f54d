"""Docker's stream header and HTTP's chunks."""

from __future__ import annotations

from carrack.shim.framing import STDERR, chunk, frame_header


def test_a_frame_header_names_the_stream_and_the_length() -> None:
    assert frame_header(STDERR, 0x01020304) == b"\x02\0\0\0\x01\x02\x03\x04"


def test_a_chunk_says_its_length_in_hexadecimal() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


def test_nothing_makes_no_chunk_because_that_would_end_the_body() -> None:
    assert chunk(b"") == b""

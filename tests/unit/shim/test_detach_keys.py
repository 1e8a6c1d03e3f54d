"""The detach keys end a client, wherever packets cut them, and eat nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.shim.detach import DetachKeys

KEYS = b"\x10\x11"


def feed(sequence: bytes, *packets: bytes) -> tuple[bytes, bool]:
    keys, passed = DetachKeys(sequence), b""
    for packet in packets:
        part, detached = keys.feed(packet)
        passed += part
        if detached:
            return passed, True
    return passed, False


def test_the_sequence_in_one_packet_detaches() -> None:
    assert feed(KEYS, b"ls\x10\x11") == (b"ls", True)


def test_the_sequence_across_packets_detaches() -> None:
    assert feed(KEYS, b"ls\x10", b"\x11") == (b"ls", True)


def test_a_broken_sequence_goes_on_to_the_container() -> None:
    assert feed(KEYS, b"\x10", b"x") == (b"\x10x", False)


def test_a_begun_sequence_is_held_back() -> None:
    assert feed(KEYS, b"a\x10") == (b"a", False)


def test_the_byte_that_breaks_a_sequence_may_begin_it_anew() -> None:
    assert feed(KEYS, b"\x10\x10\x11") == (b"\x10", True)


def test_a_sequence_that_contains_its_own_beginning_is_found() -> None:
    assert feed(b"aab", b"aaab") == (b"a", True)


def test_without_keys_everything_goes_on() -> None:
    assert feed(b"", b"\x10\x11") == (b"\x10\x11", False)


def test_what_is_held_back_at_the_end_is_given_out() -> None:
    keys = DetachKeys(KEYS)
    keys.feed(b"\x10")
    assert keys.rest() == b"\x10"


@pytest.mark.parametrize("sequence", [b"a", b"ab", b"aab", b"abab"])
@given(packets=st.lists(st.text("abc", max_size=6).map(str.encode), max_size=6))
def test_input_is_cut_exactly_before_the_first_sequence(sequence: bytes, packets: list[bytes]) -> None:
    keys, passed, detached = DetachKeys(sequence), b"", False
    for packet in packets:
        part, detached = keys.feed(packet)
        passed += part
        if detached:
            break
    whole = b"".join(packets)
    assert detached == (sequence in whole)
    assert passed + (b"" if detached else keys.rest()) == whole.partition(sequence)[0]

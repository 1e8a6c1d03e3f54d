"""The `until` filter."""

from __future__ import annotations

import time

import pytest

from carrack.api.until import parse_until
from carrack.errors import InvalidParameter


def test_a_duration_counts_back_from_now() -> None:
    before = time.time_ns()
    moment = parse_until("1h30m")
    assert before - 5400 * 10**9 <= moment <= time.time_ns() - 5400 * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1700000000", 1700000000 * 10**9),
        ("1700000000.25", 1700000000250000000),
        ("2023-11-14T22:13:20Z", 1700000000 * 10**9),
        ("2023-11-14T23:13:20+01:00", 1700000000 * 10**9),
        ("2023-11-14T22:13:20.5Z", 1700000000500000000),
    ],
)
def test_moments_are_read_as_docker_reads_them(text: str, nanoseconds: int) -> None:
    assert parse_until(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "1d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'until="):
        parse_until(text)

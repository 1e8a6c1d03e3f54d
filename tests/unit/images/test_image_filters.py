"""images.listing and images.moments: the patterns and the times that filters take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from carrack.errors import InvalidParameter
from carrack.images.image import created_microseconds
from carrack.images.listing import flag, glob
from carrack.images.moments import parse_moment

NOW = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("nginx", "nginx", True),
        ("ngin*", "nginx", True),
        ("*", "team/nginx", False),
        ("*/*", "team/nginx", True),
        ("ngin?", "nginx", True),
        ("ngin?", "ngin/", False),
        ("[m-o]ginx", "nginx", True),
        ("[^m-o]ginx", "nginx", False),
        ("a.b", "axb", False),
        (r"\*", "*", True),
    ],
)
def test_a_pattern_fits_as_gos_path_match(pattern: str, name: str, fits: bool) -> None:
    assert bool(glob(pattern).fullmatch(name)) is fits


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[a-]", "a\\", "[z-a]"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        glob(pattern)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
        ("2024-01-02T03", datetime(2024, 1, 2, 3, tzinfo=UTC)),
        ("2024-01-02T03:04", datetime(2024, 1, 2, 3, 4, tzinfo=UTC)),
        ("2024-01-02T03:04:05.5Z", datetime(2024, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2024-01-02T03:04:05+02:00", datetime(2024, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("86400", datetime(1970, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_in_each_of_dockers_forms(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "24x", "2024-13-01", "1" * 40])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to parse"):
        parse_moment(text, NOW)


def test_a_flag_is_read_in_each_of_gos_spellings() -> None:
    assert [flag({"x": (text,)}, "x") for text in ("1", "true", "TRUE", "t", "0", "false")] == [True] * 4 + [False] * 2
    assert flag({}, "x") is None


@pytest.mark.parametrize("values", [("maybe",), ("true", "false")])
def test_a_flag_that_is_neither_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'x="):
        flag({"x": values}, "x")


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("2024-01-02T03:04:05.678901234Z", 1_704_164_645_678_901),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        (None, None),
        ("", None),
        ("not a time", None),
    ],
)
def test_an_images_time_is_read_with_its_fraction(text: str | None, microseconds: int | None) -> None:
    assert created_microseconds(text) == microseconds

"""What a log holds and what a reader may ask of it; how the two are written to a client (`docker logs`, `attach?logs=1`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from carrack.shim.framing import STDERR, STDOUT, frame_header

PARTIAL_BYTES = 16 * 1024
"""A line that reaches this length without an end is logged in parts, as Docker does."""

_BLOCK_BYTES = 65536


class LogRecord(NamedTuple):
    """One line, or one part of an overlong one (then without its line feed)."""

    stream: int
    """1: standard output (and a terminal's), 2: standard error."""
    time_nanoseconds: int
    line: bytes
    attributes: dict[str, str]


class LogRequest(msgspec.Struct, frozen=True):
    """Which records to give."""

    stdout: bool = True
    stderr: bool = True
    since_nanoseconds: int = 0
    until_nanoseconds: int = 0
    """0: no bound."""
    tail: int = -1
    """Begin with the last `tail` records; -1: all."""

    def wants(self, stream: int) -> bool:
        return self.stdout if stream == STDOUT else self.stderr and stream == STDERR


class Rendering(NamedTuple):
    """How records are shown."""

    framed: bool = True
    timestamps: bool = False
    details: bool = False


class Batch(NamedTuple):
    """Lines of one stream that were written at one time."""

    stream: int
    time_nanoseconds: int
    lines: list[bytes]
    attributes: dict[str, str]


def split_lines(content: bytes) -> list[bytes]:
    """Lines with their line feeds; the last may be without one."""
    lines = content.split(b"\n")
    last = lines.pop()
    whole = [line + b"\n" for line in lines]
    if last:
        whole.append(last)
    return whole


def render(batch: Batch, how: Rendering) -> bytes:
    """The bytes a client gets for a batch: one frame per line, as Docker sends them."""
    prefix = b""
    if how.timestamps:
        prefix = format_time(batch.time_nanoseconds) + b" "
    if how.details:
        prefix += format_attributes(batch.attributes) + b" "
    lines: Sequence[bytes] = batch.lines
    if prefix:
        lines = [prefix + line for line in lines]
    if not how.framed:
        return b"".join(lines)
    stream = batch.stream
    return b"".join([frame_header(stream, len(line)) + line for line in lines])


def render_all(batches: Iterable[Batch], how: Rendering) -> Iterable[bytes]:
    """Rendered batches gathered into blocks worth a write."""
    gathered: list[bytes] = []
    size = 0
    for batch in batches:
        rendered = render(batch, how)
        gathered.append(rendered)
        size += len(rendered)
        if size >= _BLOCK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def format_attributes(attributes: dict[str, str]) -> bytes:
    """`--details`: sorted ``key=value`` pairs, query-escaped, joined by commas."""
    pairs = [f"{_query_escape(key)}={_query_escape(attributes[key])}" for key in sorted(attributes)]
    return ",".join(pairs).encode()


_UNESCAPED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def _query_escape(text: str) -> str:
    """Go's url.QueryEscape; urllib is too heavy for a shim."""
    return "".join(chr(b) if b in _UNESCAPED else "+" if b == 0x20 else f"%{b:02X}" for b in text.encode())


# ── times: RFC 3339 in UTC, without the datetime module's microseconds ─────────────────────────────────────────────────


def format_time(nanoseconds: int) -> bytes:
    """Nine fixed digits, as `logs -t` prints them: ``2024-05-01T10:00:00.000000000Z``."""
    return b"%b.%09dZ" % (_seconds_text(nanoseconds // 1_000_000_000), nanoseconds % 1_000_000_000)


def format_time_trimmed(nanoseconds: int) -> bytes:
    """Go's RFC3339Nano, as json-file stores it: trailing zeros of the fraction are left out."""
    fraction = (b".%09d" % (nanoseconds % 1_000_000_000)).rstrip(b"0").rstrip(b".")
    return _seconds_text(nanoseconds // 1_000_000_000) + fraction + b"Z"


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; ValueError when it is none."""
    day = text[:10]
    days = _days(int(day[0:4]), int(day[5:7]), int(day[8:10]))
    seconds = days * 86400 + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    rest = text[19:]
    nanoseconds = 0
    if rest.startswith("."):
        digits = rest[1:10]
        length = next((i for i, c in enumerate(digits) if not c.isdigit()), len(digits))
        nanoseconds = int(digits[:length].ljust(9, "0"))
        rest = rest[1 + length :]
    if rest not in ("Z", "z"):
        sign = -1 if rest[0] == "+" else 1
        seconds += sign * (int(rest[1:3]) * 3600 + int(rest[4:6]) * 60)
    return seconds * 1_000_000_000 + nanoseconds


_last_seconds = (-1, b"")


def _seconds_text(seconds: int) -> bytes:
    """``YYYY-MM-DDTHH:MM:SS``; lines of one second share it."""
    global _last_seconds
    if _last_seconds[0] != seconds:
        days, rest = divmod(seconds, 86400)
        year, month, day = _date(days)
        text = b"%04d-%02d-%02dT%02d:%02d:%02d" % (year, month, day, rest // 3600, rest // 60 % 60, rest % 60)
        _last_seconds = (seconds, text)
    return _last_seconds[1]


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the proleptic Gregorian calendar; years are counted from March so that leap days come last."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _date(days: int) -> tuple[int, int, int]:
    """The inverse of `_days`."""
    era, of_era = divmod(days + 719468, 146097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + (3 if shifted < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day

"""Times as Docker's API writes and reads them, and durations as `docker ps` says them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from carrack.errors import InvalidParameter

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: what never happened."""

_TIMESTAMP = re.compile(r"(-?\d{1,18})(?:\.(\d*))?")


def rfc3339(nanoseconds: int) -> str:
    """Nanoseconds since 1970 as Go's RFC3339Nano in UTC, trailing zeros of the fraction cut; 0 is Go's zero time."""
    if not nanoseconds:
        return ZERO
    seconds, fraction = divmod(nanoseconds, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def parse_timestamp(text: str, name: str) -> int:
    """``seconds[.fraction]`` since 1970 in nanoseconds; empty is 0. Raises InvalidParameter."""
    if not text:
        return 0
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise InvalidParameter(f'invalid value for "{name}": strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(match[1]) * 10**9 + int(((match[2] or "") + "0" * 9)[:9])


def human_duration(seconds: float) -> str:
    """``5 minutes``, ``About an hour``, ``3 weeks``: the words of Docker's lists."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if (minutes := int(seconds / 60)) < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, divisor, unit in ((24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 365 * 2, 24 * 30, "months")):
        if hours < limit:
            return f"{hours // divisor} {unit}"
    return f"{int(seconds / 3600) // 24 // 365} years"

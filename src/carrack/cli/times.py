"""Moments as people write them for --since and --until, as the API wants them: `seconds.nanoseconds`."""

from __future__ import annotations

import time

from carrack.cli.values import read_duration

_FORMATS = (
    ("%Y-%m-%dT%H:%M:%S", True),
    ("%Y-%m-%dT%H:%M", True),
    ("%Y-%m-%dT%H", True),
    ("%Y-%m-%d", True),
)


def api_timestamp(text: str) -> str:
    """A duration before now, an RFC 3339 moment (local time when it names no zone), a day, or seconds since the epoch.

    Raises ValueError with Docker's text.
    """
    try:
        ago = read_duration(text)
    except ValueError:
        pass
    else:
        if text != "0":
            return _seconds(time.time_ns() - ago)
    whole, dot, fraction = text.partition(".")
    if whole.lstrip("-").isdigit() and (not dot or fraction.isdigit()) and not (dot and ":" in text):
        return text if not dot else f"{whole}.{fraction.ljust(9, '0')}"
    return _parse_moment(text)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _parse_moment(text: str) -> str:
    import calendar

    moment, offset = _split_zone(text)
    moment, dot, fraction = moment.partition(".")
    for layout, _ in _FORMATS:
        try:
            parts = time.strptime(moment, layout)
        except ValueError:
            continue
        seconds = calendar.timegm(parts) - offset if offset is not None else int(time.mktime(parts))
        nanoseconds = int((fraction + "000000000")[:9]) if dot and fraction.isdigit() else 0
        return f"{seconds}.{nanoseconds:09d}"
    raise ValueError(f'failed to parse value as time or duration: "{text}"')


def _split_zone(text: str) -> tuple[str, int | None]:
    if text.endswith(("Z", "z")):
        return text[:-1], 0
    tail = text[-6:]
    if "T" in text and len(tail) == 6 and tail[0] in "+-" and tail[3] == ":" and (tail[1:3] + tail[4:]).isdigit():
        seconds = int(tail[1:3]) * 3600 + int(tail[4:]) * 60
        return text[:-6], seconds if tail[0] == "+" else -seconds
    return text, None

"""The `until` filter of prune: a moment before which an object must have been made."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from carrack.errors import InvalidParameter

_DURATION = re.compile(r"(?:\d{1,18}(?:\.\d{1,18})?(?:h|m|s|ms|us|µs|ns)){1,20}")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}
_EPOCH = re.compile(r"(\d{1,18})(?:\.(\d+))?")
_FORMS = ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def parse_until(text: str) -> int:
    """Nanoseconds since 1970 for a Go duration back from now (``24h``), seconds since 1970, or a date as RFC 3339 writes it.

    A date without a zone is in the daemon's own (it runs in UTC or not). Raises InvalidParameter.
    """
    if _DURATION.fullmatch(text):
        return time.time_ns() - int(sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text)))
    if epoch := _EPOCH.fullmatch(text):
        return int(epoch[1]) * 10**9 + int(((epoch[2] or "") + "0" * 9)[:9])
    zoned = re.fullmatch(r"(.*\d)(Z|[+-]\d\d:\d\d)", text) if "T" in text else None
    bare = zoned[1] if zoned else text
    for form in _FORMS:
        try:
            moment = datetime.strptime(bare[:26], form)  # noqa: DTZ007 - the zone follows
        except ValueError:
            continue
        if zoned:
            zone = UTC if zoned[2] == "Z" else datetime.strptime(zoned[2], "%z").tzinfo
            moment = moment.replace(tzinfo=zone)
        try:
            return int(moment.timestamp() * 10**9)
        except (ValueError, OverflowError):  # a day of the year one, before it began in this zone
            break
    raise InvalidParameter(f"invalid filter 'until=[\"{text}\"]': failed to parse value as a time or a duration")

"""The moments that Docker's filters name: a duration back from now, a date, or seconds of the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from carrack.errors import InvalidParameter

_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIX = re.compile(r"\d+(?:\.\d+)?")
_HOUR_ONLY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)(Z|[+-]\d\d:\d\d)?")


def parse_moment(text: str, now: datetime) -> datetime:
    """Read ``24h``, ``2024-01-02``, ``2024-01-02T15:04:05Z`` or ``1136073845.5``. Raises InvalidParameter."""
    try:
        if _DURATION.fullmatch(text):
            return now - timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
        if _UNIX.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        hour = _HOUR_ONLY.fullmatch(text)
        moment = datetime.fromisoformat(f"{hour[1]}:00{hour[2] or ''}" if hour else text)
    except (ValueError, OverflowError, OSError):
        raise InvalidParameter(f"failed to parse value as time or duration: {text!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

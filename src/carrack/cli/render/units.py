"""Sizes and durations in the words Docker's command uses; Go's number formats where it uses those."""

from __future__ import annotations

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def go_general(value: float, precision: int) -> str:
    """Go's %.*g: at least two digits in the exponent, no trailing zeros."""
    return f"{value:.{precision}g}"


def _scaled(size: float, factor: float, units: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= factor and index < len(units) - 1:
        size /= factor
        index += 1
    return go_general(size, precision) + units[index]


def human_size(size: float, precision: int = 4) -> str:
    """Powers of 1000: `1.24MB`."""
    return _scaled(float(size), 1000.0, _DECIMAL, precision)


def binary_size(size: float) -> str:
    """Powers of 1024: `1.182MiB`."""
    return _scaled(float(size), 1024.0, _BINARY, 4)


def human_duration(seconds: float) -> str:
    """About how long: `2 minutes`, `About an hour`, `3 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def short_id(identity: str) -> str:
    """The first twelve characters of an id, its algorithm left out."""
    _, colon, rest = identity.partition(":")
    return (rest if colon else identity)[:12]


def ellipsis(text: str, width: int) -> str:
    """Text cut to a display width, with an ellipsis in the last place."""
    if text.isascii():
        return text if len(text) <= width else text[: width - 1] + "…"
    from carrack.cli.render.table import display_width

    if display_width(text) <= width:
        return text
    kept = ""
    for character in text:
        if display_width(kept + character) > width - 1:
            break
        kept += character
    return kept + "…"


def local_time(seconds: int, nanoseconds: int = 0) -> str:
    """A moment as Go prints a time.Time: `2006-01-02 15:04:05.5 +0000 UTC`."""
    import time

    moment = time.localtime(seconds)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", moment)
        + fraction
        + " "
        + _offset(moment.tm_gmtoff)
        + " "
        + _zone(moment.tm_zone, moment.tm_gmtoff)
    )


def _offset(seconds: int) -> str:
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{abs(seconds) // 3600:02d}{abs(seconds) % 3600 // 60:02d}"


def _zone(name: str, offset: int) -> str:
    return "UTC" if offset == 0 and name in ("UTC", "GMT", "Universal") else name


def rfc3339_nano(nanoseconds: int) -> str:
    """A moment in local time with nine digits of a second, as events and logs show it."""
    import time

    moment = time.localtime(nanoseconds // 10**9)
    offset = _offset(moment.tm_gmtoff)
    zone = "Z" if moment.tm_gmtoff == 0 else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{nanoseconds % 10**9:09d}{zone}"


def parse_rfc3339(text: str) -> tuple[int, int]:
    """(seconds since the epoch, nanoseconds) of an API timestamp. Raises ValueError."""
    import calendar
    import time

    date = text[:19]
    moment = calendar.timegm(time.strptime(date, "%Y-%m-%dT%H:%M:%S"))
    rest = text[19:]
    nanoseconds = 0
    if rest.startswith("."):
        digits = rest[1:]
        end = len(digits) - len(digits.lstrip("0123456789"))
        nanoseconds = int((digits[:end] + "000000000")[:9])
        rest = digits[end:]
    if rest in ("Z", "z"):
        return moment, nanoseconds
    if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":":
        raise ValueError(f"cannot parse {text!r} as a time")
    offset = int(rest[1:3]) * 3600 + int(rest[4:6]) * 60
    return moment - (offset if rest[0] == "+" else -offset), nanoseconds

"""API versions: which are served, how they compare, and which Docker release stands for each."""

from __future__ import annotations

from functools import cache

from carrack.errors import InvalidParameter

MIN_VERSION = "1.24"
MAX_VERSION = "1.56"
"""The newest version whose changes are carried for every route that is served: raised when all of the next one's are."""

DOCKER_RELEASES = {
    "1.43": "24.0.9",
    "1.44": "25.0.5",
    "1.45": "26.1.4",
    "1.46": "27.1.2",
    "1.47": "27.5.1",
    "1.48": "28.0.4",
    "1.49": "28.1.1",
    "1.50": "28.2.2",
    "1.51": "28.5.2",
    "1.52": "29.1.5",
    "1.53": "29.2.1",
    "1.54": "29.5.3",
    "1.55": "29.7.2",
    "1.56": "29.8.0",
}
"""The release of Docker that `version` and `info` report for the newest version offered."""


@cache
def number(version: str) -> tuple[int, ...]:
    """A version as something that compares: 1.9 before 1.24."""
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        raise InvalidParameter(f"invalid API version: {version}") from None


def at_least(version: str, bound: str) -> bool:
    """Whether a version is the bound or newer."""
    return number(version) >= number(bound)


def check(version: str, minimum: str, maximum: str) -> None:
    """Raises InvalidParameter in Docker's words when a client asks for a version outside the bounds."""
    if number(version) < number(minimum):
        raise InvalidParameter(
            f"client version {version} is too old. Minimum supported API version is {minimum}, "
            "please upgrade your client to a newer version"
        )
    if number(version) > number(maximum):
        raise InvalidParameter(f"client version {version} is too new. Maximum supported API version is {maximum}")

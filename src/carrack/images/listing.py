"""Which images a list shows: Docker's filters, and its rule about images without a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

from carrack.errors import InvalidParameter
from carrack.images.image import Image
from carrack.images.index import ImageIndex
from carrack.images.moments import parse_moment

KNOWN = ("before", "dangling", "label", "label!", "reference", "since", "until")
PRUNE_KNOWN = ("dangling", "label", "label!", "until")
Filters = Mapping[str, Sequence[str]]
_Test = Callable[[Image], bool]


def narrow(index: ImageIndex, filters: Filters, *, all: bool = False) -> list[Image]:
    """The images that pass the filters, the newest first, each with the names that pass them.

    An image without a name is shown when nothing was built from it, or with `all`. Raises InvalidParameter, NotFound for the image
    of `before` or `since`.
    """
    dangling = flag(filters, "dangling")
    tests = _tests(index, filters)
    patterns = [glob(pattern) for pattern in filters.get("reference", ())]
    parents = index.parents()
    shown: list[Image] = []
    for image in index.all():
        if not all_pass(tests, image):
            continue
        if patterns:
            image = replace(
                image,
                names=tuple(name for name in image.names if _name_matches(patterns, name)),
                repo_digests=tuple(name for name in image.repo_digests if _name_matches(patterns, name)),
            )
        if not image.names and not image.repo_digests:
            if patterns or dangling is False or (image.id in parents and (not all or dangling)):
                continue
        elif dangling and (image.names or image.id in parents):
            continue
        shown.append(image)
    return shown


def check_known(filters: Filters, known: Sequence[str]) -> None:
    """Refuse filters that this list does not have, in Docker's words."""
    for name in filters:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'")


def flag(filters: Filters, name: str) -> bool | None:
    """A filter that is true or false; None when it was not given. Raises InvalidParameter."""
    values = filters.get(name, ())
    if not values:
        return None
    known = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}
    found = {known.get(value.lower()) for value in values}
    if len(found) != 1 or None in found:
        raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")
    return found.pop()


def label_tests(filters: Filters) -> list[_Test]:
    """The filters on labels: each `label` must be there, no `label!` may."""
    tests: list[_Test] = []
    for wanted in filters.get("label", ()):
        tests.append(lambda image, wanted=wanted: _has_label(image, wanted))  # type: ignore[misc]
    for unwanted in filters.get("label!", ()):
        tests.append(lambda image, unwanted=unwanted: not _has_label(image, unwanted))  # type: ignore[misc]
    return tests


def until_tests(filters: Filters) -> list[_Test]:
    """The filter on age: created before the moment given."""
    moments = filters.get("until", ())
    if len(moments) > 1:
        raise InvalidParameter("more than one until filter specified")
    if not moments:
        return []
    until = parse_moment(moments[0], datetime.now(UTC))
    return [lambda image: image.created is None or image.created <= until]


def all_pass(tests: Sequence[_Test], image: Image) -> bool:
    """Whether an image passes each test."""
    return all(test(image) for test in tests)


def _tests(index: ImageIndex, filters: Filters) -> list[_Test]:
    tests = label_tests(filters) + until_tests(filters)
    for ref in filters.get("before", ()):
        before = _created(index.get(index.resolve(ref).id))
        tests.append(lambda image, before=before: _created(image) < before)  # type: ignore[misc]
    for ref in filters.get("since", ()):
        since = _created(index.get(index.resolve(ref).id))
        tests.append(lambda image, since=since: _created(image) > since)  # type: ignore[misc]
    return tests


def _created(image: Image) -> datetime:
    return image.created or datetime.min.replace(tzinfo=UTC)


def _has_label(image: Image, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    labels = image.labels
    return key in labels and (not equals or labels[key] == value)


def _name_matches(patterns: Sequence[re.Pattern[str]], name: str) -> bool:
    """Whether a pattern fits a familiar name, with or without its tag or digest."""
    repository = name.partition("@")[0]
    colon = repository.rfind(":")
    if colon > repository.rfind("/"):
        repository = repository[:colon]
    return any(pattern.fullmatch(name) or pattern.fullmatch(repository) for pattern in patterns)


@cache
def glob(pattern: str) -> re.Pattern[str]:
    """A pattern of Go's path.Match: ``*`` and ``?`` stop at a slash; ``[a-z]``, ``[^a-z]``, backslash. Raises InvalidParameter."""
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if letter == "*":
            parts.append("[^/]*")
        elif letter == "?":
            parts.append("[^/]")
        elif letter == "[":
            text, position = _letters(pattern, position)
            parts.append(text)
        elif letter == "\\":
            if position == len(pattern):
                raise InvalidParameter(f"syntax error in pattern {pattern!r}")
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(letter))
    return re.compile("".join(parts))


def _letters(pattern: str, position: int) -> tuple[str, int]:
    """A class of letters, from behind its bracket."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while True:
        if position >= len(pattern):
            raise InvalidParameter(f"syntax error in pattern {pattern!r}")
        if pattern[position] == "]" and ranges:
            return f"[{'^' if negated else ''}{''.join(ranges)}]", position + 1
        low, position = _letter(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _letter(pattern, position + 1)
        if high < low:
            raise InvalidParameter(f"syntax error in pattern {pattern!r}")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")


def _letter(pattern: str, position: int) -> tuple[str, int]:
    if pattern[position : position + 1] == "\\":
        position += 1
    if position >= len(pattern) or pattern[position] in "-]":
        raise InvalidParameter(f"syntax error in pattern {pattern!r}")
    return pattern[position], position + 1

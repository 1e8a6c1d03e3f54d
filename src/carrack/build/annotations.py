"""``--annotation``: on which of an image's documents each one goes.

Written ``[level,…[platform]:]key=value``. Levels are ``manifest`` (what is meant without one), ``index``, ``manifest-descriptor``
(the manifest's entry in the index) and ``index-descriptor`` (the index's entry in an OCI layout). Source: `docker buildx build`,
"--annotation".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from carrack.errors import InvalidParameter
from carrack.oci.platform import Platform

MANIFEST, INDEX, MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR = "manifest", "index", "manifest-descriptor", "index-descriptor"
_LEVELS = frozenset((MANIFEST, INDEX, MANIFEST_DESCRIPTOR, INDEX_DESCRIPTOR))
_LEVEL = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_./-]+)\])?")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation on one kind of document; `platform` None: of every platform."""

    level: str
    key: str
    value: str
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Annotations:
    """All that a build was asked for."""

    given: tuple[Annotation, ...] = ()

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> Annotations:
        """Read them: what is before each ``=``, and the value. Raises InvalidParameter."""
        return cls(tuple(each for text, value in texts.items() for each in _read(text, value)))

    def on(self, level: str, platform: Platform | None = None) -> dict[str, str] | None:
        """What goes on a document; None for nothing."""
        found = {
            each.key: each.value
            for each in self.given
            if each.level == level and (each.platform is None or (platform is not None and each.platform.matches(platform)))
        }
        return found or None

    def check(self, *, has_index: bool) -> None:
        """Raises InvalidParameter for annotations of an index where there is none."""
        if not has_index and any(each.level in (INDEX, INDEX_DESCRIPTOR, MANIFEST_DESCRIPTOR) for each in self.given):
            raise InvalidParameter("index annotations not supported for single platform export")


def _read(text: str, value: str) -> list[Annotation]:
    levels, colon, key = text.partition(":")
    words = levels.split(",")
    if not colon or not all(_named(word) for word in words):
        levels, words, key = "", [MANIFEST], text  # a key may have a colon of its own
    if not key:
        raise InvalidParameter(f"invalid annotation {text!r}: want key=value")
    found = []
    for word in words:
        match = _LEVEL.fullmatch(word)
        assert match is not None
        platform = Platform.parse(match[2]) if match[2] else None
        if platform is not None and match[1] in (INDEX, INDEX_DESCRIPTOR):
            raise InvalidParameter(f"invalid annotation {text!r}: an index has no platform")
        found.append(Annotation(match[1], key, value, platform))
    return found


def _named(word: str) -> bool:
    match = _LEVEL.fullmatch(word)
    return match is not None and match[1] in _LEVELS

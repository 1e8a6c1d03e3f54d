"""Platforms (image-spec `image-index.md`), their normal form and the order in which a machine prefers them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from carrack.errors import InvalidParameter

_PART = re.compile(r"[A-Za-z0-9_.-]+")
_KNOWN = frozenset("386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split())
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: ``os/architecture[/variant]``."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``linux/arm64/v8``, ``linux/amd64``, or a bare ``arm64``. Raises InvalidParameter."""
        parts = text.strip().split("/")
        for part in parts:
            if _PART.fullmatch(part) is None:
                rule = f'platform specifier component must match "^{_PART.pattern}$"'
                raise InvalidParameter(f'"{part}" is an invalid component of "{text}": {rule}: invalid argument')
        if len(parts) > 3:
            raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
        if len(parts) == 1:
            word = parts[0].lower()
            if word in ("linux", "windows", "darwin", "freebsd"):
                here = machine()
                return cls(word, here.architecture, here.variant)
            architecture, variant = _normal(word, "")
            if architecture not in _KNOWN:
                raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
            return cls("linux", architecture, variant)
        return cls(parts[0].lower(), *_normal(parts[1], parts[2] if len(parts) == 3 else ""))

    def matches(self, offered: Platform) -> bool:
        """Whether something made for `offered` satisfies a wish for this platform."""
        if self.os != offered.os:
            return False
        mine = _normal(self.architecture, self.variant)
        theirs = _normal(offered.architecture, offered.variant)
        if mine[0] != theirs[0]:
            return False
        if mine[0] == "arm" and mine[1] and theirs[1]:
            return theirs[1] <= mine[1]
        return not mine[1] or not theirs[1] or mine[1] == theirs[1]

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def machine() -> Platform:
    """The platform of the machine we run on."""
    return Platform("linux", *_normal(os.uname().machine, ""))


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    known = _ARCHITECTURES.get(architecture)
    if known is not None:
        architecture, variant = known[0], variant or known[1]
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    if architecture == "arm" and variant.isdigit():
        variant = f"v{variant}"
    if architecture == "amd64" and variant == "v1":
        variant = ""
    return architecture, variant

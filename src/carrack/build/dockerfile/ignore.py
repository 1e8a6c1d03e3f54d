"""`.dockerignore`: which paths of a context are left out.

A line is a pattern, `!` in front brings back, the last line that applies decides, and a folder's verdict holds for what is in it.
Blanks at both ends go, `#` at the very start is a comment, a leading slash means nothing, `..` is resolved. A file named like the
Dockerfile with `.dockerignore` behind takes the place of the common one. Source: Docker's manual, "Build context", ".dockerignore
files".
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from carrack.build.dockerfile.failure import Fault, Position, locate
from carrack.build.dockerfile.ignore_pattern import IgnorePattern
from carrack.build.dockerfile.words import SPACES


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: IgnorePattern
    brings_back: bool


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules of one ignore file, in order."""

    rules: tuple[_Rule, ...] = ()

    @property
    def brings_back(self) -> bool:
        """Whether any rule is an exception, so that a folder left out may hold files that are not."""
        return any(rule.brings_back for rule in self.rules)

    def excludes(self, path: str) -> bool:
        """Whether a path relative to the context is left out; slashes divide it, the context itself (`.`) never is."""
        clean = _clean(path)
        if clean == ".":
            return False
        parts = clean.split("/")
        branches = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        excluded = False
        for rule in self.rules:
            if rule.brings_back == excluded and any(rule.pattern.matches(branch) for branch in reversed(branches)):
                excluded = not rule.brings_back
        return excluded

    def may_hold(self, folder: str) -> bool:
        """Whether a folder that is left out can still hold something that an exception brings back: the walk must go in."""
        inside = f"{_clean(folder)}/"
        for rule in self.rules:
            beginning = rule.pattern.literal_beginning
            if rule.brings_back and (
                beginning.startswith(inside) or (beginning != rule.pattern.pattern and inside.startswith(beginning))
            ):
                return True
        return False


def read_ignore_file(content: bytes | str, file: str = ".dockerignore") -> IgnoreRules:
    """Read an ignore file. Raises DockerfileError for a malformed pattern and for a lone `!`."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    lines = tuple(text.removeprefix("\ufeff").split("\n"))
    rules: list[_Rule] = []
    for number, line in enumerate(lines, 1):
        try:
            rule = _rule(line)
        except Fault as fault:
            raise locate(fault, file, lines, Position(number, number)) from None
        if rule is not None:
            rules.append(rule)
    return IgnoreRules(tuple(rules))


def ignore_file_names(dockerfile: str) -> tuple[str, str]:
    """The ignore files to look for, the first that exists counts: the Dockerfile's own beside it, then the context's."""
    return f"{dockerfile}.dockerignore", ".dockerignore"


def _rule(line: str) -> _Rule | None:
    if line.startswith("#"):
        return None
    pattern = line.strip(SPACES)
    brings_back = pattern.startswith("!")
    if brings_back:
        pattern = pattern[1:].strip(SPACES)
        if not pattern:
            raise Fault('illegal exclusion pattern: "!"', "!")
    if not pattern:
        return None
    pattern = _clean(pattern)
    if len(pattern) > 1:
        pattern = pattern.removeprefix("/")
    return _Rule(IgnorePattern(pattern), brings_back)


def _clean(path: str) -> str:
    """Go's `path.Clean`."""
    clean = posixpath.normpath(path)
    return clean[1:] if clean.startswith("//") else clean

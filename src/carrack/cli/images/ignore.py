"""`.dockerignore`: which files of a build context stay here.

Patterns are those of Go's filepath.Match with `**` for any number of folders and `!` for exceptions; the last pattern that
matches a file, or a folder above it, decides.
"""

from __future__ import annotations

import os
import re

from carrack.cli.failure import CommandFailure


class IgnoreRules:
    """The patterns of one file, in order."""

    def __init__(self, patterns: list[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for pattern in patterns:
            excepts = pattern.startswith("!")
            self._rules.append((_compile(pattern[1:] if excepts else pattern), excepts))

    @property
    def has_exceptions(self) -> bool:
        """Whether a file may come back although its folder is ignored, so that ignored folders must be walked."""
        return any(excepts for _, excepts in self._rules)

    def ignores(self, name: str) -> bool:
        """Whether a file (its path in the context, `/` between parts) stays here."""
        ignored = False
        parts = name.split("/")
        for pattern, excepts in self._rules:
            if excepts == ignored and any(pattern.fullmatch("/".join(parts[:count])) for count in range(len(parts), 0, -1)):
                ignored = not excepts
        return ignored


def _compile(pattern: str) -> re.Pattern[str]:
    pieces: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if pattern.startswith("*", at):
                at += 1
                if pattern.startswith("/", at):
                    at += 1
                pieces.append(".*" if at >= len(pattern) else "(.*/)?")
            else:
                pieces.append("[^/]*")
        elif character == "?":
            pieces.append("[^/]")
        elif character == "\\" and at < len(pattern):
            pieces.append(re.escape(pattern[at]))
            at += 1
        elif character == "[" and "]" in pattern[at:]:
            end = pattern.index("]", at + 1)
            pieces.append("[" + pattern[at:end].replace("\\", "\\\\") + "]")
            at = end + 1
        else:
            pieces.append(re.escape(character))
    try:
        return re.compile("".join(pieces), re.DOTALL)
    except re.error:
        raise CommandFailure(f"error checking context: syntax error in pattern: {pattern}") from None


def parse_ignore(text: str) -> list[str]:
    """The patterns of a file: comments and blank lines left out, paths cleaned."""
    patterns: list[str] = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        mark = "!" if pattern.startswith("!") else ""
        clean = pattern[len(mark) :].strip()
        if clean:
            clean = os.path.normpath(clean)
            clean = clean.lstrip("/") if len(clean) > 1 else clean
        patterns.append(mark + clean)
    return patterns


def read_ignore(folder: str, dockerfile: str) -> IgnoreRules:
    """The rules of a context: the Dockerfile and the file itself always travel, the builder leaves them out of images."""
    path = os.path.join(folder, ".dockerignore")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as content:
            patterns = parse_ignore(content.read())
    except FileNotFoundError:
        return IgnoreRules([])
    except OSError as error:
        raise CommandFailure(f"open {path}: {(error.strerror or '').lower()}") from None
    rules = IgnoreRules(patterns)
    kept = [f"!{name}" for name in (".dockerignore", dockerfile) if name and rules.ignores(name)]
    return IgnoreRules([*patterns, *kept])

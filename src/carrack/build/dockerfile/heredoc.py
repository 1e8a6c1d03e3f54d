"""Heredocs: `<<NAME`, `<<-NAME`, `<<"NAME"` and `3<<NAME` on RUN, COPY and ADD, several on one line.

A quoted name means that the content is taken as it is; a minus strips leading tabs from every line (Dockerfile reference,
"Here-Documents").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import Fault

_HEREDOC = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """One heredoc: `content` is what stood between the lines, tabs included."""

    name: str
    descriptor: int = 0
    expand: bool = True
    """Variables in the content are expanded: the name stood in no quotes."""
    chomp: bool = False
    """Leading tabs go: `<<-`."""
    content: str = ""

    @property
    def text(self) -> str:
        """The content as the program or file sees it."""
        return _TABS.sub("", self.content) if self.chomp else self.content

    def ends_at(self, line: str) -> bool:
        """Whether this line of the file closes the heredoc."""
        bare = line.rstrip("\r\n")
        return (bare.lstrip("\t") if self.chomp else bare) == self.name


def parse_heredoc(word: str) -> Heredoc | None:
    """The heredoc that a word opens, None when it opens none. Raises Fault for a name with an open quote."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    plain = Expansion(_unset, keep_unset=True).words(match[3])
    if len(plain) != 1:
        return None
    raw = Expansion(_unset, keep_unset=True, keep_quotes=True).words(match[3])
    if len(raw) != 1:
        raise Fault(f"heredoc name {match[3]} is not one word", match[3])
    return Heredoc(plain[0], int(match[1][:9] or "0"), _quotes(plain[0]) == _quotes(raw[0]), match[2] == "-")


def heredocs_of(line: str) -> tuple[Heredoc, ...]:
    """The heredocs that an instruction's line opens, in order. Raises as `parse_heredoc`."""
    try:
        words = Expansion(_unset, keep_unset=True, keep_quotes=True, keep_escapes=True).words(line)
    except Fault:
        return ()  # a shell command with quotes of its own: the shell will read it, not we
    return tuple(found for word in words if (found := parse_heredoc(word)) is not None)


def _unset(_: str) -> None:
    return None


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')

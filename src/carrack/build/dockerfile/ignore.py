"""`.dockerignore`: which paths of a context are left out.

A line is a pattern, `!` in front brings back, the last line that applies decides, and a folder's verdict holds for what is in it.
Blanks at both ends go, `#` at the very start is a comment, a leading slash means nothing, `..` is resolved. A file named like the
Dockerfile with `.dockerignore` behind takes the place of the common one. Source: Docker's manual, "Build context", ".dockerignore
files".
"""

from __future__ import annotations

from carrack.build.dockerfile.failure import Fault, Position, locate
from carrack.build.dockerfile.words import SPACES
from carrack.errors import InvalidParameter
from carrack.path_patterns import PathRules


def read_ignore_file(content: bytes | str) -> PathRules:
    """Read an ignore file. Raises DockerfileError for a malformed pattern and for a lone `!`."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    lines = tuple(text.removeprefix("\ufeff").split("\n"))
    rules = PathRules()
    for number, line in enumerate(lines, 1):
        pattern = line.strip(SPACES)
        if not pattern or line.startswith("#"):
            continue
        try:
            rules.add(pattern)
        except InvalidParameter as error:
            fault = Fault(error.message, pattern.removeprefix("!").strip(SPACES) or pattern)
            raise locate(fault, ".dockerignore", lines, Position(number, number)) from None
    return rules


def ignore_file_names(dockerfile: str) -> tuple[str, str]:
    """The ignore files to look for, the first that exists counts: the Dockerfile's own beside it, then the context's."""
    return f"{dockerfile}.dockerignore", ".dockerignore"

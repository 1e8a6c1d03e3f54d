"""Files that commands read for their flags, and a whole-or-nothing write."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def read_file(path: str) -> bytes:
    """The whole file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while data := os.read(descriptor, 1 << 20):
            pieces.append(data)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def os_error_text(error: OSError, operation: str = "open") -> str:
    """The text Go gives a failed file operation: `open /x: no such file or directory`."""
    return f"{operation} {error.filename}: {(error.strerror or str(error)).lower()}"


def read_key_values(path: str, lookup: Callable[[str], str | None] | None) -> list[str]:
    """The `KEY=value` lines of an --env-file or --label-file; a key alone is looked up, and left out when not found.

    Raises ValueError with Docker's text.
    """
    try:
        content = read_file(path)
    except IsADirectoryError:
        raise ValueError(f"invalid env file ({path}): read {path}: is a directory") from None
    except OSError as error:
        raise ValueError(os_error_text(error)) from None
    lines: list[str] = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.removesuffix(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            shown = " ".join([str(byte) for byte in raw])
            raise ValueError(f"invalid env file ({path}): invalid utf8 bytes at line {number}: [{shown}]") from None
        if not line or line.startswith("#"):
            continue
        key, equals, _ = line.partition("=")
        if not key:
            raise ValueError(f"invalid env file ({path}): no variable name on line '{line}'")
        if " " in key or "\t" in key:
            raise ValueError(f"invalid env file ({path}): variable '{key}' contains whitespaces")
        if equals:
            lines.append(line)
        elif lookup is not None:
            value = lookup(key)
            if value is not None:
                lines.append(f"{key}={value}")
    return lines


def write_atomically(path: str, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces a file in one step: whoever reads it sees the old content or the new. Raises OSError."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise

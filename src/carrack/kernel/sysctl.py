"""Kernel parameters below /proc/sys, those of the calling thread's network namespace for ``net``.

A key is given in parts rather than with dots, because an interface's name may hold a dot.
"""

from __future__ import annotations

import os


def _path(parts: tuple[str, ...]) -> str:
    for part in parts:
        # A part comes from an interface name at worst; it must not lead to another key (CVE-2022-0811's kind of hole).
        if not part or part in (".", "..") or "/" in part:
            raise ValueError(f"sysctl {'.'.join(parts)}: invalid part {part!r}")
    return "/proc/sys/" + "/".join(parts)


def read(*parts: str) -> str:
    """The value, without its line end. Raises FileNotFoundError where the kernel has no such key."""
    with open(_path(parts), encoding="ascii") as file:
        return file.read().strip()


def write(value: str | int, *parts: str) -> None:
    """Set a value. Raises OSError with the path."""
    fd = os.open(_path(parts), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode("ascii"))
    finally:
        os.close(fd)


def write_if_there(value: str | int, *parts: str) -> bool:
    """Set a value where the kernel knows the key; False where it does not (a kernel without IPv6, say)."""
    try:
        write(value, *parts)
    except FileNotFoundError:
        return False
    return True

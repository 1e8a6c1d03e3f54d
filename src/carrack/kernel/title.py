"""The name by which ps and /proc/PID/comm show this process.

The arguments lie in one piece of the stack that the kernel reads for /proc/PID/cmdline; a shorter text is written over them
(PR_SET_MM_ARG_START would need CAP_SYS_RESOURCE).
"""

from __future__ import annotations

import os

_NAME_BYTES = 15

_ARGUMENTS_START_FIELD = 48
"""proc_pid_stat(5): arg_start; arg_end follows."""


def argument_area() -> tuple[int, int]:
    """(address, length) of this process's arguments; the same in every fork of it."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = (int(each) for each in fields[_ARGUMENTS_START_FIELD - 3 :][:2])
    return start, end - start


def set_title(area: tuple[int, int], title: str) -> None:
    """Show `title` (cut to the area's length) instead of the arguments, and its beginning as the process's name."""
    show(area[0], fitted(area[1], title))


def fitted(length: int, title: str) -> bytes:
    """`title`, so many bytes long: cut, or with NULs behind it."""
    text = title.encode()[: length - 1]
    return text + bytes(length - len(text))


def show(address: int, text: bytes) -> None:
    """Write there what `fitted` gave."""
    fd = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    os.pwrite(fd, text, address)
    os.close(fd)
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, text[:_NAME_BYTES])
    os.close(fd)

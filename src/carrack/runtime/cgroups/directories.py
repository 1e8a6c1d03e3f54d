"""What both versions do with cgroup directories: write and read small files, list and kill the processes below, remove the tree."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

_REMOVE_SECONDS = 5.0


def write_file(path: str, value: str) -> None:
    """Write one value to a cgroup file. Raises OSError naming the file; FileNotFoundError for a group that is being removed."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(_number(error), f"write {value!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def read_file(path: str) -> str:
    """A whole cgroup file. Raises OSError; FileNotFoundError for a group that is being removed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode()
    except OSError as error:
        raise OSError(_number(error), error.strerror, path) from None
    finally:
        os.close(fd)


def _number(error: OSError) -> int:
    """The kernel says ENODEV of a file whose group was removed after it was opened, as systemd does with a scope that is empty."""
    return errno.ENOENT if error.errno == errno.ENODEV else error.errno or errno.EIO


def make_directory(path: str) -> None:
    """mkdir -p; an existing one is fine."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_directory(path.rpartition("/")[0])
        make_directory(path)


def below(directory: str) -> list[str]:
    """The directory and every cgroup below it, deepest first."""
    found: list[str] = []
    try:
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    for child in children:
        found += below(child)
    found.append(directory)
    return found


def pids_below(directory: str, file: str) -> list[int]:
    """Every pid in the cgroup and those below; nothing when it is gone. A 0 (of another pid namespace) is left out."""
    pids: list[int] = []
    for each in below(directory):
        try:
            text = read_file(f"{each}/{file}")
        except OSError:
            continue
        pids += [pid for pid in map(int, text.split()) if pid]
    return pids


def kill_each(processes: Callable[[], list[int]], signal: int) -> None:
    """Signal every process that `processes` names; one that is already gone is fine."""
    for pid in processes():
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            pass


def remove_tree(directories: tuple[str, ...]) -> None:
    """Remove cgroup directories with everything below. While dying processes still hold one, try again for some seconds."""
    deadline = 0.0
    pause = 0.0005
    left = directories
    while True:
        left = tuple(directory for directory in left if not _removed(directory))
        if not left:
            return
        now = time.monotonic()
        deadline = deadline or now + _REMOVE_SECONDS
        if now > deadline:
            raise OSError(errno.EBUSY, "cgroup is still in use", left[0])
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for each in below(directory):
        try:
            os.rmdir(each)
        except OSError:
            continue
    return not os.path.lexists(directory)

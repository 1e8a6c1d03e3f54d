"""Size limits of volumes: one project of the file system's project quota for each limited volume.

A directory knows its project itself, so nothing of this is recorded: the next free id is asked of the volumes that are there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel import quota

FIRST_PROJECT = 1_048_576
"""Far from the ids that administrators give in /etc/projid, and from dockerd's, which count up from small ones."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP]?)(?:i?[bB])?")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(text: str) -> int:
    """``10m``, ``1.5GiB``: bytes, units of 1024 as for memory. Raises InvalidParameter."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def check_support(root: Path, text: str) -> None:
    """Raises InvalidParameter when volumes below `root` cannot be limited, with what to do about it."""
    parse_size(text)
    with opened(root) as fd:
        if not quota.has_project_quota(fd):
            raise InvalidParameter(
                f"quota size requested but no quota support: the file system of {root} does not have project quotas on "
                "(ext4: tune2fs -O project,quota and mount -o prjquota; xfs: mount -o pquota)"
            )


def limit(root: Path, directory: Path, text: str) -> None:
    """Limit a volume's directory. One that is limited already keeps its project. Raises SystemFailure."""
    try:
        with opened(directory) as fd:
            project = quota.project_of(fd)
        limit_together([directory], project or free_project((volume / "_data" for volume in root.iterdir()), FIRST_PROJECT), text)
    except OSError as error:
        raise SystemFailure(f"cannot limit {directory} to {text}: {error.strerror}") from error


def limit_together(directories: Iterable[Path], project: int, text: str) -> None:
    """Let some directories have so much between them. Raises OSError."""
    for directory in directories:
        with opened(directory) as fd:
            quota.assign(fd, project)
            quota.limit(fd, project, parse_size(text))


def lift(directory: Path) -> None:
    """Forget the limit of a directory that is about to go; one without a limit does not matter."""
    try:
        with opened(directory) as fd:
            if project := quota.project_of(fd):
                quota.limit(fd, project, 0)
    except OSError:
        return


def free_project(directories: Iterable[Path], first: int) -> int:
    """A project from `first` on that none of these directories has."""
    highest = first - 1
    for directory in directories:
        try:
            with opened(directory) as fd:
                highest = max(highest, quota.project_of(fd))
        except OSError:
            continue
    return highest + 1


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    """A directory's descriptor; no link is followed."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)

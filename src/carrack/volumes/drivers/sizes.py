"""Size limits of volumes: one project of the file system's project quota for each limited volume.

A directory knows its project itself, so nothing of this is recorded: the next free id is asked of the volumes that are there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
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
    with _opened(root) as fd:
        if not quota.has_project_quota(fd):
            raise InvalidParameter(
                f"quota size requested but no quota support: the file system of {root} does not have project quotas on "
                "(ext4: tune2fs -O project,quota and mount -o prjquota; xfs: mount -o pquota)"
            )


def limit(root: Path, directory: Path, text: str) -> None:
    """Limit a volume's directory. One that is limited already keeps its project. Raises SystemFailure."""
    try:
        with _opened(directory) as fd:
            project = quota.project_of(fd) or _free_project(root)
            quota.assign(fd, project)
            quota.limit(fd, project, parse_size(text))
    except OSError as error:
        raise SystemFailure(f"cannot limit {directory} to {text}: {error.strerror}") from error


def lift(directory: Path) -> None:
    """Forget the limit of a directory that is about to go; one without a limit does not matter."""
    try:
        with _opened(directory) as fd:
            if project := quota.project_of(fd):
                quota.limit(fd, project, 0)
    except OSError:
        return


def _free_project(root: Path) -> int:
    return max((project + 1 for project in _projects(root)), default=FIRST_PROJECT)


def _projects(root: Path) -> Iterator[int]:
    for volume in os.scandir(root):
        try:
            with _opened(Path(volume.path, "_data")) as fd:
                project = quota.project_of(fd)
        except OSError:
            continue
        if project >= FIRST_PROJECT:
            yield project


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)

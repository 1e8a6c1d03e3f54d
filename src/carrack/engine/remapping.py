"""User namespaces for containers (`--userns-remap`): whose numbers, and what cannot be had together with them.

The ranges are those of subuid(5) and subgid(5), chosen as dockerd chooses: the user (and group) named, their first range.
"""

from __future__ import annotations

import grp
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from carrack.engine.config import HostConfig
from carrack.errors import InvalidParameter, SystemFailure
from carrack.oci.runtime_spec import IDMapping

DEFAULT_USER = "dockremap"
_FIRST, _SIZE = 100_000, 65_536


@dataclass(frozen=True, slots=True)
class Remap:
    """The numbers a container's users have on the host."""

    uids: tuple[IDMapping, ...]
    gids: tuple[IDMapping, ...]

    @property
    def root(self) -> tuple[int, int]:
        """Who the container's root is on the host."""
        return self.uids[0].host_id, self.gids[0].host_id


def applies(host: HostConfig, remap: Remap | None) -> bool:
    """Whether a container has a user namespace of its own."""
    return remap is not None and host.userns_mode != "host"


def check(host: HostConfig, remap: Remap | None) -> None:
    """Raises InvalidParameter in Docker's words for what a user namespace does not go with."""
    if not applies(host, remap):
        return
    if host.privileged:
        raise InvalidParameter(
            "privileged mode is incompatible with user namespaces.  "
            "You must run the container in the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidParameter("cannot share the host's network namespace when user namespaces are enabled")
    if host.pid_mode == "host":
        raise InvalidParameter("cannot share the host PID namespace when user namespaces are enabled")


_OVERLAY = (5, 19)
_SINCE: dict[str, tuple[int, int]] = {"btrfs": (5, 15), "tmpfs": (6, 3), "cephfs": (6, 7)}
"""File systems that learned later than Linux 5.19 allows for, or about then, to show their files under other numbers."""
_NEVER = frozenset(("nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuseblk", "overlay"))


def check_place(place: str, file_system: str, kernel: str) -> None:
    """Raises InvalidParameter where layers below `place` cannot be shifted: rather now than at each start of a container.

    Nothing is ever copied and given to other owners, as dockerd does: that would cost each image its time and its space again.
    """
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", kernel)[:2])
    if numbers < _OVERLAY:
        raise InvalidParameter(f"--userns-remap needs Linux 5.19, whose overlays can be id-mapped; this is {kernel}")
    if file_system.partition(".")[0] in _NEVER or numbers < _SINCE.get(file_system, _OVERLAY):
        since = _SINCE.get(file_system)
        when = f"can since Linux {since[0]}.{since[1]}, and this is {kernel}" if since else "cannot"
        raise InvalidParameter(
            f"--userns-remap needs a data-root whose files can be id-mapped: {file_system} at {place} {when}; "
            "ext4, xfs and btrfs can"
        )


def find(wish: str, subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")) -> Remap:
    """The ranges of ``default``, ``user[:group]`` or ``uid[:gid]``. Raises InvalidParameter, SystemFailure.

    For ``default`` a range is set aside under the name dockremap, in both files, where there is none yet.
    """
    user, colon, group = wish.partition(":")
    if wish == "default":
        for path in (subuid, subgid):
            _set_aside(path)
        return Remap(_range(subuid, {DEFAULT_USER}), _range(subgid, {DEFAULT_USER}))
    if not user or (colon and not group):
        raise InvalidParameter(f"invalid value for --userns-remap: {wish!r}")
    user_names = _user_names(user)
    return Remap(_range(subuid, user_names), _range(subgid, _group_names(group) if colon else user_names))


def _user_names(text: str) -> set[str]:
    """A user by name and by number, as subuid(5) may have either."""
    try:
        entry = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except (KeyError, OverflowError):
        raise InvalidParameter(f"--userns-remap: no user {text} on this host") from None
    return {entry.pw_name, str(entry.pw_uid)}


def _group_names(text: str) -> set[str]:
    try:
        entry = grp.getgrgid(int(text)) if text.isdecimal() else grp.getgrnam(text)
    except (KeyError, OverflowError):
        raise InvalidParameter(f"--userns-remap: no group {text} on this host") from None
    return {entry.gr_name, str(entry.gr_gid)}


def _lines(path: Path) -> list[tuple[str, int, int]]:
    """(owner, first, how many) of each line that is one."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[0] and not words[0].startswith("#") and words[1].isdecimal() and words[2].isdecimal():
            found.append((words[0], int(words[1]), int(words[2])))
    return found


def _range(path: Path, names: set[str]) -> tuple[IDMapping, ...]:
    found: list[IDMapping] = []
    inside = 0
    for owner, first, size in _lines(path):
        if owner in names and size:
            found.append(IDMapping(inside, first, size))
            inside += size
    if not found:
        raise InvalidParameter(
            f"no subordinate range for {' or '.join(sorted(names))} in {path}: add a line such as NAME:100000:65536"
        )
    return tuple(found)


def _set_aside(path: Path) -> None:
    lines = _lines(path)
    if any(owner == DEFAULT_USER for owner, _, _ in lines):
        return
    first = max([_FIRST, *(begin + size for _, begin, size in lines)])
    try:
        before = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
        glue = "" if not before or before.endswith("\n") else "\n"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{glue}{DEFAULT_USER}:{first}:{_SIZE}\n")
    except OSError as error:
        raise SystemFailure(f"cannot set a range aside for {DEFAULT_USER} in {path}: {error.strerror}") from error

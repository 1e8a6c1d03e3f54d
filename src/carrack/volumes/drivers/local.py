"""Docker's driver `local`: a directory below the data-root, or with `type`, `device` and `o` any file system mounted there.

The mount lives in the host's mount namespace as long as a container has the volume, so that all its users see one file system.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel import mount as kernel_mount
from carrack.volumes.drivers import sizes
from carrack.volumes.volume import Volume

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_STAGED = ".new-"
"""Begins the name of a place that is being filled: no volume can be called so."""
_OPTIONS = ("type", "o", "device", "size")
_NEEDS = (("device", "type"), ("type", "device"), ("o", "device"), ("o", "type"))

_MS_SYNCHRONOUS, _MS_MANDLOCK, _MS_DIRSYNC, _MS_NODIRATIME = 16, 64, 128, 2048
_MS_RELATIME, _MS_STRICTATIME = 1 << 21, 1 << 24
_SET = {
    "ro": kernel_mount.MS_RDONLY, "nosuid": kernel_mount.MS_NOSUID,
    "nodev": kernel_mount.MS_NODEV, "noexec": kernel_mount.MS_NOEXEC,
    "sync": _MS_SYNCHRONOUS, "mand": _MS_MANDLOCK, "dirsync": _MS_DIRSYNC, "noatime": kernel_mount.MS_NOATIME,
    "nodiratime": _MS_NODIRATIME, "relatime": _MS_RELATIME, "strictatime": _MS_STRICTATIME,
    "bind": kernel_mount.MS_BIND, "rbind": kernel_mount.MS_BIND | kernel_mount.MS_REC,
}  # fmt: skip
_CLEAR = {
    "rw": kernel_mount.MS_RDONLY, "suid": kernel_mount.MS_NOSUID, "dev": kernel_mount.MS_NODEV, "exec": kernel_mount.MS_NOEXEC,
    "async": _MS_SYNCHRONOUS, "nomand": _MS_MANDLOCK, "atime": kernel_mount.MS_NOATIME, "diratime": _MS_NODIRATIME,
    "norelatime": _MS_RELATIME, "nostrictatime": _MS_STRICTATIME,
}  # fmt: skip
_PROPAGATION = {
    "private": kernel_mount.MS_PRIVATE, "shared": kernel_mount.MS_SHARED, "slave": kernel_mount.MS_SLAVE,
    "unbindable": kernel_mount.MS_UNBINDABLE,
}  # fmt: skip


class LocalDriver:
    """The `Driver` of volumes below one directory, `root`, which is 0701: a container's user may pass through, nobody may look."""

    name = "local"

    def __init__(self, root: Path, remove_tree: Callable[[Path], None] | None = None) -> None:
        self._root = root
        self._remove_tree = remove_tree or self._remove_now
        try:
            root.mkdir(mode=0o701, parents=True, exist_ok=True)
        except OSError as error:
            raise SystemFailure(f"cannot make {root}: {error.strerror}") from error
        for left in root.glob(f"{_STAGED}*"):
            self._remove_tree(left)

    def check(self, name: str, options: dict[str, str]) -> None:
        if len(name) == 1:
            raise InvalidParameter("volume name is too short, names should be at least two alphanumeric characters")
        if not _NAME.fullmatch(name):
            raise InvalidParameter(
                f'"{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
                "If you intended to pass a host directory, use absolute path"
            )
        if len(name) > 255:
            raise InvalidParameter(f'"{name[:32]}…" is too long for a local volume name, at most 255 characters are allowed')
        for option in options:
            if option not in _OPTIONS:
                raise InvalidParameter(f'invalid option: "{option}"')
        if options.get("size"):
            sizes.check_support(self._root, options["size"])
        for option, needed in _NEEDS:
            if option in options and needed not in options:
                raise InvalidParameter(f'missing required option: "{needed}"')

    def create(self, name: str, options: dict[str, str]) -> str:
        path = self._root / name / "_data"
        try:
            path.parent.mkdir(mode=0o701, exist_ok=True)
            path.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise SystemFailure(f"cannot make {path}: {error.strerror}") from error
        if options.get("size"):
            sizes.limit(self._root, path, options["size"])
        return str(path)

    def forget_unborn(self, known: Collection[str]) -> None:
        for name in set(os.listdir(self._root)) - set(known):
            with suppress(OSError):  # somebody has put something there: it stays
                os.rmdir(self._root / name / "_data")
                os.rmdir(self._root / name)

    def mount(self, volume: Volume) -> None:
        options = volume.options
        if not options.get("type") or is_mount(volume.mountpoint):
            return
        flags, propagation, text = parse_mount_options(_with_address(options["type"], options.get("o", "")))
        try:
            kernel_mount.mount(options["device"], volume.mountpoint, options["type"], flags, text)
            if flags & kernel_mount.MS_BIND and flags & ~(kernel_mount.MS_BIND | kernel_mount.MS_REC):
                # A bind takes its other flags by a second call (mount(2)).
                kernel_mount.mount("", volume.mountpoint, "", flags | kernel_mount.MS_REMOUNT, "")
            for flag in propagation:
                kernel_mount.mount("", volume.mountpoint, "", flag, "")
        except OSError as error:
            raise SystemFailure(
                f"failed to mount local volume: mount {options['device']}:{volume.mountpoint}"
                f"{_shown_options(options.get('o', ''))}: {(error.strerror or '').lower()}"
            ) from error

    def unmount(self, volume: Volume) -> None:
        if volume.options.get("type") and is_mount(volume.mountpoint):
            try:
                kernel_mount.unmount(volume.mountpoint, kernel_mount.MNT_DETACH)
            except OSError as error:
                raise SystemFailure(f"cannot unmount {volume.mountpoint}: {error.strerror}") from error

    def rename(self, volume: Volume, name: str) -> str:
        """Move the volume's directory to another name; return its new path. One that is there already does not matter."""
        old, new = self._root / volume.name, self._root / name
        try:
            if os.path.lexists(old):
                os.rename(old, new)
        except OSError as error:
            raise SystemFailure(f"cannot rename {old}: {error.strerror}") from error
        return str(new / "_data")

    def stage(self, options: dict[str, str]) -> Path:
        staged = self._root / f"{_STAGED}{secrets.token_hex(8)}"
        try:
            staged.mkdir(mode=0o701)
            (staged / "_data").mkdir(mode=0o755)
        except OSError as error:
            raise SystemFailure(f"cannot make {staged}: {error.strerror}") from error
        if options.get("size"):
            sizes.limit(self._root, staged / "_data", options["size"])
        return staged

    def adopt(self, staged: Path, name: str) -> str:
        try:
            os.rename(staged, self._root / name)
        except OSError as error:
            raise SystemFailure(f"cannot make {self._root / name}: {error.strerror}") from error
        return str(self._root / name / "_data")

    def abandon(self, staged: Path) -> None:
        if staged.exists():
            sizes.lift(staged / "_data")
            self._remove_tree(staged)

    def detach(self, volume: Volume) -> None:
        self.unmount(volume)
        # What is mounted in there belongs to somebody else, and removing would go through it.
        if mounted := mounts_below(str(self._root / volume.name)):
            raise SystemFailure(f"cannot remove {self._root / volume.name}: something is mounted on {mounted[0]}")

    def remove(self, volume: Volume) -> None:
        place = self._root / volume.name
        if place.is_symlink() or not place.is_dir():
            return  # gone, or replaced by what we did not make
        if volume.options.get("size"):
            sizes.lift(place / "_data")
        self._remove_tree(place)

    @staticmethod
    def _remove_now(place: Path) -> None:
        try:
            shutil.rmtree(place)  # by descriptors: no link inside can lead it out
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SystemFailure(f"cannot remove {place}: {error.strerror}") from error


def is_mount(path: str) -> bool:
    """Whether something is mounted there. (os.path.ismount does not see a bind of the same file system.)"""
    return os.path.isdir(path) and _mount_id(path) != _mount_id(os.path.dirname(path))


def _mount_id(path: str) -> int:
    """mnt_id of proc_pid_fdinfo(5)."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/thread-self/fdinfo/{fd}", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
    finally:
        os.close(fd)


def mounts_below(place: str) -> list[str]:
    """The mount points at and below a path, as proc_pid_mountinfo(5) tells them."""
    found = []
    with open("/proc/thread-self/mountinfo", "rb") as lines:
        for line in lines:
            point = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[4]))
            if point == place or point.startswith(place + "/"):
                found.append(point)
    return found


def parse_mount_options(text: str) -> tuple[int, tuple[int, ...], str]:
    """Options as fstab has them → flags of mount(2), propagation flags, and what the file system itself is told."""
    flags, propagation, rest = 0, [], []
    for option in filter(None, text.split(",")):
        if option in _SET:
            flags |= _SET[option]
        elif option in _CLEAR:
            flags &= ~_CLEAR[option]
        elif option.removeprefix("r") in _PROPAGATION and option not in _SET:
            recursive = kernel_mount.MS_REC if option.startswith("r") else 0
            propagation.append(_PROPAGATION[option.removeprefix("r")] | recursive)
        elif option != "defaults":
            rest.append(option)
    return flags, tuple(propagation), ",".join(rest)


def _with_address(file_system: str, options: str) -> str:
    """For nfs and cifs the kernel wants `addr=` as a number; a name is looked up, as mount.nfs(8) does."""
    if file_system not in ("nfs", "nfs4", "cifs"):
        return options
    parts = options.split(",")
    for index, part in enumerate(parts):
        if not part.startswith("addr="):
            continue
        name = part.removeprefix("addr=")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            try:
                found = socket.getaddrinfo(name, None, socket.AF_INET)
            except OSError as error:
                raise SystemFailure(f"error resolving passed in network volume address: {name}: {error.strerror}") from error
            parts[index] = f"addr={found[0][4][0]}"
    return ",".join(parts)


def _shown_options(options: str) -> str:
    """The options for an error text, passwords hidden."""
    shown = re.sub(r"(password=)[^,]*", r"\1********", options)
    return f", data: {shown}" if shown else ""

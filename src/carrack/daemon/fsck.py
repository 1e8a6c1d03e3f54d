"""`carrack system fsck`: what a data-root holds that no record names, and what a record names that is not there.

`python -m carrack.daemon.fsck [--remove] [--verify] [--json] [carrackd's own flags]`. Looking needs no stop of the daemon (what it
is making at that moment shows as garbage, then); removing does, because only the lock of the data-root says that nobody is making
anything. Containers run on meanwhile. Exit status 0: all is well, or was put right; 1: something is not; 2: it cannot be looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from carrack.archive.removal import remove_tree
from carrack.daemon.config import DaemonConfig, load
from carrack.errors import CarrackError, NotFound, SystemFailure
from carrack.runtime import cgroups
from carrack.state.lock import DataRootLock
from carrack.volumes.drivers.local import mounts_below

USAGE = """Usage:  carrack system fsck [OPTIONS]

Lists what no record names and what a record names that is not there, below a data-root

Options:
      --config-file string   Configuration file of the daemon, as for carrackd
      --data-root string     The data-root, as for carrackd
      --instance string      The instance, as for carrackd
      --json                 Write one JSON object per finding
      --remove               Remove what no record names (the daemon must be stopped; containers run on)
      --verify               Read every blob and compare it with its digest
"""
_RESUMABLE_SECONDS = 7 * 86400
"""So long the bytes of a transfer that broke off are kept for the next attempt (content/filesystem.py)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    problem: str
    """garbage: no record names it; missing: a record does, and it is not there; corrupt: it is not what its name promises."""
    kind: str
    path: str
    size_bytes: int = 0


class Records:
    """What state.db names, as of one look. Raises NotFound when there is no database, SystemFailure when it cannot be read."""

    def __init__(self, data_root: Path) -> None:
        path = data_root / "state.db"
        if not path.exists():
            raise NotFound(f"no data-root of Carrack: {path} is not there")
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                self.layers = self._column(connection, "SELECT coalesce(home, short) FROM layers")
                self.snapshots = self._column(connection, "SELECT key FROM snapshots")
                self.containers = self._column(connection, "SELECT id FROM containers")
                self.volumes = self._column(connection, "SELECT name FROM volumes") | self._column(
                    connection, "SELECT json_extract(document, '$.renamed_from') FROM volumes"
                )
                self.blobs = self._column(connection, "SELECT DISTINCT digest FROM image_blobs")
                self.builds = self._column(connection, "SELECT directory FROM build_records")
        except sqlite3.Error as error:
            raise SystemFailure(f"cannot read {path}: {error}") from error

    @staticmethod
    def _column(connection: sqlite3.Connection, sql: str) -> set[str]:
        return {row[0] for row in connection.execute(sql) if row[0]}


def findings(data_root: Path, exec_root: Path, cgroup_parent: str, *, verify: bool = False) -> Iterator[Finding]:
    """Everything that is wrong, in the order of the folders."""
    records = Records(data_root)
    yield from _strange(data_root / "layers", records.layers, "layer")
    yield from _strange(data_root / "containers", records.containers | records.snapshots, "container")
    yield from _strange(data_root / "volumes", records.volumes, "volume")
    stubs = {
        name for name in _names(data_root / "build") if name.startswith("stubs-")
    }  # places for mounts, the same for every step
    yield from _strange(data_root / "build", records.builds | stubs, "build")
    kept = {name for name in _names(data_root / "contexts") if (data_root / "contexts" / name / "key").is_file()}
    yield from _strange(data_root / "contexts", kept, "build context")
    yield from _strange(data_root / "trash", set(), "trash")
    yield from _unfinished(data_root / "ingest")
    blobs = data_root / "blobs"
    for algorithm in sorted(_names(blobs)):
        known = {digest.partition(":")[2] for digest in records.blobs if digest.startswith(f"{algorithm}:")}
        yield from _strange(blobs / algorithm, known, "blob")
    sockets = {f"{container}.sock" for container in records.containers}
    yield from _strange(exec_root / "shims", sockets, "shim socket")
    yield from _idle_cgroups(cgroup_parent, records.containers)
    yield from _missing(data_root, records)
    if verify:
        yield from _corrupt(blobs, records.blobs)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _strange(folder: Path, known: set[str], kind: str) -> Iterator[Finding]:
    for name in sorted(set(_names(folder)) - known):
        path = folder / name
        yield Finding("garbage", kind, str(path), _size(path))


def _unfinished(folder: Path) -> Iterator[Finding]:
    for name in sorted(_names(folder)):
        path = folder / name
        if name.startswith("tmp-") or path.lstat().st_mtime < time.time() - _RESUMABLE_SECONDS:
            yield Finding("garbage", "unfinished blob", str(path), _size(path))


def _idle_cgroups(parent: str, containers: set[str]) -> Iterator[Finding]:
    for path in cgroups.idle_below(parent):
        if os.path.basename(path) not in containers:
            yield Finding("garbage", "cgroup", path)


def _missing(data_root: Path, records: Records) -> Iterator[Finding]:
    wanted = [("layer", data_root / "layers" / name / "diff") for name in records.layers]
    wanted += [("container", data_root / "containers" / name) for name in records.containers]
    wanted += [("blob", data_root / "blobs" / digest.replace(":", "/")) for digest in records.blobs]
    for kind, path in sorted(wanted):
        if not os.path.lexists(path):
            yield Finding("missing", kind, str(path))


def _corrupt(blobs: Path, known: set[str]) -> Iterator[Finding]:
    for digest in sorted(known):
        algorithm, _, encoded = digest.partition(":")
        path = blobs / algorithm / encoded
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
        except FileNotFoundError:
            continue
        if found != encoded:
            yield Finding("corrupt", "blob", str(path), path.stat().st_size)


def _size(path: Path) -> int:
    """The content of the files at and below a path, links not followed."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    if not path.is_dir() or path.is_symlink():
        return status.st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def remove(found: Finding) -> None:
    """Remove garbage. Raises SystemFailure, also when something is mounted below it: that is somebody else's."""
    path = Path(found.path)
    if mounted := mounts_below(str(path)):
        raise SystemFailure(f"cannot remove {path}: something is mounted on {mounted[0]}")
    if found.kind == "cgroup":
        for folder, _, _ in os.walk(path, topdown=False):
            _remove_cgroup(Path(folder))
        return
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(parent, path.name)
    finally:
        os.close(parent)


def _remove_cgroup(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        raise SystemFailure(f"cannot remove {folder}: {error.strerror}") from error


def main() -> int:
    """The program."""
    arguments = sys.argv[1:]
    if any(word in ("-h", "--help") for word in arguments):
        sys.stdout.write(USAGE)
        return 0
    switches = {word for word in arguments if word in ("--remove", "--verify", "--json")}
    try:
        config = load([word for word in arguments if word not in switches])
        return _check(config, removes="--remove" in switches, verify="--verify" in switches, as_json="--json" in switches)
    except CarrackError as error:
        sys.stderr.write(f"fsck: {error.message}\n")
        return 2


def _check(config: DaemonConfig, *, removes: bool, verify: bool, as_json: bool) -> int:
    lock = DataRootLock(config.data_root) if removes else None
    try:
        left = freed = count = 0
        for found in findings(config.data_root, config.exec_root, config.cgroup_parent, verify=verify):
            count += 1
            done = removes and found.problem == "garbage" and _try_remove(found)
            left += not done
            freed += found.size_bytes if done else 0
            sys.stdout.write(_line(found, done, as_json))
    finally:
        if lock is not None:
            lock.release()
    if not as_json:
        verdict = "nothing is wrong" if not count else f"{count} found, {count - left} removed ({freed} bytes), {left} left"
        sys.stdout.write(f"{config.data_root}: {verdict}\n")
    return 1 if left else 0


def _try_remove(found: Finding) -> bool:
    try:
        remove(found)
    except SystemFailure as error:
        sys.stderr.write(f"fsck: {error.message}\n")
        return False
    return True


def _line(found: Finding, done: bool, as_json: bool) -> str:
    if as_json:
        return json.dumps({**asdict(found), "removed": done}) + "\n"
    return f"{'removed' if done else found.problem:<8} {found.kind:<16} {found.size_bytes:>12} {found.path}\n"


if __name__ == "__main__":
    sys.exit(main())

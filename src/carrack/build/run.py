"""One RUN: a snapshot over the base, mounts and secrets put into it for the program alone, and its upper directory as the result.

Places for mounts that the base lacks come from a tree of empty **stubs** under all layers: they show only where the base has
nothing, and leave no trace in the layer. Secrets are files in memory or variables; they are in no key, no record and no layer.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from carrack.build.cache_mounts import MountWish
from carrack.build.dockerfile.instruction import Mount as MountFlag
from carrack.build.emulation import emulator, is_foreign, missing
from carrack.build.graph import RunMount, RunOp, Vertex
from carrack.build.ports import CopyOrder, CopySource, RunStep, StepMount, StepOrder, Tree
from carrack.build.progress import Tell, VertexLog
from carrack.build.stacks import Stacks
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter, NotFound
from carrack.oci.digest import Digest
from carrack.oci.mount import Mount
from carrack.oci.platform import Platform, machine
from carrack.snapshots import Snapshotter

if TYPE_CHECKING:
    from carrack.build.workshop import BuildWorkshop

_DIRECTORIES = ("proc", "sys", "dev", "etc")
_FILES = ("etc/hosts", "etc/resolv.conf")
_STUBS = "stubs-"
_SECRET_MODE = 0o400
_SCRIPT_MODE = 0o755
_NO_PROGRAM = 255
"""What a step ends with whose program the kernel does not take."""
LOG_LIMIT_BYTES = 64 << 20
"""What one step may print; what goes beyond is counted, not kept."""


class StepFailed(CarrackError):
    """A program of RUN ended with another code than 0."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"The command '{command}' returned a non-zero code: {code}")
        self.code = code


class RunRoom:
    """Where steps run."""

    def __init__(self, runner: RunStep, snapshots: Snapshotter, stubs_root: Path) -> None:
        self.runner = runner
        self._snapshots = snapshots
        self._stubs_root = stubs_root
        self._lock = threading.Lock()
        self._known: dict[str, Path] = {}

    def root(self, key: str, parent: Digest | None, directories: Iterable[str], files: Iterable[str]) -> tuple[Mount, ...]:
        """A new snapshot's mounts, over the stubs."""
        mounts = self._snapshots.prepare(key, parent)
        wanted = mounts[0]
        stubs = str(self._stubs(sorted(set(directories)), sorted(set(files))))
        if wanted.type == "overlay":
            return (Mount(wanted.type, wanted.source, wanted.target, wanted.options, (*wanted.lower, stubs)),)
        work = Path(wanted.source).parent / "work"
        if parent is None and work.is_dir():  # an empty base: overlay over the stubs alone
            return (Mount("overlay", "overlay", options=(f"upperdir={wanted.source}", f"workdir={work}"), lower=(stubs,)),)
        return mounts

    def _stubs(self, directories: Sequence[str], files: Sequence[str]) -> Path:
        name = hashlib.sha256("\0".join((*directories, "", *files)).encode()).hexdigest()[:16]
        with self._lock:
            known = self._known.get(name)
            if known is not None and known.is_dir():
                return known
            path = self._stubs_root / f"{_STUBS}{name}"
            path.mkdir(mode=0o755, exist_ok=True)
            for each in (*_DIRECTORIES, *directories):
                (path / each).mkdir(mode=0o755, parents=True, exist_ok=True)
            for each in (*_FILES, *files):
                place = path / each
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                place.touch(mode=0o644, exist_ok=True)
            self._known[name] = path
            return path


@dataclass(slots=True)
class _Furnishing:
    """What is put into one step's tree."""

    mounts: list[StepMount] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    modes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    environment: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def run_step(
    workshop: BuildWorkshop,
    vertex: Vertex,
    op: RunOp,
    trees: Sequence[Tree],
    parent: Digest | None,
    tell: Tell,
    cancel: Cancellation,
) -> Path:
    """Run it; gives the upper directory as a staging directory. Raises StepFailed, and what the runtime raises."""
    equipment = workshop.equipment
    key = os.urandom(32).hex()
    foreign = _foreign(op)
    with ExitStack() as stack:
        furnishing = _Furnishing()
        for mount in op.mounts:
            _furnish(workshop, furnishing, mount, trees, stack, cancel)
        for path, content in op.files:
            furnishing.files[path] = content.encode()
            furnishing.modes[path] = (_SCRIPT_MODE, 0, 0)
        stack.callback(equipment.stacks.forget, key)
        rootfs = equipment.rooms.root(key, parent, furnishing.directories, furnishing.places)
        around = workshop.surroundings
        order = StepOrder(
            key=key,
            rootfs=rootfs,
            arguments=op.arguments,
            environment=(*op.proxies, *op.environment, *furnishing.environment),
            working_dir=op.working_dir,
            user=op.user,
            hostname=op.hostname,
            network=op.network,
            insecure=op.security == "insecure",
            mounts=tuple(furnishing.mounts),
            extra_hosts=op.extra_hosts,
            devices=op.devices,
            shm_bytes=op.shm_bytes,
            cgroup_parent=around.cgroup_parent,
            limits=around.limits,
            files=furnishing.files,
            file_modes=furnishing.modes,
        )
        code = equipment.rooms.runner.run(order, _output(vertex.digest, tell), cancel)
        if code == _NO_PROGRAM and foreign is not None and emulator(foreign) is None:
            raise InvalidParameter(missing(foreign))
        if code:
            raise StepFailed(" ".join(op.arguments), code)
        return take_difference(equipment.snapshots, equipment.stacks, key, parent, cancel)


def take_difference(snapshots: Snapshotter, stacks: Stacks, key: str, parent: Digest | None, cancel: Cancellation) -> Path:
    """A snapshot's own changes as a staging directory in a layer's form."""
    staging = snapshots.take(key)
    try:
        stacks.difference(parent, staging, cancel)
    except BaseException:
        snapshots.abandon(staging)
        raise
    return staging


def _foreign(op: RunOp) -> Platform | None:
    """The step's platform when this processor does not run its programs. Raises InvalidParameter when nothing here does."""
    platform = Platform.parse(op.platform) if op.platform else machine()
    if not is_foreign(platform):
        return None
    if emulator(platform) == "":
        raise InvalidParameter(missing(platform))
    return platform


def _output(vertex: str, tell: Tell) -> Callable[[int, bytes], None]:
    left = LOG_LIMIT_BYTES

    def output(stream: int, data: bytes) -> None:
        nonlocal left
        if left <= 0:
            return
        left -= len(data)
        if left <= 0:
            data += f"\n[output clipped, log limit {LOG_LIMIT_BYTES >> 20} MiB reached]\n".encode()
        tell(VertexLog(vertex, stream, data, time.time_ns()))

    return output


def _furnish(
    workshop: BuildWorkshop, into: _Furnishing, wanted: RunMount, trees: Sequence[Tree], stack: ExitStack, cancel: Cancellation
) -> None:
    mount = wanted.mount
    match mount.type:
        case "bind":
            _bind(workshop, into, mount, trees[wanted.input] if wanted.input >= 0 else (), cancel)
        case "cache":
            _cache(workshop, into, wanted, trees, stack, cancel)
        case "tmpfs":
            options = (f"size={mount.size}",) if mount.size else ()
            into.mounts.append(StepMount(mount.target, "tmpfs", options=options))
            into.directories.append(_relative(mount.target))
        case "secret":
            _secret(workshop, into, mount)
        case "ssh":
            _agent(workshop, into, mount)


def _bind(workshop: BuildWorkshop, into: _Furnishing, mount: MountFlag, tree: Tree, cancel: Cancellation) -> None:
    path = mount.source or "/"
    if not tree:
        if posixpath.normpath(path) not in ("/", ".", "//"):
            raise NotFound(f'"{path}": not found')
        into.mounts.append(StepMount(mount.target, "tmpfs"))
        into.directories.append(_relative(mount.target))
        return
    is_directory = workshop.equipment.stacks.is_directory(tree, path, cancel)
    into.mounts.append(StepMount(mount.target, "bind", tree=tree, path=path, writable=not mount.readonly))
    if mount.target != "/":
        (into.directories if is_directory else into.places).append(_relative(mount.target))


def _cache(
    workshop: BuildWorkshop, into: _Furnishing, wanted: RunMount, trees: Sequence[Tree], stack: ExitStack, cancel: Cancellation
) -> None:
    mount = wanted.mount
    uid, gid = mount.uid or 0, mount.gid or 0
    tree = trees[wanted.input] if wanted.input >= 0 else ()
    wish = MountWish(
        mount.id,
        mount.sharing or "shared",
        f"{mount.source_stage} {mount.source}" if wanted.input >= 0 else "",
        0o755 if mount.mode is None else mount.mode,
        uid,
        gid,
    )

    def begin(path: Path) -> None:
        if workshop.fill_mount(wish.id, wish.beginning, path, cancel):
            return
        if tree:
            source = CopySource(tree, posixpath.join(mount.source or "/", "."), wildcards=False, keep_owner=True)
            workshop.equipment.files.copy(CopyOrder((source,), (), "/"), path, cancel)

    directory = stack.enter_context(workshop.equipment.mounts.using(wish, begin, cancel))
    into.mounts.append(StepMount(mount.target, "bind", source=str(directory), writable=not mount.readonly))
    into.directories.append(_relative(mount.target))


def _secret(workshop: BuildWorkshop, into: _Furnishing, mount: MountFlag) -> None:
    content = workshop.secrets.get(mount.id)
    if content is None:
        if mount.required:
            raise NotFound(f"secret {mount.id}: not found")
        return
    if mount.env is not None:
        into.environment.append(f"{mount.env}={content.decode(errors='surrogateescape')}")
    if mount.target:
        into.files[mount.target] = content
        into.modes[mount.target] = (_SECRET_MODE if mount.mode is None else mount.mode, mount.uid or 0, mount.gid or 0)
        into.places.append(_relative(mount.target))


def _agent(workshop: BuildWorkshop, into: _Furnishing, mount: MountFlag) -> None:
    path = workshop.agents.get(mount.id)
    if path is None:
        if mount.required:
            raise InvalidParameter(f"no SSH key {mount.id!r} forwarded from the client")
        return
    into.mounts.append(StepMount(mount.target, "socket", source=path, writable=True))
    into.environment.append(f"SSH_AUTH_SOCK={mount.target}")
    into.places.append(_relative(mount.target))


def _relative(path: str) -> str:
    return posixpath.normpath(path).lstrip("/")

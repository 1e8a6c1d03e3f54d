"""A container that goes on from a checkpoint: criu makes its processes of images, and here is all that they find outside.

    maker, or carrack-oci                                            criu, in the container's cgroup
      │ ── RESTORE ───────────────────────────────────────────────▶ │── clone(PARENT) ──▶ init
      │ ◀─────────────────── setup-namespaces, init's pid ───────── │
      │   (Created … the daemon plugs the network in … Go)          │
      │ ── go on ─────────────────────────────────────────────────▶ │── everything else, and lets them run
      │ ◀──────────────────────────────────────── RESTORE, done ─── │ ends

Criu sets init's death signal as it was: an init that was born as the child of its shim, and dies with it (law 5), must be the
shim's child again. It is as the sibling of a criu that is one (`sibling`). The network namespace is made here and given in, as are
the pipes of standard input and output. Cgroups are no affair of criu's: what it makes is born in the one it is in.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

from carrack.errors import CarrackError, SystemFailure
from carrack.kernel import keyring, loopback, process
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import RuntimeSpec
from carrack.runtime import cgroups, hooks, staging
from carrack.runtime.cgroups import Cgroup, CgroupPlan
from carrack.runtime.creation import remove_cgroup
from carrack.runtime.criu import images, rpc
from carrack.runtime.criu.conversation import ENVIRONMENT, Conversation, reason
from carrack.runtime.failure import InitFailed, StartFailed, words
from carrack.runtime.identity import default_signals
from carrack.runtime.mount_options import parse
from carrack.runtime.program import Stdio
from carrack.runtime.room import Room
from carrack.runtime.rootfs import take_root
from carrack.runtime.staging import Staging
from carrack.runtime.steps import sysctl_path

_LOG, _STATISTICS = "restore.log", "stats-restore"
_SOCKET_FD, _NETWORK_FD, _FIRST_PIPE_FD = 3, 4, 5
_OUT_OF_THE_WAY = 64
_DEATH_SECONDS = 10.0
_JOINED = ("ipc", "uts")
"""Kinds of namespaces of others that criu can put a container into; a network's is given in."""


class Wish(NamedTuple):
    """What is to be restored, and how."""

    criu: str
    images_directory: str
    work_directory: str
    """Where the log goes, and what is needed meanwhile."""
    container_id: str
    log_directory: str = ""
    """Where the log is to stay; empty: it goes once all is well."""
    bundle: str = ""
    """For hooks."""
    sibling: bool = False
    """Criu and init become children of the caller's parent."""
    switches: tuple[int, ...] = ()
    """More of criu's switches, by their numbers (`rpc`)."""


class Restoration:
    """The same to the maker as `runtime.creation.Creation`: its namespaces exist, and it waits for `go`."""

    def __init__(
        self, spec: RuntimeSpec, wish: Wish, *, rootfs: tuple[Mount, ...], cgroup: CgroupPlan, stdio: Stdio | None
    ) -> None:
        """Raises StartFailed with everything undone. Leaves the caller, its process's only thread, in a mount namespace of its own.

        `stdio`: what takes the place of the pipes that were standard input, output and errors; None: nothing does.
        """
        self.cgroup: Cgroup = cgroups.open(cgroup.path)
        self.pid, self.pidfd = 0, -1
        self._criu_fd = -1
        self.network_namespace_fd = self.rootfs_fd = self.console_fd = -1
        self.warnings: list[str] = []
        self.trace: list[tuple[str, int]] = []
        self._wish = wish
        self._directory = f"{wish.work_directory}/restore"
        self._log_directory = wish.log_directory or wish.work_directory
        self._staging: Staging | None = None
        self._talk: Conversation | None = None
        self._own_cgroup_namespace = any(each.type == "cgroup" for each in (spec.linux.namespaces if spec.linux else ()))
        self._last = time.monotonic_ns()
        try:
            self._begin(spec, rootfs, cgroup, stdio)
        except (CarrackError, OSError, InitFailed, StartFailed) as error:
            self.abandon()
            raise _failed(error) from error

    def ready(self, before_answer: Callable[[int], None] = lambda _: None) -> None:
        """Nothing: what is left to do needs the network, which the daemon plugs in before `go`."""

    def go(self) -> None:
        """Let criu restore the rest, and the processes run. Raises StartFailed, everything undone."""
        try:
            self._say(rpc.go_on())
            self._hear("")
            self._let_criu_end()
        except (CarrackError, OSError) as error:
            self.abandon()
            raise _failed(error) from error
        self._clear_staging()
        if not self._wish.log_directory:
            for name in (_LOG, _STATISTICS):
                _unlink(f"{self._log_directory}/{name}")
        self._mark("criu restore")

    def abandon(self) -> None:
        """Kill what there is, take everything back. Safe to call twice; the shim reaps."""
        for fd in (self.pidfd, self._criu_fd):
            if fd >= 0:
                try:
                    process.send_signal(fd, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        try:
            self.cgroup.kill()  # also an init that criu has not told of yet
        except OSError:
            pass
        for fd in (self.pidfd, self._criu_fd):
            if fd >= 0:
                _until_dead(fd)
                self._reap(fd)
        if self._talk is not None:
            self._talk.close()
        self._clear_staging()
        for fd in (self.pidfd, self._criu_fd, self.rootfs_fd, self.network_namespace_fd, self.console_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self._criu_fd = self.rootfs_fd = self.network_namespace_fd = self.console_fd = -1
        remove_cgroup(self.cgroup)

    # ── up to init ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, spec: RuntimeSpec, root: tuple[Mount, ...], wanted: CgroupPlan, stdio: Stdio | None) -> None:
        wish = self._wish
        contents = images.read(wish.images_directory)
        _make_empty(self._directory)
        users_fd = staging.users_of(spec)
        root_fd, self.rootfs_fd = take_root(root, user_namespace_fd=users_fd)
        self._staging = staged = Staging(self._directory)
        staged.put(root_fd, staged.root)
        spec = staged.hold_binds(spec, users_fd)
        self.cgroup = cgroups.begin(wanted)
        self.warnings += cgroups.complete(wanted, self.cgroup)
        self.network_namespace_fd = _network_namespace(spec)
        self._mark("root, binds, cgroup")
        pipes = list(stdio) if stdio is not None else []
        outside = zip(contents.pipes, pipes, strict=False)
        inherited = [(pipe, _FIRST_PIPE_FD + place) for place, (pipe, fd) in enumerate(outside) if pipe and fd >= 0]
        if self.network_namespace_fd >= 0:
            inherited.append((rpc.NETWORK_KEY, _NETWORK_FD))
        self._talk = Conversation()
        images_fd = os.open(wish.images_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        log_fd = os.open(self._log_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fork_criu(self._talk.their_fd, pipes)
            self._talk.given()
            options = rpc.Options(
                images_fd,
                log_fd,
                _LOG,
                root=staged.root,
                externals=[f"mnt[{place}]:{source}" for place, source in self._sources(spec, contents.mounts)],
                inherited=inherited,
                joins=_joins(spec),
                switches=wish.switches,
            )
            self._say(rpc.restore(options))
            self.pid = self._hear("setup-namespaces").pid
        finally:
            os.close(images_fd)
            os.close(log_fd)
        self.pidfd = os.pidfd_open(self.pid)
        if spec.hooks is not None:
            state = hooks.State(spec.oci_version, wish.container_id, "creating", self.pid, wish.bundle, spec.annotations)
            hooks.run(spec.hooks.prestart, state, "prestart")
            hooks.run(spec.hooks.create_runtime, state, "createRuntime")
        self._mark("criu namespaces")

    def _fork_criu(self, socket_fd: int, pipes: list[int]) -> None:
        """Criu joins the container's cgroup, so that what it restores is born there."""
        path = self._wish.criu
        cgroup_fd = self.cgroup.directory_fd()
        flags = process.CLONE_PARENT if self._wish.sibling else 0
        pid, self._criu_fd = process.fork_into(flags, cgroup_fd=cgroup_fd)
        if pid:
            if cgroup_fd >= 0:
                os.close(cgroup_fd)
            return
        try:
            self._become_criu(path, socket_fd, pipes)
        except OSError as error:
            os.write(2, f"carrack: {path}: {words(error)}\n".encode())
        finally:
            os._exit(127)

    def _become_criu(self, path: str, socket_fd: int, pipes: list[int]) -> None:
        default_signals()
        process.set_parent_death_signal(signal.SIGKILL)
        if not self.cgroup.joined_by_birth:
            self.cgroup.join()
        if self._own_cgroup_namespace:
            process.unshare(process.CLONE_NEWCGROUP)
        try:
            keyring.join_session(f"_ses.{self._wish.container_id}")
        except OSError:
            pass  # as at any start: a kernel without keyrings
        null = os.open("/dev/null", os.O_RDWR)
        wanted = [null, null, null, socket_fd, self.network_namespace_fd, *pipes]
        aside = [_move(fd) if fd >= 0 else -1 for fd in wanted]
        for place, fd in enumerate(aside):
            if fd >= 0:
                os.dup2(fd, place)
            elif place > 2:
                process.close_range(place, place)
        process.close_range(len(wanted))
        os.execve(path, [path, "swrk", str(_SOCKET_FD)], ENVIRONMENT)

    def _sources(self, spec: RuntimeSpec, places: tuple[str, ...]) -> list[tuple[str, str]]:
        """What is to be mounted at the places where something of the host was, by this container's own settings.

        The images come from whoever keeps them: they choose among these, and bring no path of the host with them.
        """
        known = self._binds(spec) | self._cgroups(spec)
        masked = spec.linux.masked_paths if spec.linux else ()
        # what a container in the host's namespaces has of the host; never what is hidden from it
        hosts_own = ("/proc", "/sys", *(spec.linux.readonly_paths if spec.linux else ()))
        found = []
        for place in places:
            above = place
            while above not in known and above != "/":
                above = above.rpartition("/")[0] or "/"
            if place in masked:
                found.append((place, "/dev/null"))
            elif above in known:
                found.append((place, known[above] + place.removeprefix(above)))
            elif place in hosts_own:
                found.append((place, place))
            else:
                raise SystemFailure(f"the checkpoint has something mounted at {place}, and this container has not")
        return found

    def _binds(self, spec: RuntimeSpec) -> dict[str, str]:
        """Where the container's binds come to lie, and what is bound there. Places that the root lacks are made: this may be
        another container than the one that was written out."""
        destinations = [os.path.normpath(each.destination) for each in spec.mounts]
        found: dict[str, str] = {}
        assert self._staging is not None
        room = Room(lambda: None, list)
        room.root_fd = os.open(self._staging.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for place, each in zip(destinations, spec.mounts, strict=True):
                bound = parse(each.options, each.type).bind
                if not any(place.startswith(f"{above}/") for above in destinations):  # else it lies in another mount
                    place = _real_place(room, place, each.source if bound else "/").removeprefix(self._staging.root)
                if bound:
                    found[place] = each.source
        finally:
            os.close(room.root_fd)
        return found

    def _cgroups(self, spec: RuntimeSpec) -> dict[str, str]:
        layout = cgroups.detect()
        found: dict[str, str] = {}
        for each in spec.mounts:
            if each.type in ("cgroup", "cgroup2") and not parse(each.options, each.type).bind:
                place = each.destination.rstrip("/")
                if layout.version == 2:
                    found[place] = layout.unified + self.cgroup.path
                for hierarchy in layout.hierarchies:
                    found[f"{place}/{hierarchy.label}"] = hierarchy.mountpoint + self.cgroup.path
        return found

    # ── the talk ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _say(self, message: bytes) -> None:
        assert self._talk is not None
        self._talk.send(message)

    def _hear(self, moment: str) -> rpc.Answer:
        """Listen until criu reports that moment, which it waits at, or that all is done. Raises SystemFailure."""
        assert self._talk is not None
        while True:
            try:
                answer, fd = self._talk.receive()
            except SystemFailure as error:
                raise SystemFailure(reason(error.message, f"{self._log_directory}/{_LOG}")) from None
            if not answer.success:
                raise SystemFailure(reason(answer.message, f"{self._log_directory}/{_LOG}"))
            if fd >= 0:
                self.console_fd = fd
            if answer.kind == rpc.RESTORE or (answer.kind == rpc.NOTIFY and answer.moment == moment):
                return answer
            self._say(rpc.go_on())

    def _let_criu_end(self) -> None:
        assert self._talk is not None
        self._talk.close()
        self._talk = None
        _until_dead(self._criu_fd)
        self._reap(self._criu_fd)
        os.close(self._criu_fd)
        self._criu_fd = -1

    def _reap(self, pidfd: int) -> None:
        """A child of ours; a sibling is its parent's to reap."""
        if not self._wish.sibling:
            try:
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            except ChildProcessError:
                pass

    def _clear_staging(self) -> None:
        if self._staging is not None:
            self._staging.clear()
            self._staging = None
        _remove_empty(self._directory)

    def _mark(self, step: str) -> None:
        now = time.monotonic_ns()
        self.trace.append((step, (now - self._last) // 1000))
        self._last = now


def _network_namespace(spec: RuntimeSpec) -> int:
    """The container's network namespace: a new one with `lo` up and its sysctls, or that of another; -1: the host's."""
    namespaces = spec.linux.namespaces if spec.linux else ()
    wanted = next((each for each in namespaces if each.type == "network"), None)
    if wanted is None:
        return -1
    if wanted.path:
        return os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.unshare(process.CLONE_NEWNET)
        fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        loopback.up()
        for name, value in ((spec.linux.sysctl if spec.linux else None) or {}).items():
            path = sysctl_path(name)
            if path.startswith("net/"):
                with open(f"/proc/sys/{path}", "w", encoding="utf-8") as file:
                    file.write(value)
        return fd
    finally:
        process.setns(own, process.CLONE_NEWNET)
        os.close(own)


def _joins(spec: RuntimeSpec) -> list[tuple[str, str]]:
    namespaces = spec.linux.namespaces if spec.linux else ()
    return [(each.type, each.path) for each in namespaces if each.path and each.type in _JOINED]


def _real_place(room: Room, place: str, source: str) -> str:
    """Where in the root a mount of that source comes to lie, links followed inside; made when it is missing."""
    fd = room.directory(place) if stat.S_ISDIR(os.stat(source).st_mode) else room.file(place)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _move(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)


def _make_empty(directory: str) -> None:
    _remove_empty(directory)
    os.makedirs(f"{directory}/rootfs", mode=0o700)


def _remove_empty(directory: str) -> None:
    """Only what is empty: never what is mounted there."""
    try:
        for name in os.listdir(directory):
            path = f"{directory}/{name}"
            if os.path.isdir(path):
                os.rmdir(path)
            else:
                os.unlink(path)
        os.rmdir(directory)
    except OSError:
        pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _until_dead(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_DEATH_SECONDS * 1000)


def _failed(error: Exception) -> StartFailed:
    if isinstance(error, StartFailed):
        return error
    if isinstance(error, InitFailed):
        cause = error.cause
    elif isinstance(error, CarrackError):
        cause = error.message
    else:
        cause = f"{error.filename}: {words(error)}" if isinstance(error, OSError) and error.filename else str(error)
    text = f"failed to create task for container: failed to create shim task: OCI runtime restore failed: {cause}: unknown"
    kind = type(error).__name__ if isinstance(error, CarrackError) else SystemFailure.__name__
    return StartFailed(text, cause=cause, exit_code=128, kind=kind)

"""Making a container: the parent's side. Cgroup, root mount, clone3, and the conversation with init (`init.py` draws it).

What stands outside init's own namespaces (cgroup, descriptors, the process itself) is undone here when a start fails.
"""

from __future__ import annotations

import os
import socket
import time
from typing import NamedTuple

import msgspec

from carrack.errors import CarrackError
from carrack.kernel import process
from carrack.oci import runtime_spec
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import RuntimeSpec
from carrack.runtime import cgroups, hooks, init, rootfs, seccomp
from carrack.runtime.cgroups import Cgroup, CgroupPlan
from carrack.runtime.creation import Creation, kill_and_reap, remove_cgroup
from carrack.runtime.enter import Entered, enter
from carrack.runtime.failure import InitFailed, StartFailed, start_failed, words
from carrack.runtime.identity import held_capabilities, identity
from carrack.runtime.init import InitOrder
from carrack.runtime.mount_options import IDMAP, propagation
from carrack.runtime.plan import NAMESPACE_FLAGS, HeldMount, Plan, plan
from carrack.runtime.program import Stdio

__all__ = ["Creation", "Entered", "StartFailed", "Stdio", "create", "enter", "prepare"]

_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def prepare() -> None:
    """Learn once what every container needs to know of this machine. A zygote calls it before it forks."""
    cgroups.detect()
    held_capabilities()


def create(
    spec: RuntimeSpec,
    *,
    rootfs: tuple[Mount, ...],
    cgroup: CgroupPlan,
    stdio: Stdio | None,
    console: bool = False,
    seccomp_filter: bytes = b"",
    container_id: str = "",
    bundle: str = "",
    die_with_parent: bool = True,
    pivot: bool = True,
    new_keyring: bool = True,
    gate_fd: int = -1,
    preserve_fds: int = 0,
    sibling: bool = False,
    root_path: str = "/",
    trace: bool = False,
) -> Creation:
    """Make the cgroup, clone init into its namespaces and return as soon as they exist. The caller must be single-threaded.

    `seccomp_filter` are the bytes of `seccomp.compile`; without them `spec.linux.seccomp` is compiled here. Without `stdio` and
    `console` init keeps the caller's 0, 1 and 2. Raises StartFailed with everything undone. Init is the caller's child, which
    reaps it by its pidfd (waitid(P_PIDFD)) once it has exited; with `sibling` it is a child of the caller's parent.
    """
    making = _Making(trace)
    try:
        return making.make(
            spec,
            rootfs,
            cgroup,
            _Manner(
                stdio,
                console,
                seccomp_filter,
                container_id,
                bundle,
                die_with_parent,
                pivot,
                new_keyring,
                gate_fd,
                preserve_fds,
                sibling,
                root_path,
                trace,
            ),
        )
    except InitFailed as error:
        making.undo()
        raise start_failed(error.cause, in_init=False) from None
    except CarrackError as error:
        making.undo()
        raise start_failed(error.message, in_init=False) from None
    except OSError as error:
        making.undo()
        raise start_failed(f"{error.filename or 'create'}: {words(error)}", in_init=False) from error


class _Manner(NamedTuple):
    """The parameters of `create` that are no part of the spec."""

    stdio: Stdio | None
    console: bool
    seccomp_filter: bytes
    container_id: str
    bundle: str
    die_with_parent: bool
    pivot: bool
    new_keyring: bool
    gate_fd: int
    preserve_fds: int
    sibling: bool
    root_path: str
    trace: bool


class _Making:
    """One create under way: what exists so far, and how to take it back."""

    def __init__(self, trace: bool) -> None:
        self._descriptors: list[int] = []
        self._cgroup: Cgroup | None = None
        self._pidfd = -1
        self._trace = trace
        self._times: list[tuple[str, int]] = []
        self._last = time.monotonic_ns()

    def make(self, spec: RuntimeSpec, root: tuple[Mount, ...], wanted_cgroup: CgroupPlan, manner: _Manner) -> Creation:
        if manner.console and spec.process and not spec.process.terminal:
            spec = msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, terminal=True))
        steps = plan(
            spec, cgroup_path=wanted_cgroup.path, layout=wanted_cgroup.layout, pivot=manner.pivot, root_path=manner.root_path
        )
        warnings: list[str] = []
        order = self._order(spec, steps, manner, warnings)
        self._mark("plan")
        self._cgroup = cgroups.begin(wanted_cgroup)
        if any(join.type == "user" for join in steps.joins):
            cgroups.complete(wanted_cgroup, self._cgroup)  # whoever is in a user namespace may no longer join
        joins = tuple((self._keep(_open_namespace(join.path)), NAMESPACE_FLAGS[join.type]) for join in steps.joins)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        cgroup_fd = self._cgroup.directory_fd()
        order = order._replace(
            cgroup=self._cgroup,
            born_in_cgroup=self._cgroup.joined_by_birth,
            mount_count=1 + len(steps.held),
            join_fds=_in_order(joins),
            answer=theirs,
        )
        flags = order.plan.clone_flags | (process.CLONE_PARENT if manner.sibling else 0)
        pid = self._fork(order, ours, cgroup_fd, joins, flags)
        theirs.close()
        self._mark("clone")
        creation = Creation(pid, self._pidfd, ours, order, wanted_cgroup)
        creation.warnings = warnings
        self._after_birth(spec, steps, creation, joins)
        users_fd = self._user_namespace(creation, joins) if _shifts(root, steps) else -1
        root_fd, kept = self._take_root(spec, root, users_fd)
        creation.give_mounts([root_fd, *(self._keep(_take_held(each, users_fd)) for each in steps.held)])
        creation.rootfs_fd = kept
        self._close_but(kept)
        self._mark("root and binds")
        creation.trace = self._times
        return creation

    def _order(self, spec: RuntimeSpec, steps: Plan, manner: _Manner, warnings: list[str]) -> InitOrder:
        wanted = spec.process or runtime_spec.Process()
        linux = spec.linux or runtime_spec.Linux()
        compiled = manner.seccomp_filter or (seccomp.compile(linux.seccomp) if linux.seccomp else b"")
        # below a joined user namespace it is born of a process that goes at once: whoever watches its cgroup ends it then
        alone = any(join.type == "user" for join in steps.joins)
        dies = manner.die_with_parent and not alone
        who = identity(wanted, seccomp_filter=compiled, die_with_parent=dies, warnings=warnings)
        if wanted.apparmor_profile and wanted.apparmor_profile != "unconfined" and not _apparmor_enabled():
            raise InitFailed("apparmor: config provided but apparmor not supported")
        state = hooks.State(spec.oci_version, manner.container_id, "created", 0, manner.bundle, spec.annotations)
        return InitOrder(
            plan=steps,
            process=wanted,
            identity=who,
            cgroup=None,  # type: ignore[arg-type]  # known a few lines on
            born_in_cgroup=False,
            mount_count=0,
            join_fds=(),
            stdio=manner.stdio,
            answer=None,  # type: ignore[arg-type]
            hooks=spec.hooks or runtime_spec.Hooks(),
            state=state,
            user_namespace=bool(steps.clone_flags & process.CLONE_NEWUSER),
            keyring_name=f"_ses.{manner.container_id or 'carrack'}" if manner.new_keyring else "",
            personality=_personality(linux),
            seccomp_profile=linux.seccomp,
            apparmor="" if wanted.apparmor_profile == "unconfined" else wanted.apparmor_profile,
            gate_fd=manner.gate_fd,
            preserve_fds=manner.preserve_fds,
            trace=manner.trace,
        )

    def _user_namespace(self, creation: Creation, joins: tuple[tuple[int, int], ...]) -> int:
        """The container's user namespace, for the mounts to be shifted into."""
        joined = next((fd for fd, flag in joins if flag == process.CLONE_NEWUSER), -1)
        if joined >= 0:
            return joined
        return self._keep(os.open(f"/proc/{creation.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))

    def _take_root(self, spec: RuntimeSpec, root: tuple[Mount, ...], users_fd: int) -> tuple[int, int]:
        word = spec.linux.rootfs_propagation if spec.linux else ""
        try:
            root_fd, kept = rootfs.take_root(root, propagation=propagation(word)[0] if word else 0, user_namespace_fd=users_fd)
        except OSError as error:
            raise InitFailed(f"error preparing rootfs: {error.filename or ''}: {words(error)}") from None
        return self._keep(root_fd), self._keep(kept)

    def _fork(self, order: InitOrder, ours: socket.socket, cgroup_fd: int, joins: tuple[tuple[int, int], ...], flags: int) -> int:
        """Clone init. A joined pid namespace is entered by being born in it, so the parent steps in and out again."""
        pid_namespace = next((fd for fd, flag in joins if flag == process.CLONE_NEWPID), -1)
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if pid_namespace >= 0 else -1
        user_namespace = next((fd for fd, flag in joins if flag == process.CLONE_NEWUSER), -1)
        try:
            if pid_namespace >= 0:
                process.setns(pid_namespace, process.CLONE_NEWPID)
            if user_namespace >= 0:
                return self._fork_below(order, user_namespace, cgroup_fd, flags)
            try:
                pid, self._pidfd = process.fork_into(flags, cgroup_fd=cgroup_fd)
            except OSError as error:
                raise InitFailed(f"unable to create namespaces: {words(error)}") from None
            if pid == 0:
                ours.close()
                init.run(order)
            return pid
        finally:
            if own >= 0:
                process.setns(own, process.CLONE_NEWPID)
                os.close(own)
            if cgroup_fd >= 0:
                os.close(cgroup_fd)

    def _fork_below(self, order: InitOrder, user_namespace: int, cgroup_fd: int, flags: int) -> int:
        """Namespaces that shall belong to a joined user namespace must be made by one who is in it already.

        So a process between goes in and clones init for us, as our own child.
        """
        number = process.SharedNumber()
        between, pidfd = process.fork_into(0, cgroup_fd=cgroup_fd)
        if between == 0:
            try:
                if not order.born_in_cgroup:
                    order.cgroup.join()
                process.setns(user_namespace, process.CLONE_NEWUSER)
                os.setgroups(())
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                pid, _ = process.fork_into(flags | process.CLONE_PARENT, pid_goes_to=number)
                if pid == 0:
                    joins = tuple(join for join in order.join_fds if join[1] != process.CLONE_NEWUSER)
                    init.run(order._replace(join_fds=joins, born_in_cgroup=True))
            except OSError as error:
                order.answer.send(init.FAILED + f"unable to create namespaces: {words(error)}".encode())
            finally:
                os._exit(0)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        if not number.value:
            raise InitFailed("unable to create namespaces below the user namespace")
        self._pidfd = os.pidfd_open(number.value)
        return number.value

    def _after_birth(self, spec: RuntimeSpec, steps: Plan, creation: Creation, joins: tuple[tuple[int, int], ...]) -> None:
        joined = next((fd for fd, flag in joins if flag == process.CLONE_NEWNET), -1)
        if joined >= 0:
            creation.network_namespace_fd = os.dup(joined)
        elif steps.clone_flags & process.CLONE_NEWNET:
            try:
                creation.network_namespace_fd = os.open(f"/proc/{creation.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                creation.ready()  # init has failed already: this raises what it said
        if spec.process and spec.process.oom_score_adj is not None:
            _adjust_oom_score(creation, spec.process.oom_score_adj)
        if steps.clone_flags & process.CLONE_NEWUSER:
            creation.give_maps(spec.linux or runtime_spec.Linux())

    def _keep(self, fd: int) -> int:
        self._descriptors.append(fd)
        return fd

    def _close_but(self, kept: int) -> None:
        for fd in self._descriptors:
            if fd != kept:
                os.close(fd)
        self._descriptors = []

    def _mark(self, name: str) -> None:
        if self._trace:
            now = time.monotonic_ns()
            self._times.append((name, (now - self._last) // 1000))
            self._last = now

    def undo(self) -> None:
        """Take back whatever exists."""
        if self._pidfd >= 0:
            kill_and_reap(self._pidfd)
            os.close(self._pidfd)
        self._close_but(-1)
        if self._cgroup is not None:
            remove_cgroup(self._cgroup)


def _shifts(root: tuple[Mount, ...], steps: Plan) -> bool:
    return any(IDMAP in each.options for each in root) or any(each.options.idmap for each in steps.held)


def _take_held(wanted: HeldMount, users_fd: int) -> int:
    try:
        if wanted.tree is not None:
            return rootfs.take_tree(wanted.tree, wanted.options, users_fd)
        return rootfs.take_bind(wanted.source, wanted.options, users_fd)
    except OSError as error:
        raise InitFailed(f'error mounting "{wanted.source}": {words(error)}') from None


def _open_namespace(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InitFailed(f"failed to open namespace {path}: {words(error)}") from None


def _in_order(joins: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """As init must enter them: the user namespace gives the right to the others, the mount namespace changes every path.

    The pid namespace is left out, init is born in it.
    """
    rank = {process.CLONE_NEWUSER: 0, process.CLONE_NEWNS: 2}
    return tuple(sorted((join for join in joins if join[1] != process.CLONE_NEWPID), key=lambda join: rank.get(join[1], 1)))


def _adjust_oom_score(creation: Creation, score: int) -> None:
    path = f"/proc/{creation.pid}/oom_score_adj"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)
    except PermissionError:
        if score == 0:
            return  # the default: nobody asked for less than we have ourselves
        creation.warnings.append(f"oom_score_adj {score} needs CAP_SYS_RESOURCE, which this machine does not give; left as it is")


def _personality(linux: runtime_spec.Linux) -> int:
    if linux.personality is None:
        return -1
    if linux.personality.flags:
        raise InitFailed(f"unsupported personality flags: {' '.join(linux.personality.flags)}")
    if linux.personality.domain not in _PERSONALITIES:
        raise InitFailed(f"invalid personality domain {linux.personality.domain}")
    return _PERSONALITIES[linux.personality.domain]


def _apparmor_enabled() -> bool:
    try:
        fd = os.open("/sys/module/apparmor/parameters/enabled", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 1) == b"Y"
    finally:
        os.close(fd)

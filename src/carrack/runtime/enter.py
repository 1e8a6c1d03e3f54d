"""Exec: one more process in a running container, without the container ever meeting a process that holds more than its own (law 2).

    caller ── clone3 ──▶ helper                                   outside the container's pid namespace, non-dumpable
                           │  closes every descriptor, joins cgroup and namespaces, becomes the user, gives up
                           │  everything the program must not have, filter included
                           └─ clone(CLONE_PARENT) ──▶ program     inside: setsid, execve, nothing else; the caller's own child

The program's pid reaches the caller through shared memory, written by the kernel itself; the end of the conversation's socket,
closed by exec, says that the program runs.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from carrack.kernel import process, terminal
from carrack.oci import runtime_spec
from carrack.runtime.cgroups import Cgroup
from carrack.runtime.device_steps import open_pty
from carrack.runtime.failure import InitFailed, exec_failed, user_not_found, words
from carrack.runtime.identity import Identity, default_signals, finish, identity, put_on, reachable_limits, split_limits
from carrack.runtime.init import LONGEST, NO_USER, failure_of
from carrack.runtime.program import (
    Stdio,
    account_of,
    enter_directory,
    environment_of,
    execute,
    find_program,
    place_stdio,
)

__all__ = ["Entered", "enter"]

_CONSOLE, _LISTENER = b"C", b"L"

_NAMESPACES = (
    process.CLONE_NEWNS
    | process.CLONE_NEWCGROUP
    | process.CLONE_NEWUTS
    | process.CLONE_NEWIPC
    | process.CLONE_NEWPID
    | process.CLONE_NEWNET
)


class Entered(NamedTuple):
    """A process started in a running container: the caller's own child, to be reaped by its pidfd."""

    pid: int
    pidfd: int
    console_fd: int
    """The pty's master; -1 without a console."""


class _Order(NamedTuple):
    pidfd: int
    process: runtime_spec.Process
    identity: Identity
    cgroup: Cgroup
    born_in_cgroup: bool
    stdio: Stdio | None
    console: bool
    user_namespace: bool
    preserve_fds: int
    apparmor: str


def enter(
    pidfd: int,
    wanted: runtime_spec.Process,
    *,
    cgroup: Cgroup,
    stdio: Stdio | None,
    console: bool = False,
    seccomp_filter: bytes = b"",
    user_namespace: bool = False,
    preserve_fds: int = 0,
    agent: Callable[[int, int], None] | None = None,
) -> Entered:
    """Run `wanted` in the container whose init is `pidfd`; blocks until its program was executed. Single-threaded callers only.

    Raises StartFailed in the words of a failed exec. `wanted.user.username` is looked up in the container when it is set.
    `agent` is called with a seccomp listener's descriptor and the pid, when the filter has one; it closes nothing.
    """
    warnings: list[str] = []
    try:
        who = identity(wanted, seccomp_filter=seccomp_filter, die_with_parent=False, warnings=warnings)
        cgroup_fd = cgroup.directory_fd()
    except InitFailed as error:
        raise exec_failed(error.cause) from None
    except OSError as error:
        raise exec_failed(f"{error.filename}: {words(error)}") from error
    profile = "" if wanted.apparmor_profile == "unconfined" else wanted.apparmor_profile
    order = _Order(
        pidfd, wanted, who, cgroup, cgroup.joined_by_birth, stdio, console or wanted.terminal, user_namespace, preserve_fds, profile
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = process.SharedNumber()
    with ours:
        try:
            helper, helper_pidfd = _fork_into(cgroup, cgroup_fd, pidfd)
        except OSError as error:
            theirs.close()
            raise exec_failed(f"unable to fork: {words(error)}") from error
        if helper == 0:
            _help(order, theirs, number)
        theirs.close()
        return _listen(ours, helper_pidfd, number, agent)


def _fork_into(cgroup: Cgroup, cgroup_fd: int, pidfd: int) -> tuple[int, int]:
    """Fork into the container's cgroup; where that has handed its controllers down, as systemd inside has it do, no process may be
    in it itself, so beside init then. Takes `cgroup_fd` over. Raises OSError."""
    try:
        return process.fork_into(0, cgroup_fd=cgroup_fd)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    finally:
        if cgroup_fd >= 0:
            os.close(cgroup_fd)
    beside = cgroup.directory_fd_of(process.pid_of(pidfd))
    try:
        return process.fork_into(0, cgroup_fd=beside)
    finally:
        if beside >= 0:
            os.close(beside)


def _listen(
    ours: socket.socket, helper_pidfd: int, number: process.SharedNumber, agent: Callable[[int, int], None] | None
) -> Entered:
    console_fd = -1
    packet = b""
    try:
        # at most one of each; what a process already inside might send more is read and means nothing but failure
        packet, descriptors, _, _ = socket.recv_fds(ours, LONGEST, 1)
        if packet[:1] == _CONSOLE and descriptors:
            console_fd = descriptors[0]
            os.set_inheritable(console_fd, False)
            packet, descriptors, _, _ = socket.recv_fds(ours, LONGEST, 1)
        if packet[:1] == _LISTENER and descriptors:
            _introduce(descriptors[0], number, agent)
            packet = ours.recv(LONGEST)
    except ConnectionResetError:
        packet = b""
    os.waitid(os.P_PIDFD, helper_pidfd, os.WEXITED)
    os.close(helper_pidfd)
    pid = number.value
    if pid and not packet:
        return Entered(pid, os.pidfd_open(pid), console_fd)
    if console_fd >= 0:
        os.close(console_fd)
    if pid:
        os.waitpid(pid, 0)
    cause = packet[1:].decode(errors="surrogateescape") or "the container is gone"
    raise user_not_found(cause) if packet[:1] == NO_USER else exec_failed(cause)


def _introduce(listener_fd: int, number: process.SharedNumber, agent: Callable[[int, int], None] | None) -> None:
    """Give the agent the listener at once: the program's own execve may be the first call that asks it."""
    try:
        for _ in range(1000):
            if number.value or agent is None:
                break
            time.sleep(0.001)
        if agent is not None:
            agent(listener_fd, number.value)
    finally:
        os.close(listener_fd)


# ── the helper ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _help(order: _Order, answer: socket.socket, number: process.SharedNumber) -> NoReturn:
    """The helper's whole life."""
    try:
        _enter_and_fork(order, answer, number)
    except BaseException as error:  # the process's root: whatever it was is told, then the process ends  # noqa: BLE001
        _tell(answer, *failure_of(error, "exec"))
    finally:
        os._exit(1)


def _tell(answer: socket.socket, kind: bytes, text: str) -> None:
    try:
        answer.send(kind + text.encode(errors="surrogateescape")[: LONGEST - 1])
    except OSError:
        pass


def _enter_and_fork(order: _Order, answer: socket.socket, number: process.SharedNumber) -> None:
    streams = tuple(order.stdio) if order.stdio is not None else ()
    preserved = tuple(range(3, 3 + order.preserve_fds))
    process.close_all_but((0, 1, 2, order.pidfd, answer.fileno(), *streams, *preserved))
    default_signals()
    if not order.born_in_cgroup:
        order.cgroup.join()
    _be_as_killable(order.process.oom_score_adj)
    profile_fd = _own_profile() if order.apparmor else -1
    process.setns(order.pidfd, _NAMESPACES | (process.CLONE_NEWUSER if order.user_namespace else 0))
    os.close(order.pidfd)
    slave = _console(order, answer) if order.console else -1
    account = account_of(order.process)
    if slave >= 0:
        place_stdio(Stdio(slave, slave, slave), account.uid)
    elif order.stdio is not None:
        place_stdio(order.stdio, account.uid)
    enter_directory(order.process.cwd or "/")
    if profile_fd >= 0:
        os.write(profile_fd, f"exec {order.apparmor}".encode())
        os.close(profile_fd)
    warnings: list[str] = []
    who = order.identity._replace(rlimits=reachable_limits(order.identity.rlimits, warnings))
    put_on(who, account.uid, account.gid, account.groups)
    environment = environment_of(order.process, account.home)
    search_path = environment.get(b"PATH", b"").decode(errors="surrogateescape")
    path = find_program(order.process.args[0] if order.process.args else "", search_path)
    process.close_on_exec_from(3 + order.preserve_fds)
    now, later = split_limits(who.rlimits)
    listener_fd = finish(who._replace(rlimits=now), account.uid)
    if listener_fd:
        socket.send_fds(answer, [_LISTENER], [listener_fd])
        os.close(listener_fd)
    if process.fork_sibling(number):
        os._exit(0)
    os.setsid()
    for limit, soft, hard in later:
        resource.setrlimit(limit, (soft, hard))
    if slave >= 0:
        terminal.make_controlling(0)
    execute(path, order.process, environment)


def _be_as_killable(score: int | None) -> None:
    """As the container's first process is, not as our own supervisors are. Going lower may be refused."""
    if score is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(str(score).encode())
    except PermissionError:
        pass


def _own_profile() -> int:
    """The helper's own attribute file, on the host's procfs: the container's could be anything."""
    for file in ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"):
        try:
            return os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
    raise InitFailed("unable to apply apparmor profile: apparmor is not enabled")


def _console(order: _Order, answer: socket.socket) -> int:
    """A pty of the container's devpts; the master goes to the caller."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        master, slave = open_pty(root)
    except OSError as error:
        raise InitFailed(f"error setting up console: {words(error)}") from None
    finally:
        os.close(root)
    size = order.process.console_size
    if size and (size.height or size.width):
        terminal.set_size(master, size.height, size.width)
    socket.send_fds(answer, [_CONSOLE], [master])
    os.close(master)
    return slave

"""Init: what runs in the new namespaces, from its first breath to execve. It imports nothing (law 1) and answers for each failure.

    parent                                   init
      │  clone3 ───────────────────────────▶  │
      │  MAPPED (with a user namespace) ────▶ │  joins namespaces
      │  MOUNTS + [root, binds…] ───────────▶ │  furnishes the room
      │  CGROUP ────────────────────────────▶ │  joins its cgroup, goes on
      │  ◀──────────────────── HOOKS (if any) │
      │  HOOKS_DONE ────────────────────────▶ │  enters the root, finds its user and its program
      │  ◀───────────── CONSOLE + [master]    │  takes limits, filter and capabilities
      │  ◀─────────────────────────── READY   │
      │  GO ────────────────────────────────▶ │  execve
      │  ◀──────────────── (end of file)      │
                  FAILED text at any point, then _exit

A packet is one letter and a text; after the filter is in force it is moved by read and write alone, which every filter allows.
Instead of GO a byte in a FIFO may be awaited (`gate_fd`), when the parent has left.
"""

from __future__ import annotations

import os
import socket
import time
from typing import NamedTuple, NoReturn

import msgspec

from carrack.errors import CarrackError
from carrack.kernel import keyring, paths, process
from carrack.oci import runtime_spec
from carrack.runtime import hooks
from carrack.runtime.cgroups import Cgroup
from carrack.runtime.failure import InitFailed, words
from carrack.runtime.identity import Identity, default_signals, finish, put_on, reachable_limits
from carrack.runtime.plan import Plan
from carrack.runtime.program import (
    Stdio,
    account_of,
    enter_directory,
    environment_of,
    execute,
    find_program,
    place_stdio,
    place_terminal,
)
from carrack.runtime.room import Room
from carrack.runtime.steps import EnterRoot
from carrack.runtime.users import Account

READY, CONSOLE, LISTENER, FAILED, NO_USER, HOOKS = b"R", b"C", b"L", b"F", b"U", b"H"
HOOKS_DONE, GO, MAPPED, MOUNTS, CGROUP = b"D", b"G", b"M", b"B", b"J"
LONGEST = 65536
MOST_DESCRIPTORS = 200
"""In one packet; the kernel's own bound is 253."""


class InitOrder(NamedTuple):
    """Everything init needs; it lies in memory across the fork, nothing is sent."""

    plan: Plan
    process: runtime_spec.Process
    identity: Identity
    cgroup: Cgroup
    born_in_cgroup: bool
    mount_count: int
    """How many descriptors MOUNTS brings: the root and the plan's held mounts."""
    join_fds: tuple[tuple[int, int], ...]
    """(namespace descriptor, CLONE_NEW* flag)."""
    stdio: Stdio | None
    answer: socket.socket
    hooks: runtime_spec.Hooks
    state: hooks.State
    user_namespace: bool
    """Born in a user namespace of its own: the parent writes the maps, and moves init into its cgroup."""
    keyring_name: str
    """Empty: keep the caller's session keyring."""
    personality: int
    seccomp_profile: runtime_spec.Seccomp | None
    """Read for the listener's address only; what is loaded is in `identity`."""
    apparmor: str
    gate_fd: int = -1
    preserve_fds: int = 0
    trace: bool = False


def run(order: InitOrder) -> NoReturn:
    """Init's whole life; never returns."""
    try:
        _Init(order).live()
    except BaseException as error:  # the process's root: whatever it was is told, then the process ends  # noqa: BLE001
        _tell(order, *failure_of(error, "init"))
    finally:
        os._exit(1)


def failure_of(error: BaseException, doing: str) -> tuple[bytes, str]:
    """How a process that could not become the container's tells why: the kind of the packet, and its text."""
    if isinstance(error, InitFailed):
        return FAILED, error.cause
    if isinstance(error, CarrackError):
        return NO_USER, error.message
    if isinstance(error, OSError):
        return FAILED, f"{error.filename or doing}: {words(error)}"
    return FAILED, f"{doing}: {type(error).__name__}: {error}"


def _tell(order: InitOrder, kind: bytes, text: str) -> None:
    try:
        os.write(order.answer.fileno(), kind + text.encode(errors="surrogateescape")[: LONGEST - 1])
    except OSError:
        os.write(2, text.encode(errors="surrogateescape") + b"\n")


class _Init:
    def __init__(self, order: InitOrder) -> None:
        self._order = order
        self._room = Room(self._join_cgroup, self._receive_mounts)
        self._times: list[str] = []
        self._last = time.monotonic_ns()

    def live(self) -> None:
        order = self._order
        self._join()
        self._furnish()
        account, environment, path, who = self._dress()
        if self._room.console_fd >= 0:
            self._send_descriptor(CONSOLE, self._room.console_fd)
        process.close_on_exec_from(3 + order.preserve_fds)
        listener = finish(who, account.uid)
        if listener:
            self._send_descriptor(LISTENER, listener)
        self._mark("limits, filter, capabilities")
        self._ready()
        self._await_go()
        if order.hooks.start_container:
            hooks.run(order.hooks.start_container, order.state, "startContainer")
        execute(path, order.process, environment)

    def _mark(self, name: str) -> None:
        if self._order.trace:
            now = time.monotonic_ns()
            self._times.append(f"{name}\t{(now - self._last) // 1000}")
            self._last = now

    def _join(self) -> None:
        order = self._order
        default_signals()
        os.setsid()
        os.umask(0)
        if order.user_namespace:
            self._become_root()
        self._mark("birth")
        for fd, flag in order.join_fds:
            process.setns(fd, flag)
        if order.keyring_name:
            self._join_keyring()
        self._mark("join namespaces")

    def _await(self, kind: bytes) -> None:
        if os.read(self._order.answer.fileno(), 1) != kind:
            os._exit(1)  # the parent took the start back, or died

    def _join_cgroup(self) -> None:
        self._await(CGROUP)
        if not self._order.born_in_cgroup and not self._order.user_namespace:
            self._order.cgroup.join()

    def _receive_mounts(self) -> list[int]:
        found: list[int] = []
        while len(found) < self._order.mount_count:
            packet, descriptors, _, _ = socket.recv_fds(self._order.answer, 1, MOST_DESCRIPTORS)
            if packet != MOUNTS:
                os._exit(1)
            found += descriptors
        for fd in found:
            os.set_inheritable(fd, False)
        return found

    def _become_root(self) -> None:
        """Wait for the maps, then be the namespace's root, whoever that is outside."""
        self._await(MAPPED)
        os.setgroups(())
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        self._mark("user namespace")

    def _join_keyring(self) -> None:
        try:
            keyring.join_session(self._order.keyring_name)
        except OSError as error:
            self._room.warnings.append(f"no session keyring of its own: {words(error)}")

    def _furnish(self) -> None:
        for step in self._order.plan.steps:
            if isinstance(step, EnterRoot):
                self._before_root()
            step.apply(self._room)
            self._mark(step.describe())

    def _before_root(self) -> None:
        """The last moment in sight of the host: its hooks, and what needs a trustworthy procfs."""
        order = self._order
        if order.hooks.prestart or order.hooks.create_runtime:
            order.answer.send(HOOKS)
            self._await(HOOKS_DONE)
        if order.hooks.create_container:
            os.fchdir(self._room.root_fd)  # where such hooks expect to be
            state = msgspec.structs.replace(order.state, pid=int(os.readlink("/proc/self")))  # the host's procfs still
            hooks.run(order.hooks.create_container, state, "createContainer")
        if order.apparmor:
            self._ask_for_profile()

    def _ask_for_profile(self) -> None:
        """AppArmor's change at the coming exec, written where nothing can be mounted over (CVE-2019-16884, CVE-2025-52881)."""
        resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_XDEV | paths.RESOLVE_NO_SYMLINKS
        proc = self._room.proc()
        for file in ("attr/apparmor/exec", "attr/exec"):
            try:
                fd = paths.open_in(proc, f"{os.getpid()}/{file}", os.O_WRONLY, resolve=resolve)
            except FileNotFoundError:
                continue
            try:
                os.write(fd, f"exec {self._order.apparmor}".encode())
                return
            except OSError as error:
                raise InitFailed(f"unable to apply apparmor profile: {words(error)}") from None
            finally:
                os.close(fd)
        raise InitFailed("unable to apply apparmor profile: apparmor is not enabled")

    def _dress(self) -> tuple[Account, dict[bytes, bytes], str, Identity]:
        """Stdio, user, directory and program; from here on with the program's own rights to files."""
        order = self._order
        if order.personality >= 0:
            process.set_personality(order.personality)
        account = account_of(order.process)
        if self._room.slave_fd >= 0:
            place_terminal(self._room.slave_fd, account.uid)
        elif order.stdio is not None:
            place_stdio(order.stdio, account.uid)
        enter_directory(order.process.cwd)
        limits = reachable_limits(order.identity.rlimits, self._room.warnings)
        who = order.identity._replace(rlimits=limits)
        put_on(who, account.uid, account.gid, account.groups)
        environment = environment_of(order.process, account.home)
        search_path = environment.get(b"PATH", b"").decode(errors="surrogateescape")
        path = find_program(order.process.args[0] if order.process.args else "", search_path)
        self._mark("user and program")
        return account, environment, path, who

    def _send_descriptor(self, kind: bytes, fd: int) -> None:
        socket.send_fds(self._order.answer, [kind], [fd])
        os.close(fd)

    def _ready(self) -> None:
        """READY, the warnings, a NUL, and the trace, line by line."""
        text = "\n".join(self._room.warnings) + "\0" + "\n".join(self._times)
        os.write(self._order.answer.fileno(), READY + text.encode(errors="surrogateescape")[: LONGEST - 1])

    def _await_go(self) -> None:
        order = self._order
        if order.gate_fd >= 0:
            order.answer.close()
            os.read(order.gate_fd, 1)
        else:
            self._await(GO)

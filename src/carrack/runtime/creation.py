"""A container between its birth and its first instruction: the parent's end of the conversation with init (`init.py` draws it)."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

from carrack.kernel import process
from carrack.oci import runtime_spec
from carrack.oci.runtime_spec import IDMapping
from carrack.runtime import cgroups, hooks, init, listener
from carrack.runtime.cgroups import Cgroup, CgroupPlan
from carrack.runtime.failure import InitFailed, start_failed, user_not_found, words
from carrack.runtime.init import InitOrder


class Creation:
    """A container's init: its namespaces exist, its set-up goes on in it, and it will wait before it executes the program.

    `network_namespace_fd`: the container's network namespace when it is not the host's, else -1. `rootfs_fd`: the root mount, to be
    kept open until the exit was told, because its close is what unmounts. `console_fd`: the pty's master, from `ready` on; -1
    without one. `warnings` and `trace` ((step, microseconds)) are complete after `ready`. The descriptors belong to the caller.
    """

    def __init__(self, pid: int, pidfd: int, answer: socket.socket, order: InitOrder, wanted_cgroup: CgroupPlan) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.rootfs_fd = -1
        self.cgroup = order.cgroup
        self._wanted_cgroup = wanted_cgroup
        self.network_namespace_fd = -1
        self.console_fd = -1
        self.warnings: list[str] = []
        self.trace: list[tuple[str, int]] = []
        self._answer = answer
        self._order = order
        self._listener_fd = -1

    def ready(self, before_answer: Callable[[int], None] = lambda _: None) -> None:
        """Block until init waits for `go`. Raises StartFailed, everything undone.

        `before_answer` is called with the descriptor by which init will answer, each time before that is read; it may wait for it.
        """
        self._complete_cgroup()
        try:
            before_answer(self._answer.fileno())
            packet = self._receive()
            while packet[:1] in (init.HOOKS, init.CONSOLE, init.LISTENER):
                if packet == init.HOOKS:
                    self._run_hooks()
                elif packet == init.LISTENER:
                    self._hand_listener_over()
                before_answer(self._answer.fileno())
                packet = self._receive()
        except InitFailed as error:
            self.abandon()
            raise start_failed(error.cause) from None
        if packet[:1] != init.READY:
            self._fail(packet)
        warnings, _, times = packet[1:].decode(errors="surrogateescape").partition("\0")
        self.warnings += [line for line in warnings.split("\n") if line]
        for line in times.split("\n"):
            step, tab, microseconds = line.partition("\t")
            if tab:
                self.trace.append((step, int(microseconds)))

    def go(self) -> None:
        """Let init execute the program; block until it has. Raises StartFailed, everything undone."""
        started = time.monotonic_ns()
        try:
            self._answer.send(init.GO)
        except (BrokenPipeError, ConnectionResetError):
            self._fail(self._receive())
        packet = self._receive()
        if packet:
            self._fail(packet)
        self._answer.close()
        self.trace.append(("go", (time.monotonic_ns() - started) // 1000))

    def abandon(self) -> None:
        """Kill init, reap it, remove its cgroup, close every descriptor of this Creation. Safe to call twice."""
        self._answer.close()
        if self.pidfd >= 0:
            kill_and_reap(self.pidfd)
        for fd in (self.pidfd, self.rootfs_fd, self.network_namespace_fd, self.console_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.rootfs_fd = self.network_namespace_fd = self.console_fd = -1
        remove_cgroup(self.cgroup)

    def detach(self) -> None:
        """Forget the conversation: init waits for its gate, whoever opens it (carrack-oci)."""
        self._answer.close()

    def give_mounts(self, descriptors: list[int]) -> None:
        """The root and the held mounts, in the plan's order. Init that is gone already is told of by `ready`."""
        try:
            for first in range(0, len(descriptors), init.MOST_DESCRIPTORS):
                socket.send_fds(self._answer, [init.MOUNTS], descriptors[first : first + init.MOST_DESCRIPTORS])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def give_maps(self, linux: runtime_spec.Linux) -> None:
        """The identities of init's user namespace."""
        write_maps(self.pid, linux.uid_mappings, linux.gid_mappings)
        self._answer.send(init.MAPPED)

    def _complete_cgroup(self) -> None:
        """Make the rest of the cgroup while init furnishes its room, and tell it to join."""
        started = time.monotonic_ns()
        try:
            self.warnings += cgroups.complete(self._wanted_cgroup, self.cgroup)
            if self._order.user_namespace and not self._order.born_in_cgroup:
                self.cgroup.add(self.pid)
        except OSError as error:
            self.abandon()
            raise start_failed(f"{error.filename or 'cgroup'}: {words(error)}", in_init=False) from error
        self.trace.append(("cgroup", (time.monotonic_ns() - started) // 1000))
        try:
            self._answer.send(init.CGROUP)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what init had to say is read next

    def _receive(self) -> bytes:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._answer, init.LONGEST, 1)
        except ConnectionResetError:
            # init ended with a packet of ours unread: that is told once, before what it had to say itself
            packet, descriptors, _, _ = socket.recv_fds(self._answer, init.LONGEST, 1)
        for fd in descriptors:
            os.set_inheritable(fd, False)
            if packet == init.LISTENER:
                self._listener_fd = fd
            else:
                self.console_fd = fd
        return packet

    def _hand_listener_over(self) -> None:
        order = self._order
        state = hooks.State(
            order.state.oci_version, order.state.id, "creating", self.pid, order.state.bundle, order.state.annotations
        )
        try:
            if order.seccomp_profile is None:
                raise InitFailed("the filter has a listener and the spec names no agent")
            listener.hand_over(order.seccomp_profile, self._listener_fd, self.pid, state)
        finally:
            os.close(self._listener_fd)

    def _run_hooks(self) -> None:
        order = self._order
        state = hooks.State(
            order.state.oci_version, order.state.id, "creating", self.pid, order.state.bundle, order.state.annotations
        )
        hooks.run(order.hooks.prestart, state, "prestart")
        hooks.run(order.hooks.create_runtime, state, "createRuntime")
        self._answer.send(init.HOOKS_DONE)

    def _fail(self, packet: bytes) -> None:
        """Turn init's last words into StartFailed."""
        cause = packet[1:].decode(errors="surrogateescape") or "init died without a word" + self._how_it_died()
        self.abandon()
        raise user_not_found(cause) if packet[:1] == init.NO_USER else start_failed(cause)

    def _how_it_died(self) -> str:
        if self.cgroup.out_of_memory_kills():
            return ": container init was OOM-killed (memory limit too low?)"
        return ""


def write_maps(pid: int, uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> None:
    """Give a user namespace its identities (user_namespaces(7)). Raises InitFailed."""
    if not uids or not gids:
        raise InitFailed("User namespaces enabled, but no uid/gid mappings found")
    for file, mappings in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{each.container_id} {each.host_id} {each.size}\n" for each in mappings)
        try:
            fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise InitFailed(f"failed to write {file}: {words(error)}") from None


def kill_and_reap(pidfd: int) -> None:
    """End a child of ours, whatever it is doing, and wait for it. Idempotent."""
    try:
        process.send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        pass


def remove_cgroup(cgroup: Cgroup) -> None:
    """Kill what is in a cgroup and remove it; does not raise."""
    try:
        cgroup.kill()
        cgroup.remove()
    except OSError:
        pass  # the failure that brought us here is the one to tell; the next start finds the directory empty

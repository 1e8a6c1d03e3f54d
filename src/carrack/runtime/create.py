"""Making a container's init, and entering a container: the two things a shim asks of the runtime (signatures first)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from carrack.oci.mount import Mount
    from carrack.oci.runtime_spec import Process, RuntimeSpec
    from carrack.runtime.cgroups import Cgroup, CgroupPlan


class Stdio(NamedTuple):
    """The descriptors a process gets as 0, 1 and 2; -1: /dev/null. The caller keeps and closes its own."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


class StartFailed(Exception):
    """The container could not be made, or its program not executed.

    `message` is Docker's whole text (``failed to create task for container: … OCI runtime create failed: runc create failed: …``),
    `cause` the innermost part; `exit_code` 127 (not found), 126 (not executable), else 128; `kind` names a class of carrack.errors.
    """

    def __init__(self, message: str, *, cause: str = "", exit_code: int = 128, kind: str = "SystemFailure") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause or message
        self.exit_code = exit_code
        self.kind = kind


class Creation:
    """A container's init: its namespaces exist, its set-up goes on in it, and it will wait before it executes the program."""

    pid: int
    pidfd: int
    network_namespace_fd: int
    """The container's network namespace, when it has one of its own (or joined one); else -1."""
    rootfs_fd: int
    """The detached root mount: keep it open until the exit was told (its close is what unmounts), then close it."""
    console_fd: int
    """The pty's master; -1 before `ready` and without a console."""
    cgroup: Cgroup
    warnings: list[str]
    trace: list[tuple[str, int]]
    """(step, microseconds), filled by `ready` and `go` when create was asked to trace."""

    def ready(self) -> None:
        """Block until init waits for `go`. Raises StartFailed, everything undone."""
        raise NotImplementedError

    def go(self) -> None:
        """Let init execute the program; block until it has. Raises StartFailed, everything undone."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Kill init, reap it, remove its cgroup, close every descriptor of this Creation."""
        raise NotImplementedError


def create(
    spec: RuntimeSpec,
    *,
    rootfs: tuple[Mount, ...],
    cgroup: CgroupPlan,
    stdio: Stdio | None,
    console: bool = False,
    seccomp: bytes = b"",
    die_with_parent: bool = True,
    trace: bool = False,
) -> Creation:
    """Make the cgroup, clone init into its namespaces and return as soon as they exist. The caller must be single-threaded.

    `rootfs` is mounted first to last, the last on top; a bind or overlay. `seccomp` are the bytes of `seccomp.compile`.
    Raises StartFailed with everything undone. Init is the caller's child: reap it by its pidfd (waitid(P_PIDFD)).
    """
    raise NotImplementedError


class Entered(NamedTuple):
    """A process started in a running container; the caller's own child, to be reaped by pidfd."""

    pid: int
    pidfd: int
    console_fd: int


def enter(
    pidfd: int,
    process: Process,
    *,
    cgroup: Cgroup,
    stdio: Stdio | None,
    console: bool = False,
    seccomp: bytes = b"",
    user_namespace: bool = False,
) -> Entered:
    """Run `process` in the container whose init is `pidfd` (law 2). Blocks until its program was executed.

    Raises StartFailed with Docker's exec text (``OCI runtime exec failed: exec failed: unable to start container process: …``).
    `process.user.username` is looked up inside the container when set.
    """
    raise NotImplementedError

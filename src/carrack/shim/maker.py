"""The maker: a short-lived fork of a starting shim, which makes the container and goes.

    shim ── fork ──▶ maker ── clone3(CLONE_PARENT) ──▶ init, the shim's own child
      │◀─ Made + [pidfd, root, our ends of the pipes…, netns] ─│
      │◀─ Ready + [console] ───────────────────────────────────│
      │── go ──────────────────────────────────────────────────▶│
      │◀─ Running, or Failed at any point ──────────────────────│  it exits

Making a container runs most of the runtime, and each page of memory that a process writes after its fork, be it a reference
count, is a page of its own until it dies. The maker takes those pages with it, and the order's secrets: the shim never reads them.
"""

from __future__ import annotations

import _socket
import os
from typing import NamedTuple, NoReturn, TypeVar

import msgspec

from carrack.errors import CarrackError, SystemFailure
from carrack.kernel import process as kernel_process
from carrack.runtime import cgroups
from carrack.runtime.create import Creation, StartFailed, create
from carrack.shim import open_files, wire
from carrack.shim.messages import StartOrder
from carrack.shim.pipes import make_pipes

_GO = b"go"
R = TypeVar("R")


class _Report(msgspec.Struct, frozen=True, tag=True):
    pass


class Made(_Report, frozen=True):
    """Descriptors: pidfd and root; with pipes the input (if `has_input`), output and errors; the network namespace, if any."""

    pid: int
    console: bool
    has_input: bool
    user_namespace: bool
    warnings: list[str]


class Ready(_Report, frozen=True):
    """Init waits for go. Descriptor: the pty's master, with a console."""


class Running(_Report, frozen=True):
    warnings: list[str]
    trace: list[tuple[str, int]]


class Failed(_Report, frozen=True):
    message: str
    cause: str
    exit_code: int
    kind: str


_decoder: msgspec.json.Decoder[Made | Ready | Running | Failed] = msgspec.json.Decoder(Made | Ready | Running | Failed)
_encoder = msgspec.json.Encoder()


class Container(NamedTuple):
    """A container that was made, by its descriptors."""

    pid: int
    pidfd: int
    rootfs_fd: int
    network_namespace_fd: int
    """-1: the host's."""
    input_fd: int
    outputs: tuple[int, ...]
    """Output and errors; nothing with a console."""
    console: bool
    user_namespace: bool
    warnings: tuple[str, ...]

    def close(self) -> None:
        wire.close_all([fd for fd in (self.pidfd, self.rootfs_fd, self.network_namespace_fd) if fd >= 0])


class Maker:
    """The shim's side. Each step blocks until the maker has done it; StartFailed: it could not, and all is undone."""

    def __init__(self, order_fd: int) -> None:
        """Fork. `order_fd` is the StartOrder in its sealed memfd, closed here."""
        self._sock, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._sock.close()
            _work(order_fd, theirs)
        self._pid = pid
        theirs.close()
        os.close(order_fd)

    def made(self) -> Container:
        report, fds = self._receive(Made)
        pidfd, rootfs_fd, *rest = fds
        input_fd = rest.pop(0) if report.has_input else -1
        outputs = () if report.console else (rest.pop(0), rest.pop(0))
        network_namespace_fd = rest.pop(0) if rest else -1
        return Container(
            report.pid,
            pidfd,
            rootfs_fd,
            network_namespace_fd,
            input_fd,
            outputs,
            report.console,
            report.user_namespace,
            tuple(report.warnings),
        )

    def ready(self) -> int:
        """The console's descriptor; -1 without one."""
        _, fds = self._receive(Ready)
        return fds[0] if fds else -1

    def go(self) -> Running:
        try:
            self._sock.send(_GO, _socket.MSG_NOSIGNAL)
        except OSError:
            pass  # what it had to say is read below
        report, _ = self._receive(Running)
        self._end()
        return report

    def abandon(self) -> None:
        """Take everything back; returns when it is. Harmless after an end."""
        self._end()

    def _receive(self, kind: type[R]) -> tuple[R, list[int]]:
        report: _Report
        try:
            payload, fds = wire.receive_packet(self._sock)
            report = _decoder.decode(payload)
        except (OSError, EOFError, msgspec.MsgspecError):
            report, fds = Failed("the process that makes the container died", "", 128, SystemFailure.__name__), []
        if isinstance(report, kind):
            return report, fds
        self._end()
        if isinstance(report, Failed):
            raise StartFailed(report.message, cause=report.cause, exit_code=report.exit_code, kind=report.kind)
        raise SystemFailure(f"the process that makes the container said {type(report).__name__} instead of {kind.__name__}")

    def _end(self) -> None:
        self._sock.close()
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0


# ── in the maker ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _work(order_fd: int, sock: _socket.socket) -> NoReturn:
    """The maker's whole life."""
    code = 1
    try:
        kernel_process.close_all_but((0, 1, 2, order_fd, sock.fileno()))
        open_files.restore_limit()
        _make(order_fd, sock)
        code = 0
    except StartFailed as failed:
        _send(sock, Failed(failed.message, failed.cause, failed.exit_code, failed.kind))
    except CarrackError as error:
        _send(sock, Failed(error.message, error.message, 128, type(error).__name__))
    except OSError as error:
        _send(sock, Failed(f"failed to create task for container: {error}", str(error), 128, SystemFailure.__name__))
    except Exception as error:  # the process's root: say it, and end
        _send(sock, Failed(f"{type(error).__name__}: {error}", "", 128, SystemFailure.__name__))
    finally:
        os._exit(code)


def _make(order_fd: int, sock: _socket.socket) -> None:
    order = wire.read_sealed(order_fd)
    if not isinstance(order, StartOrder):
        raise SystemFailure("a shim is made by a StartOrder")
    creation = _create(order, sock)
    try:
        creation.ready()
    except BaseException:
        creation.abandon()
        raise
    _send(sock, Ready(), [creation.console_fd] if creation.console_fd >= 0 else [])
    if sock.recv(len(_GO)) != _GO:
        creation.abandon()
        return
    creation.go()
    _send(sock, Running(list(creation.warnings), list(creation.trace)))


def _create(order: StartOrder, sock: _socket.socket) -> Creation:
    """Up to Made."""
    spec = order.spec
    console = spec.process is not None and spec.process.terminal
    pipes = None if console else make_pipes(stdin=order.open_stdin)
    creation = create(
        spec,
        rootfs=order.rootfs,
        cgroup=cgroups.plan(order.cgroup, spec.linux.resources if spec.linux else None),
        stdio=pipes.stdio if pipes else None,
        console=console,
        seccomp_filter=order.seccomp,
        container_id=order.container_id,
        sibling=True,
        trace=order.trace,
    )
    fds = [creation.pidfd, creation.rootfs_fd]
    if pipes:
        fds += [fd for fd in (pipes.input_fd, *pipes.outputs) if fd >= 0]
    if creation.network_namespace_fd >= 0:
        fds.append(creation.network_namespace_fd)
    user_namespace = spec.linux is not None and any(each.type == "user" for each in spec.linux.namespaces)
    has_input = pipes is not None and pipes.input_fd >= 0
    _send(sock, Made(creation.pid, console, has_input, user_namespace, list(creation.warnings)), fds)
    if pipes:
        pipes.close_process_ends()
        pipes.close_own_ends()
    return creation


def _send(sock: _socket.socket, report: _Report, fds: list[int] | None = None) -> None:
    """Nobody to hear it is no error: then the shim has gone, and init with it."""
    try:
        sock.sendmsg([_encoder.encode(report)], wire.ancillary(fds or []), _socket.MSG_NOSIGNAL)
    except OSError:
        pass

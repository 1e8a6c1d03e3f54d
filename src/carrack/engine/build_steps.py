"""RUN steps on the engine's own runtime: a container that no list shows, tied to the conversation with its shim.

Blocking, in a thread of the build's own. The step's container ends when this daemon lets go of it or dies (`StartOrder.tied`); what
a killed daemon leaves on disk and in networks has no record and is cleared at the next start, like that of any unknown container.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from carrack.build.ports import StepMount, StepOrder
from carrack.distribution.cancellation import Cancellation
from carrack.engine import apparmor, cdi, launch, specification
from carrack.engine.config import ContainerConfig, DeviceRequest, EndpointSettings, HostConfig, LogConfig, Ulimit
from carrack.engine.container import Container
from carrack.engine.launch import Launch
from carrack.engine.rooms import Rooms
from carrack.engine.shims import error_of
from carrack.errors import Cancelled, InvalidParameter, SystemFailure, Unavailable
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import MountTree, RuntimeSpec, SpecMount
from carrack.shim import wire
from carrack.shim.messages import (
    Abandon,
    Attach,
    Created,
    Exited,
    Forget,
    Go,
    Greeting,
    LogPlan,
    Message,
    Started,
    StartFailed,
    StartOrder,
)

_HEADER_BYTES = 8
_READ_BYTES = 256 << 10


class BuildSteps:
    """Runs steps; safe from any thread. `order_start` has a shim forked, as `zygote_process.order_start` does."""

    def __init__(self, rooms: Rooms, order_start: Callable[[StartOrder, Sequence[int]], socket.socket]) -> None:
        self._rooms = rooms
        self._order_start = order_start

    def run(self, order: StepOrder, output: Callable[[int, bytes], None], cancel: Cancellation) -> int:
        """See `build.ports.RunStep.run`."""
        cancel.check()
        container = _container(order, self._rooms)
        prepared = launch.prepare(container, self._rooms, specification.Places("", namespace_of=self._pid_of))
        try:
            assert prepared.order is not None
            start = _start_order(order, prepared.order, Path(container.directory))
            return self._converse(container, prepared, start, output, cancel)
        finally:
            launch.undo(container, self._rooms, prepared)
            self._rooms.directories.shim_socket(order.key).unlink(missing_ok=True)

    def _pid_of(self, reference: str) -> int:
        container = self._rooms.table.get(reference)
        return container.state.pid if container.state.running else 0

    def _converse(
        self,
        container: Container,
        prepared: Launch,
        start: StartOrder,
        output: Callable[[int, bytes], None],
        cancel: Cancellation,
    ) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with ours, reader:
            with theirs, writer, self._order_start(start, (theirs.fileno(), writer.fileno())) as zygote:
                _greeted(zygote)
            step = _Step(ours, reader, output)

            def end() -> None:
                """The conversation's end ends the step."""
                try:
                    ours.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

            with cancel.calling(end):
                try:
                    self._begin(container, prepared, step)
                    exited = step.until_exit()
                    step.tell(Forget(removed=True))
                    step.until_gone()
                except _Gone:
                    step.until_gone()
                    cancel.check()
                    raise SystemFailure("the step's supervisor was lost") from None
            if cancel.cancelled:
                raise Cancelled("the build was cancelled")
            return exited.exit_code

    def _begin(self, container: Container, prepared: Launch, step: _Step) -> None:
        message, fds = step.next()
        try:
            if not isinstance(message, Created):
                raise _failure(message)
            if launch.uses_own_network(container) and len(fds) > 1:
                try:
                    launch.plug(self._rooms, prepared, fds[1], fds[0])
                except BaseException:
                    step.tell(Abandon())
                    raise
        finally:
            for fd in fds:
                os.close(fd)
        step.tell(Go())
        message, fds = step.next()
        wire.close_all(fds)
        if not isinstance(message, Started):
            raise _failure(message)


class _Gone(Exception):
    """The shim has closed its end of the conversation."""


@dataclass(slots=True)
class _Step:
    """The conversation with a step's shim, and the stream of its output."""

    shim: socket.socket
    stream: socket.socket
    output: Callable[[int, bytes], None]
    held: bytes = b""
    open: bool = True

    def tell(self, message: Message) -> None:
        try:
            wire.send(self.shim, message)
        except OSError:
            raise _Gone from None

    def next(self) -> tuple[Message, list[int]]:
        """The shim's next message; output that comes meanwhile is handed on."""
        while True:
            if self.shim.fileno() in self._ready():
                try:
                    return wire.receive(self.shim)
                except (OSError, EOFError):
                    raise _Gone from None
            self._take()

    def until_exit(self) -> Exited:
        """Hand on output until the step has ended."""
        while True:
            message, fds = self.next()
            wire.close_all(fds)
            if isinstance(message, Exited):
                return message

    def until_gone(self) -> None:
        """Hand on what output is left, until the shim has let go of everything: then the step's mounts and cgroup are gone."""
        poll = select.poll()
        poll.register(self.stream, select.POLLIN)
        while self.open:
            poll.poll()
            self._take()
        while True:
            try:
                _, fds = wire.receive(self.shim)
            except (OSError, EOFError):
                return
            wire.close_all(fds)

    def _ready(self) -> set[int]:
        poll = select.poll()
        poll.register(self.shim, select.POLLIN)
        if self.open:
            poll.register(self.stream, select.POLLIN)
        return {fd for fd, _ in poll.poll()}

    def _take(self) -> None:
        """One piece of the attach stream (frames of Docker's eight-byte header)."""
        if not self.open:
            return
        try:
            piece = self.stream.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.open = False
            return
        self.held += piece
        while len(self.held) >= _HEADER_BYTES:
            length = int.from_bytes(self.held[4:_HEADER_BYTES], "big")
            if len(self.held) < _HEADER_BYTES + length:
                return
            self.output(self.held[0], self.held[_HEADER_BYTES : _HEADER_BYTES + length])
            self.held = self.held[_HEADER_BYTES + length :]


def _failure(message: object) -> Exception:
    if isinstance(message, StartFailed):
        return error_of(message.kind, message.message)
    return SystemFailure(f"the step's supervisor did not answer as it should: {type(message).__name__}")


# ── the order ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Limits(msgspec.Struct):
    """The limits of a build, by the names of `POST /build`."""

    memory: int = 0
    memswap: int = 0
    cpushares: int = 0
    cpusetcpus: str = ""
    cpusetmems: str = ""
    cpuperiod: int = 0
    cpuquota: int = 0
    ulimits: list[Ulimit] = []


def _container(order: StepOrder, rooms: Rooms) -> Container:
    """The record that the engine's own code makes a specification of. It is never put into the table."""
    limits = msgspec.convert(order.limits, _Limits)
    mode = "bridge" if order.network in ("default", "sandbox", "") else order.network
    networks = {} if mode in ("host", "none") or mode.startswith("container:") else {mode: EndpointSettings()}
    host = HostConfig(
        network_mode=mode,
        extra_hosts=list(order.extra_hosts) or None,
        shm_size=order.shm_bytes,
        privileged=order.insecure,
        log_config=LogConfig("none"),
        cgroup_parent=order.cgroup_parent,
        memory=limits.memory,
        memory_swap=limits.memswap,
        cpu_shares=limits.cpushares,
        cpuset_cpus=limits.cpusetcpus,
        cpuset_mems=limits.cpusetmems,
        cpu_period=limits.cpuperiod,
        cpu_quota=limits.cpuquota,
        ulimits=limits.ulimits or None,
        device_requests=_devices(order, rooms),
    )
    config = ContainerConfig(
        hostname=order.hostname,
        user=order.user,
        env=list(order.environment),
        working_dir=order.working_dir,
    )
    if not order.arguments:
        raise InvalidParameter("RUN without a command")
    return Container(
        id=order.key,
        name=f"build-{order.key[:12]}",
        created_at_nanoseconds=0,
        config=config,
        host_config=host,
        image_id="",
        image_reference="",
        path=order.arguments[0],
        arguments=list(order.arguments[1:]),
        networks=networks,
        log_driver="none",
        directory=str(rooms.directories.container(order.key)),
        apparmor_profile=apparmor.profile_for(host, rooms.settings.apparmor_profile),
    )


def _devices(order: StepOrder, rooms: Rooms) -> list[DeviceRequest] | None:
    """The CDI devices of a step; one that is not required (``name?``) only when it is described here."""
    known = cdi.Devices(rooms.settings.cdi_directories).names if order.devices else []
    wanted = [name.removesuffix("?") for name in order.devices if not name.endswith("?") or name[:-1] in known]
    return [DeviceRequest(driver="cdi", device_ids=wanted)] if wanted else None


def _greeted(zygote: socket.socket) -> None:
    """Wait until the order has been taken: a greeting that nobody reads takes it with it. Raises Unavailable when it cannot be."""
    try:
        greeting, _ = wire.receive(zygote)
    except (OSError, EOFError) as error:
        raise Unavailable(f"no zygote answers: {error}") from error
    if isinstance(greeting, Greeting) and greeting.trouble:
        raise Unavailable(f"the zygote {greeting.trouble}")


def _start_order(order: StepOrder, prepared: StartOrder, directory: Path) -> StartOrder:
    """The engine's order, with what a step has beyond a container."""
    mounts = [_mount(mount, directory, number) for number, mount in enumerate(order.mounts)]
    mounts += [_file(path, content, order.file_modes) for path, content in order.files.items()]
    hidden = ("/etc/hostname",)  # a layer holds no trace of one
    spec: RuntimeSpec = prepared.spec
    kept = tuple(mount for mount in spec.mounts if mount.destination not in hidden)
    return replace(
        prepared,
        spec=replace(spec, mounts=(*kept, *mounts)),
        rootfs=tuple(_unsynced(mount) for mount in order.rootfs),
        log=LogPlan("none"),
        attached=(Attach(stdout=True, stderr=True, stream=True, detach_keys=b""),),
        tied=True,
    )


def _unsynced(mount: Mount) -> Mount:
    """An overlay that costs no sync when it goes: what a power cut takes from a step, the step makes anew."""
    return Mount(mount.type, mount.source, mount.target, (*mount.options, "volatile"), mount.lower) if mount.lower else mount


def _mount(mount: StepMount, directory: Path, number: int) -> SpecMount:
    if mount.type == "tmpfs":
        return SpecMount(mount.target, "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", *mount.options))
    access = () if mount.writable else ("ro",)
    if not mount.tree:
        return SpecMount(mount.target, "bind", mount.source, ("rbind", "rprivate", "nosuid", "nodev", *access))
    lower = tuple(place for each in mount.tree for place in (each.lower or (each.source,)))
    tree = MountTree(lower, mount.path)
    if mount.writable:
        upper, work = directory / f"mount-{number}" / "upper", directory / f"mount-{number}" / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        tree = MountTree(lower, mount.path, str(upper), str(work))
    return SpecMount(mount.target, "bind", "", ("bind", "nosuid", "nodev", *access), tree=tree)


def _file(path: str, content: bytes, modes: Mapping[str, tuple[int, int, int]]) -> SpecMount:
    mode, uid, gid = modes.get(path, (0o400, 0, 0))
    return SpecMount(path, "file", "", (f"mode={mode:o}", f"uid={uid}", f"gid={gid}"), content=content)

"""A real zygote, real shims, containers of busybox on an overlay: what the shim's kernel tests stand on."""

from __future__ import annotations

import os
import select
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import Capabilities, Linux, Namespace, Process, Resources, Root, RuntimeSpec, SpecMount, User
from carrack.runtime import cgroups
from carrack.shim import exit_record, wire
from carrack.shim import messages as m
from carrack.shim.zygote_process import Zygote, dismiss_zygote, order_start, spawn_zygote
from tests.rig.waiting import until

BUSYBOX = "/bin/busybox"
SECONDS = 20.0
M = TypeVar("M")

_NAMESPACES = tuple(Namespace(each) for each in ("pid", "mount", "uts", "ipc", "network"))
_MOUNTS = (
    SpecMount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    SpecMount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    SpecMount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
)
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT")


class Harness:
    """One exec-root with its zygote and whatever containers a test makes. `close` leaves nothing behind."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="shim-", dir="/tmp"))
        self.exec_root = self.root / "run"
        (self.exec_root / "shims").mkdir(parents=True)
        self.cgroup_parent = f"/carrack-test-{self.root.name}"
        self.zygote: Zygote = spawn_zygote(str(self.exec_root))
        self.image = self.root / "image"
        _make_image(self.image)
        self._containers: list[Container] = []

    def container(self, command: Sequence[str] | str, **options: object) -> Container:
        """A container that has not been ordered yet. A string is run by the shell."""
        args = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        made = Container(self, os.urandom(32).hex(), args, **options)  # type: ignore[arg-type]
        self._containers.append(made)
        return made

    def destroy_containers(self) -> None:
        while self._containers:
            self._containers.pop().destroy()
        while _ends:
            _ends.pop().close()

    def close(self) -> None:
        self.destroy_containers()
        dismiss_zygote(self.zygote.socket_path)
        try:
            cgroups.open(self.cgroup_parent).remove()
        finally:
            shutil.rmtree(self.root)


@dataclass
class Container:
    """What a daemon knows of one container, and its side of the conversation."""

    harness: Harness
    id: str
    args: tuple[str, ...]
    terminal: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    driver: str = "local"
    log: m.LogPlan | None = None
    resources: Resources | None = None
    namespaces: tuple[Namespace, ...] = _NAMESPACES
    capabilities: tuple[str, ...] = _CAPABILITIES
    env: tuple[str, ...] = ("PATH=/bin",)
    user: int = 0
    attached: list[tuple[m.Attach, socket.socket]] = field(default_factory=list)
    waiting: list[tuple[m.Wait, socket.socket]] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    held: list[socket.socket] = field(default_factory=list)
    trace: bool = False
    idle_seconds: float = 10.0
    pid: int = 0
    shim_pid: int = 0
    _sequence: int = 0

    def __post_init__(self) -> None:
        self.directory = self.harness.root / "containers" / self.id
        for name in ("upper", "work"):
            (self.directory / name).mkdir(parents=True)
        self.socket_path = str(self.harness.exec_root / "shims" / f"{self.id}.sock")
        self.cgroup = f"{self.harness.cgroup_parent}/{self.id}"
        self.plan = self.log or m.LogPlan(driver=self.driver, path=str(self.directory / "container.log"))
        self.conversation: socket.socket

    def order(self) -> m.StartOrder:
        held = Capabilities(*(self.capabilities,) * 2, inheritable=(), permitted=self.capabilities)
        process = Process(self.args, env=self.env, terminal=self.terminal, capabilities=held, user=User(self.user, self.user))
        spec = RuntimeSpec(
            process=process,
            root=Root("rootfs"),
            hostname="box",
            mounts=_MOUNTS,
            linux=Linux(namespaces=self.namespaces, resources=self.resources),
        )
        options = (f"upperdir={self.directory}/upper", f"workdir={self.directory}/work")
        return m.StartOrder(
            container_id=self.id,
            spec=spec,
            rootfs=(Mount("overlay", "overlay", "", options, (str(self.harness.image),)),),
            cgroup=self.cgroup,
            socket_path=self.socket_path,
            state_directory=str(self.directory),
            log=self.plan,
            open_stdin=self.open_stdin,
            held_ports=len(self.held),
            stdin_once=self.stdin_once,
            attached=tuple(each for each, _ in self.attached),
            waiting=tuple(each for each, _ in self.waiting),
            trace=self.trace,
            idle_seconds=self.idle_seconds,
        )

    def fail(self) -> m.StartFailed:
        """Order a start that fails; whether before Go or after is a race that the program decides."""
        self.order_shim()
        message = self.receive()
        if isinstance(message, m.Created):
            self.send(m.Go())
            message = self.receive()
        assert isinstance(message, m.StartFailed), message
        return message

    def create(self) -> m.Created:
        """Order the shim; returns when the namespaces exist."""
        self.order_shim()
        created = self.expect(m.Created)
        self.pid = created.pid
        self.shim_pid = _parent_of(created.pid)
        return created

    def order_shim(self) -> None:
        if hasattr(self, "conversation"):
            self.conversation.close()
        self.conversation, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.conversation.settimeout(SECONDS)
        clients = [each for _, each in (*self.attached, *self.waiting)]
        handed = (theirs, *self.held, *clients)
        with order_start(self.harness.zygote.socket_path, self.order(), tuple(each.fileno() for each in handed)) as zygote:
            zygote.recv(1000)
        for each in handed:
            each.close()

    def start(self) -> m.Started:
        self.create()
        self.send(m.Go())
        return self.expect(m.Started)

    def send(self, message: m.Message, *clients: socket.socket) -> None:
        wire.send(self.conversation, message, [each.fileno() for each in clients])
        for each in clients:
            each.close()

    def ask(self, message: m.Message, *clients: socket.socket) -> m.Done | m.Refused:
        self.send(message, *clients)
        answer = self.receive()
        assert isinstance(answer, m.Done | m.Refused), answer
        return answer

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def receive(self) -> m.Message:
        message, fds = wire.receive(self.conversation)
        self.fds += fds
        return message

    def expect(self, kind: type[M]) -> M:
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def exec(self, command: str, client: socket.socket | None = None, *, stdin: bool = False, terminal: bool = False) -> m.Message:
        sequence = self.next_sequence()
        attach = m.Attach(stdin=stdin, stdout=True, stderr=True) if client else None
        process = Process(("/bin/sh", "-c", command), env=self.env, terminal=terminal)
        order = m.Exec(sequence, f"exec{sequence}", process, attach)
        return self.ask(order, *([client] if client else []))

    def wait_exit(self) -> m.Exited:
        """The exit as it is told; nothing else may come before it but events of the kind given."""
        while True:
            message = self.receive()
            if isinstance(message, m.Exited):
                return message

    def lose_daemon(self) -> None:
        """What a kill -9 of carrackd looks like from the shim."""
        self.conversation.close()

    def reconnect(self) -> m.Status:
        self.conversation.close()
        self.conversation = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.conversation.settimeout(SECONDS)
        self.conversation.connect(self.socket_path)
        self.send(m.Inquire())
        return self.expect(m.Status)

    def forget(self, *, removed: bool = False) -> None:
        """Let the shim go and wait until it has."""
        self.send(m.Forget(removed))
        while True:
            try:
                self.receive()
            except (EOFError, ConnectionError):
                return

    def children_of_shim(self) -> set[int]:
        return children_of(self.shim_pid)

    def hand(self) -> int:
        """The process that works for the shim now; 0: it sleeps."""
        return next(iter(self.children_of_shim() - {self.pid}), 0)

    def until_asleep(self) -> None:
        until(lambda: self.hand() == 0, "the shim to sleep")

    def exit_json(self) -> m.Exited | None:
        return exit_record.read(str(self.directory))

    def destroy(self) -> None:
        if hasattr(self, "conversation"):
            self.conversation.close()
        for fd in self.fds:
            os.close(fd)
        try:
            living = cgroups.open(self.cgroup)
            living.kill()
            if self.shim_pid:
                end_process(self.shim_pid)
            living.remove()
        except OSError:
            pass


def children_of(pid: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


_ends: list[socket.socket] = []


def pair() -> tuple[socket.socket, socket.socket]:
    """(a client's end, the end to be handed over); closed with the test's containers."""
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    _ends.extend((ours, theirs))
    return ours, theirs


def read_all(sock: socket.socket) -> bytes:
    content = bytearray()
    while True:
        try:
            part = sock.recv(65536)
        except ConnectionResetError:
            part = b""
        if not part:
            return bytes(content)
        content += part


def read_until(sock: socket.socket, text: bytes) -> bytes:
    content = bytearray()
    while text not in content:
        part = sock.recv(65536)
        assert part, bytes(content)
        content += part
    return bytes(content)


def unframe(content: bytes) -> dict[int, bytes]:
    """Docker's multiplexed stream taken apart by stream."""
    pieces: dict[int, list[bytes]] = {1: [], 2: []}
    position = 0
    while position < len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "big")
        pieces[content[position]].append(content[position + 8 : position + 8 + length])
        position += 8 + length
    return {stream: b"".join(each) for stream, each in pieces.items()}


def unchunk(content: bytes) -> bytes:
    """The body of a chunked HTTP response, which must be complete."""
    pieces = []
    position = 0
    while True:
        end = content.index(b"\r\n", position)
        size = int(content[position:end], 16)
        pieces.append(content[end + 2 : end + 2 + size])
        position = end + 4 + size
        if not size:
            assert position == len(content)
            return b"".join(pieces)


def wait_for_death(pid: int, seconds: float = SECONDS) -> None:
    """Block until the process is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([pidfd], [], [], seconds)
        assert ready, f"process {pid} lives on"
    finally:
        os.close(pidfd)


def end_process(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
    wait_for_death(pid)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _make_image(image: Path) -> None:
    for name in ("bin", "proc", "dev", "tmp", "etc", "sys"):
        (image / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, image / "bin/busybox")
    for name in ("sh", "cat", "echo", "sleep", "true", "false", "kill", "seq", "head", "dd", "yes", "stty", "ls", "id", "ps", "wc"):
        (image / "bin" / name).symlink_to("busybox")
    (image / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (image / "etc/group").write_text("root:x:0:\n")

"""An engine that runs nothing: containers are records, a session is a thread that talks on the client's own connection.

`FakeEngine` keeps the promises of ContainerBackend, ExecBackend, EventsBackend and SystemBackend as far as clients can see them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

from carrack.api.containers import Names
from carrack.engine.config import ContainerConfig, CreateRequest, EndpointSettings, ExecConfig, HostConfig, UpdateRequest
from carrack.engine.container import (
    Container,
    ContainerState,
    Created,
    ExecSession,
    Explanation,
    MountPoint,
    Processes,
    Pruned,
    PublishedPort,
    Sizes,
    Step,
)
from carrack.engine.disk_usage import DiskUsage, Totals
from carrack.engine.events import Events, Subscription
from carrack.engine.filters import Filters
from carrack.engine.listing import select
from carrack.engine.state import Status
from carrack.engine.streams import (
    MULTIPLEXED,
    RAW,
    AttachOptions,
    ExecStartOptions,
    LogOptions,
    Session,
    WaitCondition,
    frame,
    last_chunk,
)
from carrack.engine.system_information import SystemInformation, VersionInformation
from carrack.errors import Conflict, NotFound, NotModified

MOMENT = 1_700_000_000_123_456_789


def container(name: str, *, running: bool = True, tty: bool = False, open_stdin: bool = True) -> Container:
    """A record with something in every field that clients read."""
    state = ContainerState(Status.RUNNING, pid=4242, started_at_nanoseconds=time.time_ns() - 90 * 10**9)
    return Container(
        id=(name.encode().hex() * 64)[:64],
        name=name,
        created_at_nanoseconds=MOMENT,
        config=ContainerConfig(hostname="h", image="busybox", cmd=["sh"], tty=tty, open_stdin=open_stdin, labels={"a": "b"}),
        host_config=HostConfig(network_mode="bridge", binds=["/srv:/data:ro"]),
        image_id="sha256:" + "ab" * 32,
        image_reference="busybox",
        path="sh",
        arguments=["-c", "echo hi"],
        state=state if running else ContainerState(),
        mounts=[MountPoint("bind", "/srv", "/data", mode="ro", writable=False, propagation="rprivate")],
        networks={"bridge": EndpointSettings(ip_address="172.18.0.2", ip_prefix_len=16, gateway="172.18.0.1", network_id="n1")},
        ports=[PublishedPort(80, "tcp", "0.0.0.0", 8080), PublishedPort(81, "tcp")] if running else [],
        directory=f"/var/lib/carrack/containers/{name}",
    )


class Talk:
    """A session whose thread has the connection to itself."""

    def __init__(self, content_type: str, talk: Callable[[socket.socket, bytes, bool], None], *, chunked: bool = False) -> None:
        self.content_type = content_type
        self.chunked = chunked
        self._talk = talk
        self.over = threading.Event()

    async def accept(self, fd: int, head: bytes, eof: bool) -> None:
        threading.Thread(target=self._run, args=(fd, head, eof), daemon=True).start()

    def _run(self, fd: int, head: bytes, eof: bool) -> None:
        with socket.socket(fileno=fd) as client, contextlib.suppress(OSError):
            client.settimeout(20)
            self._talk(client, head, eof)
        self.over.set()


class FakeEngine:
    """Containers that answer. What a container's `program` does with its input decides its output and its exit code."""

    def __init__(self, *containers: Container) -> None:
        self.containers = {c.id: c for c in containers}
        self.created: list[CreateRequest] = []
        self.asked: list[tuple[str, object]] = []
        self.execs: dict[str, ExecSession] = {}
        self.exits: dict[str, int] = {}
        self.ended = threading.Event()
        self.events: Events
        self.log_lines = [b"one\n", b"two\n"]
        self.greeting = b""
        self.heard = b""
        self.attach_sessions: list[Talk] = []

    def start_events(self) -> None:
        self.events = Events(asyncio.get_running_loop())

    # ContainerBackend

    def get(self, ref: str) -> Container:
        for c in self.containers.values():
            if ref.removeprefix("/") in (c.id, c.name) or c.id.startswith(ref):
                return c
        raise NotFound(f"No such container: {ref}")

    async def sizes(self, container_id: str) -> Sizes:
        return Sizes(5, 1000)

    async def create(self, name: str, request: CreateRequest, platform: str) -> Created:
        if any(c.name == name for c in self.containers.values()):
            holder = self.get(name).id
            raise Conflict(f'Conflict. The container name "/{name}" is already in use by container "{holder}".')
        self.created.append(request)
        made = container(name or "made", running=False, tty=request.tty, open_stdin=request.open_stdin)
        made.config = request
        self.containers[made.id] = made
        return Created(made.id, ["careful"] if platform else [])

    async def start(
        self, ref: str, *, detach_keys: str = "", explain: bool = False, checkpoint: str = "", checkpoint_directory: str = ""
    ) -> Explanation:
        found = self.get(ref)
        if found.state.status is Status.RUNNING:
            raise NotModified("container is already running")
        found.state.status = Status.RUNNING
        found.state.started_at_nanoseconds = time.time_ns()
        return Explanation(found.id, [Step("daemon", "order", 7)] if explain else [], 7)

    async def stop(self, ref: str, *, signal: str = "", timeout_seconds: int | None = None) -> None:
        self.asked.append(("stop", (signal, timeout_seconds)))
        if not self.get(ref).state.running:
            raise NotModified("container is already stopped")

    async def restart(self, ref: str, *, signal: str = "", timeout_seconds: int | None = None) -> None:
        self.asked.append(("restart", (signal, timeout_seconds)))
        self.get(ref)

    async def kill(self, ref: str, signal: str) -> None:
        self.asked.append(("kill", signal))
        if not self.get(ref).state.running:
            raise Conflict(f"container {self.get(ref).id} is not running")

    async def pause(self, ref: str) -> None:
        self.get(ref).state.status = Status.PAUSED

    async def unpause(self, ref: str) -> None:
        self.get(ref).state.status = Status.RUNNING

    async def rename(self, ref: str, name: str) -> None:
        self.get(ref).name = name

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        self.asked.append(("remove", (force, volumes, link)))
        del self.containers[self.get(ref).id]

    async def resize(self, ref: str, height: int, width: int) -> None:
        self.asked.append(("resize", (height, width)))

    async def top(self, ref: str, ps_args: str) -> Processes:
        return Processes(["PID", "CMD"], [["1", self.get(ref).path]])

    async def update(self, ref: str, wanted: UpdateRequest) -> list[str]:
        self.asked.append(("update", wanted))
        return []

    async def prune(self, filters: Filters, tell: Callable[[str], None]) -> Pruned:
        return Pruned([c.id for c in self.containers.values() if not c.state.running], 77)

    async def attach(self, ref: str, options: AttachOptions) -> Session:
        found = self.get(ref)
        if found.state.paused:
            raise Conflict(f"container {found.id} is paused, unpause the container before attach")
        self.asked.append(("attach", options))
        session = Talk(RAW if found.config.tty else MULTIPLEXED, self._loud(found))
        self.attach_sessions.append(session)
        return session

    def _loud(self, found: Container) -> Callable[[socket.socket, bytes, bool], None]:
        """Answers in capitals, once all the input is there, or greets and reads nothing; then the container ends with 7."""

        def talk(client: socket.socket, head: bytes, eof: bool) -> None:
            said = self.greeting or head + (b"" if eof else _until_end(client))
            self.heard = said
            if self.greeting:
                client.sendall(said if found.config.tty else frame(1, said[:7]) + frame(2, said[7:]))
                return
            text = said.upper()
            try:
                client.sendall(text if found.config.tty else frame(1, text) if text else b"")
            finally:
                found.state.status = Status.EXITED
                found.state.exit_code = 7
                self.ended.set()

        return talk

    async def wait(self, ref: str, condition: WaitCondition) -> Session:
        found = self.get(ref)
        self.asked.append(("wait", condition))

        def talk(client: socket.socket, head: bytes, eof: bool) -> None:
            if condition is not WaitCondition.NOT_RUNNING or found.state.running:
                assert self.ended.wait(20)
            client.sendall(last_chunk(json.dumps({"StatusCode": found.state.exit_code}).encode() + b"\n"))

        return Talk("application/json", talk, chunked=True)

    async def logs(self, ref: str, options: LogOptions) -> Session | AsyncIterator[bytes]:
        found = self.get(ref)
        self.asked.append(("logs", options))
        lines = self.log_lines if options.tail < 0 else self.log_lines[len(self.log_lines) - options.tail :]
        pieces = [line if found.config.tty else frame(1, line) for line in lines]
        if not options.follow:
            return _iterate(pieces)

        def talk(client: socket.socket, head: bytes, eof: bool) -> None:
            for piece in pieces:
                client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.sendall(b"0\r\n\r\n")

        return Talk(RAW if found.config.tty else MULTIPLEXED, talk, chunked=True)

    # ExecBackend

    async def create_exec(self, ref: str, config: ExecConfig) -> str:
        exec_id = os.urandom(32).hex()
        self.execs[exec_id] = ExecSession(exec_id, self.get(ref).id, config)
        return exec_id

    async def start_exec(self, exec_id: str, options: ExecStartOptions) -> Session | None:
        session = self.get_exec(exec_id)
        self.asked.append(("start_exec", options))
        session.started = True
        if options.detach:
            return None

        def talk(client: socket.socket, head: bytes, eof: bool) -> None:
            said = head + (b"" if eof or not session.config.attach_stdin else _until_end(client))
            session.exit_code = 3
            out = b"out:" + said
            client.sendall(out if session.config.tty else frame(1, out) + frame(2, b"err"))

        return Talk(RAW if session.config.tty else MULTIPLEXED, talk)

    async def resize_exec(self, exec_id: str, height: int, width: int) -> None:
        self.get_exec(exec_id)
        self.asked.append(("resize_exec", (height, width)))

    def get_exec(self, exec_id: str) -> ExecSession:
        if exec_id not in self.execs:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.execs[exec_id]

    # EventsBackend and SystemBackend

    def subscribe(self, filters: Filters, since_nanoseconds: int = 0, until_nanoseconds: int = 0) -> Subscription:
        return self.events.subscribe(filters, since_nanoseconds, until_nanoseconds)

    def info(self) -> SystemInformation:
        return SystemInformation(id="I", containers=len(self.containers), name="host", server_version="24.0.9+carrack0.1.0")

    def version(self) -> VersionInformation:
        return VersionInformation("24.0.9+carrack0.1.0", arch="amd64", kernel_version="6.18.0")

    async def disk_usage(self, kinds: frozenset[str]) -> DiskUsage:
        found = [(c, Sizes(5, 1000)) for c in self.containers.values()]
        return DiskUsage(
            containers=(Totals(len(found), len(found), 5 * len(found), 0), found) if "container" in kinds else None,
            images=(Totals(0, 0, 4096, 4096), []) if "image" in kinds else None,
            volumes=(Totals(), []) if "volume" in kinds else None,
            build_cache=(Totals(), []) if "build-cache" in kinds else None,
        )

    def lower_directories(self, container: Container) -> tuple[str, ...]:
        return ("/layers/top/diff", "/places")

    def links(self, container: Container) -> None:
        return None

    def link_names(self) -> dict[str, Names]:
        return {}

    # last, for inside a class that has it the word `list` means this
    def list(self, filters: Filters, *, all: bool, limit: int) -> list[Container]:
        return select(self.containers.values(), filters, all=all, limit=limit)


def _until_end(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


async def _iterate(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece

"""The start of a container: the order to the zygote, what its shim reports of it, and the daemon's last word.

StartOrder ─▶ Created ─▶ Go ─▶ Started
                │         └──▶ StartFailed      (StartFailed may also come instead of Created)
                └─▶ Abandon
"""

from __future__ import annotations

import msgspec

from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import RuntimeSpec
from carrack.shim.messages.clients import Attach, Wait
from carrack.shim.messages.protocol import VERSION, ProtocolMessage


class PassOn(ProtocolMessage, frozen=True, tag="pass-on"):
    """Who else is to have a container's output, line by line: `syslog` or `journald`."""

    driver: str
    address: str = ""
    """``udp://1.2.3.4:514``, ``tcp://…``, ``unix:///path``, ``unixgram:///path``; empty: this machine's own."""
    facility: int = 3
    format: str = ""
    """rfc3164, rfc5424, rfc5424micro; empty: what a local syslog expects."""
    hostname: str = ""
    pid: int = 0
    tag: str = ""
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    """What the journal is told beside each line."""


class LogPlan(ProtocolMessage, frozen=True, tag="log"):
    """Where and how output is kept. `local` and `json-file` rotate by size; `none` keeps nothing."""

    driver: str = "local"
    path: str = ""
    max_size_bytes: int = 20_000_000
    """0: unlimited."""
    max_files: int = 5
    compress: bool = True
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    """Labels and environment chosen by log options, shown by `logs --details`."""
    non_blocking_buffer_bytes: int = 0
    """More than 0: mode=non-blocking with a ring of this size."""
    pass_on: PassOn | None = None
    """Who has each line beside the file."""


class ForeignRuntime(ProtocolMessage, frozen=True, tag="runtime"):
    """Another OCI runtime: its program, words to put before every command, and where this container's bundle and state lie."""

    path: str
    bundle: str
    arguments: tuple[str, ...] = ()


class Checkpoint(ProtocolMessage, frozen=True, tag="checkpoint"):
    """What a container is to go on from: the directory of its images, and the program that wrote them."""

    criu: str
    directory: str


class StartOrder(ProtocolMessage, frozen=True, tag="start"):
    """Fork a shim and make a container in it, up to the point where its init waits for Go.

    Descriptors: the shim's end of the conversation; then `held_ports` bound sockets to keep open until Forget; then one client
    socket for each of `attached`, then one for each of `waiting`.
    """

    container_id: str
    spec: RuntimeSpec
    rootfs: tuple[Mount, ...]
    cgroup: str
    """The container's cgroup, a path below the root of every hierarchy, such as ``/carrack/<id>``."""
    socket_path: str
    state_directory: str
    """Where `exit.json` is written before anyone is told of the exit."""
    log: LogPlan
    seccomp: bytes = b""
    """A compiled filter; empty: none. `spec.linux.seccomp` is empty in an order."""
    open_stdin: bool = False
    stdin_once: bool = False
    held_ports: int = 0
    attached: tuple[Attach, ...] = ()
    waiting: tuple[Wait, ...] = ()
    trace: bool = False
    """Name each step and its time in Started."""
    tied: bool = False
    """The container ends with this conversation: a build step, which no later daemon would know."""
    runtime: ForeignRuntime | None = None
    """None: our own, in the shim itself."""
    checkpoint: Checkpoint | None = None
    """None: the container begins with its program."""
    idle_seconds: float = 10.0
    """How long nothing must happen before the shim sleeps: waking costs it a fork, 3 ms of a processor's time."""
    version: int = VERSION


class Created(ProtocolMessage, frozen=True, tag="created"):
    """The namespaces exist. Descriptors: init's pidfd; the network namespace when the container has one of its own."""

    pid: int
    warnings: tuple[str, ...] = ()


class Go(ProtocolMessage, frozen=True, tag="go"):
    """Let init execute the container's program. Answered by Started or StartFailed."""


class Abandon(ProtocolMessage, frozen=True, tag="abandon"):
    """The start is taken back: kill init, undo, leave."""


class Started(ProtocolMessage, frozen=True, tag="started"):
    """The container's program runs."""

    started_at_nanoseconds: int
    warnings: tuple[str, ...] = ()
    trace: tuple[tuple[str, int], ...] = ()
    """(step, microseconds) when the order asked for it."""
    pipes: tuple[int, ...] = ()
    """The inodes of its standard input, output and errors, 0 for none; nothing when it has a terminal."""


class StartFailed(ProtocolMessage, frozen=True, tag="start-failed"):
    """The container could not be made or its program not executed; everything is undone. `message` is for the user."""

    message: str
    exit_code: int = 128
    """What Docker records: 127 not found, 126 not executable, else 128."""
    kind: str = "InvalidParameter"
    """The name of a class of carrack.errors."""

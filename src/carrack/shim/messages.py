"""The closed list of messages between carrackd, the zygote, the shims and the workers.

                     StartOrder, WorkerJob                              (one packet each, own reply socket)
    carrackd ───────────────────────────────────▶ zygote ── fork ──▶ shim / worker
       │                                                              │
       │   Created · Started | StartFailed                            │
       │◀──────────────────────────────────────────────────────────────
       │   Go · Abandon · Exec · Attach · Wait · FollowLogs           │
       │   Signal · Resize · Inquire · Forget                         │
       ├─────────────────────────────────────────────────────────────▶│
       │   Done | Refused (to a numbered order) · ExecExited ·        │
       │   Detached · OutOfMemory · Exited · Status                   │
       │◀──────────────────────────────────────────────────────────────

One message is one packet of a SOCK_SEQPACKET socket, JSON with a `type` tag; descriptors travel beside it in the order that
the message's own text gives. `VERSION` stands in every first message of a conversation: StartOrder, the worker jobs, Inquire and
Status. A side that meets a newer version refuses with one clear line; fields are only ever added, with defaults.
tests/unit/shim keeps a frozen corpus of every released version.

An order that carries a `sequence` is answered by exactly one Done or Refused with the same number.
"""

from __future__ import annotations

import msgspec

from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import Process, RuntimeSpec

VERSION = 1


class _Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    pass


# ── what a client connection asks of the shim (each travels with the client's own socket) ──────────────────────────────


class Attach(_Message, frozen=True, tag="attach"):
    """Join the container's standard streams with a client. Descriptor: the client's socket."""

    sequence: int = 0
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    replay_logs: bool = False
    """Write what was logged so far first (`logs=1`)."""
    stream: bool = True
    """Go on with live output; without it, end after the replay."""
    detach_keys: bytes = b"\x10\x11"
    """The byte sequence that ends the client and leaves the container running; empty: none."""
    head: bytes = b""
    """Bytes the daemon had already read from the client."""
    end_of_input: bool = False
    """The client had already closed its sending side."""
    framing: str = ""
    """``framed`` or ``raw``, whatever the process has; empty: framed unless it has a terminal."""


class Wait(_Message, frozen=True, tag="wait"):
    """Tell a client how the container ended, as the last chunks of an HTTP response whose header is already sent.

    Descriptor: the client's socket. `not-running` and `next-exit` are answered at the exit, `removed` at Forget.
    """

    sequence: int = 0
    condition: str = "not-running"


class FollowLogs(_Message, frozen=True, tag="follow-logs"):
    """Write log records to a client, those on disk first, then new ones, in HTTP chunks. Descriptor: the client's socket."""

    sequence: int = 0
    stdout: bool = True
    stderr: bool = True
    since_nanoseconds: int = 0
    until_nanoseconds: int = 0
    tail: int = -1
    """How many of the last records to begin with; -1: all."""
    timestamps: bool = False
    details: bool = False


# ── orders to a zygote ────────────────────────────────────────────────────────────────────────────────────────────────────


class LogPlan(_Message, frozen=True, tag="log"):
    """Where and how output is kept. `local` and `json-file` rotate by size; `none` keeps nothing."""

    driver: str = "local"
    path: str = ""
    max_size_bytes: int = 20_000_000
    """0: unlimited."""
    max_files: int = 5
    compress: bool = True
    attributes: dict[str, str] = {}
    """Labels and environment chosen by log options, shown by `logs --details`."""
    non_blocking_buffer_bytes: int = 0
    """More than 0: mode=non-blocking with a ring of this size."""


class ForeignRuntime(_Message, frozen=True, tag="runtime"):
    """Another OCI runtime: its program, words to put before every command, and where this container's bundle and state lie."""

    path: str
    bundle: str
    arguments: tuple[str, ...] = ()


class Checkpoint(_Message, frozen=True, tag="checkpoint"):
    """What a container is to go on from: the directory of its images, and the program that wrote them."""

    criu: str
    directory: str


class StartOrder(_Message, frozen=True, tag="start"):
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


class UnpackLayer(_Message, frozen=True, tag="unpack-layer"):
    """Extract a (compressed) layer tar. Descriptors: the source (a file or a pipe), the empty target directory."""

    limit_bytes: int = 0
    """Give up when the content grows beyond this; 0: no limit."""
    version: int = VERSION


class CopyUp(_Message, frozen=True, tag="copy-up"):
    """Copy what an image holds at `path` into an empty volume. Descriptor: the volume's directory."""

    rootfs: tuple[Mount, ...]
    path: str
    version: int = VERSION


class CopyDirectory(_Message, frozen=True, tag="copy-directory"):
    """Copy everything in a directory, its own owner, mode and times too. Descriptors: the directory, the empty target."""

    version: int = VERSION


class UnpackArchive(_Message, frozen=True, tag="unpack-archive"):
    """Extract a (compressed) tar into an empty directory, every name as it is. Descriptors: the source, the directory."""

    version: int = VERSION


class RemoveTree(_Message, frozen=True, tag="remove-tree"):
    """Remove `name` and everything below it. Descriptor: the directory that holds it."""

    name: str
    version: int = VERSION


class PackTree(_Message, frozen=True, tag="pack-tree"):
    """Write a tree as a tar stream, in the order of its names, times in whole seconds as Docker's layers and exports have them.

    Descriptors: where to write (a file, a pipe, a socket, /dev/null for the digest alone); then, without `rootfs`, the tree: a
    directory or a detached mount. Answered with the stream's digest as `diff_id`, `size_bytes` of file content, `entries`, and
    `stream_bytes`. A reader that goes away is a SystemFailure.
    """

    rootfs: tuple[Mount, ...] = ()
    """Pack what these mounts show, read-only, an upper directory of theirs as the topmost layer."""
    whiteouts: bool = False
    """The tree is an overlay's upper directory: a layer, whose marks become image-spec's ``.wh.`` names."""
    latest_mtime_seconds: int = -1
    """No entry is younger than this (SOURCE_DATE_EPOCH with rewritten timestamps); -1: times as they are."""
    xattrs: bool = True
    """Write `user.*` and `security.capability`."""
    compression: str = ""
    """``gzip`` or ``zstd``; "": none. `diff_id` and `stream_bytes` are of the stream before it."""
    level: int = 0
    """Of the compression; 0: its usual one."""
    prefix: str = ""
    """A directory of the archive that the tree stands in."""
    ends: bool = True
    """Nothing follows in the same archive: it is ended."""
    version: int = VERSION


class UnpackContext(_Message, frozen=True, tag="unpack-context"):
    """Extract a build context, everything as root's, names of whiteouts as ordinary names.

    Descriptors: the (compressed) tar, the empty target directory, an empty file for its index (`archive.index`). Answered with the
    digest of the uncompressed tar as `diff_id`, `size_bytes`, `entries`.
    """

    limit_bytes: int = 0
    version: int = VERSION


class SyncContext(_Message, frozen=True, tag="sync-context"):
    """Bring a context's directory from what one manifest says (`archive.manifest`) to what another says.

    Descriptors: a tar of the files that the second has and the first has not, the directory, the first manifest, the second, the
    directory's index, an empty file for the new index. Answered like UnpackContext, without a digest. When it fails the directory
    is neither the one nor the other.
    """

    limit_bytes: int = 0
    version: int = VERSION


class RunConfined(_Message, frozen=True, tag="run-confined"):
    """Run a program of the host that works on a tree of strangers (git), where it can reach nothing but that tree.

    Its file system holds the host's programs and libraries, read-only, no home and no data; the directory is `WORKSPACE` and its
    working directory, the only place it can write besides an empty /tmp. It has no capability and the host's network. Descriptors:
    the directory, standard output, standard error. Answered with `exit_code`; it dies with its order.
    """

    arguments: tuple[str, ...]
    """The first is a path of the host."""
    environment: tuple[str, ...] = ()
    version: int = VERSION


class PruneTree(_Message, frozen=True, tag="prune-tree"):
    """Remove what ignore patterns leave out (`path_patterns`). Descriptor: the directory. Answered with `entries` removed."""

    patterns: tuple[str, ...]
    look_only: bool = False
    """Only count, and stop at the first."""
    version: int = VERSION


class MakeDirectory(_Message, frozen=True, tag="make-directory"):
    """Make a directory of a snapshot, as WORKDIR does. `entries` answers how many were made."""

    rootfs: tuple[Mount, ...]
    path: str
    owner: str = ""
    """``user[:group]``, by the tree's own names."""
    moment_seconds: int = -1
    """The time that new directories bear; -1: now."""
    version: int = VERSION


class Subtract(_Message, frozen=True, tag="subtract"):
    """Make of a full copy of a stack, changed since, a layer over it. Descriptor: the copy. Answered with `entries`, 0 for none."""

    below: tuple[Mount, ...]
    version: int = VERSION


class LookAt(_Message, frozen=True, tag="look-at"):
    """Say what is at a path of a read-only tree: `entries` 1 for a directory, 2 for a file, 3 for something else."""

    rootfs: tuple[Mount, ...]
    path: str
    version: int = VERSION


class ViewMount(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a container has mounted over its root: what a worker is shown there."""

    destination: str
    source: str = ""
    """A path of the host, for a container that does not run; one that does is asked for what it has at `destination`."""
    beneath: str = ""
    """A path in the source, which no link leads out of: that is what is mounted."""
    writable: bool = True


class View(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container's files as a worker is shown them: its root, and its volumes and binds in their places."""

    rootfs: tuple[Mount, ...] = ()
    """Of a container that does not run. Empty: the first descriptor of the job is the pidfd of its init."""
    mounts: tuple[ViewMount, ...] = ()
    """In the order in which they are mounted."""
    read_only: bool = False
    """The root may not be written."""


class ReadPath(_Message, frozen=True, tag="read-path"):
    """Tell of a path in a container and, with `archive`, write it and everything below as a tar stream.

    Descriptors: the view's, then where the archive goes. Answered with PathFacts, then, after the archive, with WorkerDone.
    """

    view: View
    path: str
    archive: bool = False
    makes_places: bool = False
    """Make the places of mounts that a container which never ran has not got yet; its root is taken to be written for that."""
    version: int = VERSION


class ExportRoot(_Message, frozen=True, tag="export-root"):
    """Write all of a view as a tar stream, as PackTree does. Descriptors: the view's, then where to write."""

    view: View
    version: int = VERSION


class FindChanges(_Message, frozen=True, tag="find-changes"):
    """Tell what a tree changes of the one below it: ``C``, ``A`` or ``D``, the path, a NUL, for each. Descriptors: where to write,
    the directory that holds the changes. Answered with `entries`."""

    below: tuple[Mount, ...] = ()
    """What is changed; nothing: an empty tree."""
    whole: bool = False
    """The directory is a changed copy of all that is below, and not an overlay's upper directory."""
    places: tuple[str, ...] = ()
    """Directories and empty files that are no change when they were added to a copy: the engine mounts on them."""
    version: int = VERSION


class WritePath(_Message, frozen=True, tag="write-path"):
    """Extract a (compressed) tar into a directory of a container. Descriptors: the view's, then the source."""

    view: View
    path: str
    keep_kinds: bool = False
    """Refuse to put a directory where something else is, or the reverse."""
    owner: str = ""
    """Whom everything is to belong to, looked up in the container's own files; empty: as the archive says."""
    version: int = VERSION


class ReadFile(_Message, frozen=True, tag="read-file"):
    """Write a regular file's content, links followed inside the tree. Descriptor: where to write.

    NotFound when it is not there, InvalidParameter when it is no file or larger than the limit. Answered with `size_bytes`.
    """

    tree: tuple[Mount, ...]
    path: str
    limit_bytes: int
    version: int = VERSION


class CopySource(_Message, frozen=True, tag="copy-source"):
    """One source of a COPY or ADD: a path of one of the job's trees, with Docker's wildcards."""

    path: str
    tree: int = 0
    """Which of the job's `trees`."""
    wildcards: bool = True
    unpack: bool = False
    """A tar, whatever its compression, is unpacked (ADD)."""
    required: bool = True
    """A name without wildcards that is not there is NotFound."""
    keep_owner: bool = False
    """Files stay whose they are in the tree; else they become root's."""


class CopyInline(_Message, frozen=True, tag="copy-inline"):
    """A heredoc of a COPY or ADD: a file of mode 0644."""

    name: str
    content: bytes


class CopyFiles(_Message, frozen=True, tag="copy-files"):
    """Do one COPY or ADD in `target`. Without descriptors. Answered with `size_bytes` and `entries` (0: nothing changed)."""

    target: tuple[Mount, ...]
    """The stage so far with the new layer's upper directory on top, or a bind of that directory alone (`--link`, scratch)."""
    trees: tuple[tuple[Mount, ...], ...]
    sources: tuple[CopySource | CopyInline, ...]
    destination: str
    """Absolute; its trailing slash counts."""
    owner: str = ""
    """``user[:group]``, names looked up in `target`."""
    mode: str = ""
    """--chmod: octal or symbolic."""
    parents: bool = False
    excludes: tuple[str, ...] = ()
    made_seconds: int = -1
    """The time of new directories and inline files; -1: now."""
    limit_bytes: int = 0
    """Give up when an archive's content grows beyond this; 0: no limit."""
    version: int = VERSION


class Checksum(_Message, frozen=True, tag="checksum"):
    """The content key of what a COPY or a bind mount reads of a tree. Answered with `checksum`.

    Names, kinds, modes, owners, link targets, attributes and bytes count, times do not. Descriptor, when there is one: the tree's
    index (`archive.index`), whose digests of files that still have their size and time are believed.
    """

    tree: tuple[Mount, ...]
    source: CopySource
    parents: bool = False
    excludes: tuple[str, ...] = ()
    follow_links: bool = True
    version: int = VERSION


WorkerJob = (
    UnpackLayer
    | UnpackArchive
    | CopyUp
    | CopyDirectory
    | RemoveTree
    | PackTree
    | ReadFile
    | CopyFiles
    | Checksum
    | UnpackContext
    | SyncContext
    | PruneTree
    | RunConfined
    | MakeDirectory
    | LookAt
    | Subtract
    | ReadPath
    | WritePath
    | ExportRoot
    | FindChanges
)


class WorkerDone(_Message, frozen=True, tag="worker-done"):
    """A job's result; the fields that its kind gives."""

    diff_id: str = ""
    size_bytes: int = 0
    entries: int = 0
    stream_bytes: int = 0
    checksum: str = ""
    exit_code: int = 0


class PathFacts(_Message, frozen=True, tag="path-facts"):
    """What lstat(2) says of a path in a container."""

    name: str
    """Its last component as it was asked for, as text; bytes that are no UTF-8 replaced."""
    size_bytes: int
    mode: int
    """`st_mode`."""
    mtime_nanoseconds: int
    link_target: str = ""
    """Where a symbolic link leads in the end, from the container's root."""


class WorkerFailed(_Message, frozen=True, tag="worker-failed"):
    """`kind` is the name of a class of carrack.errors."""

    kind: str
    message: str


# ── orders to a shim ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Go(_Message, frozen=True, tag="go"):
    """Let init execute the container's program. Answered by Started or StartFailed."""


class Abandon(_Message, frozen=True, tag="abandon"):
    """The start is taken back: kill init, undo, leave."""


class Exec(_Message, frozen=True, tag="exec"):
    """Run one more process in the container. Descriptor, when `attach` is there: the client's socket.

    Answered by Done (with `pid`) once the program runs, or Refused; its end is told by ExecExited.
    """

    sequence: int
    exec_id: str
    process: Process
    attach: Attach | None = None
    privileged: bool = False


class Signal(_Message, frozen=True, tag="signal"):
    """Send a signal to init, or to an exec's process; `everyone`: to each process of the container."""

    sequence: int
    signal: int
    exec_id: str = ""
    everyone: bool = False


class Resize(_Message, frozen=True, tag="resize"):
    """Set the terminal's size, of init or of an exec."""

    sequence: int
    height: int
    width: int
    exec_id: str = ""


class Inquire(_Message, frozen=True, tag="inquire"):
    """The first message of a daemon that connects anew. Answered by Status."""

    version: int = VERSION


class Forget(_Message, frozen=True, tag="forget"):
    """The daemon has recorded the exit: answer those who wait for `removed` if it was removed, close everything, leave."""

    removed: bool = False


# ── reports of a shim ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Created(_Message, frozen=True, tag="created"):
    """The namespaces exist. Descriptors: init's pidfd; the network namespace when the container has one of its own."""

    pid: int
    warnings: tuple[str, ...] = ()


class Started(_Message, frozen=True, tag="started"):
    """The container's program runs."""

    started_at_nanoseconds: int
    warnings: tuple[str, ...] = ()
    trace: tuple[tuple[str, int], ...] = ()
    """(step, microseconds) when the order asked for it."""
    pipes: tuple[int, ...] = ()
    """The inodes of its standard input, output and errors, 0 for none; nothing when it has a terminal."""


class StartFailed(_Message, frozen=True, tag="start-failed"):
    """The container could not be made or its program not executed; everything is undone. `message` is for the user."""

    message: str
    exit_code: int = 128
    """What Docker records: 127 not found, 126 not executable, else 128."""
    kind: str = "InvalidParameter"
    """The name of a class of carrack.errors."""


class Done(_Message, frozen=True, tag="done"):
    sequence: int
    pid: int = 0


class Refused(_Message, frozen=True, tag="refused"):
    sequence: int
    kind: str
    message: str
    exit_code: int = 0


class ExecExited(_Message, frozen=True, tag="exec-exited"):
    exec_id: str
    exit_code: int


class Detached(_Message, frozen=True, tag="detached"):
    """A client left by its detach keys."""

    exec_id: str = ""


class OutOfMemory(_Message, frozen=True, tag="out-of-memory"):
    """The kernel killed a process of the container for want of memory."""


class Exited(_Message, frozen=True, tag="exited"):
    """The container's init ended; `exit.json` holds the same."""

    exit_code: int
    finished_at_nanoseconds: int
    out_of_memory: bool = False
    error: str = ""
    started_at_nanoseconds: int = 0


class ExecState(_Message, frozen=True, tag="exec-state"):
    exec_id: str
    pid: int = 0
    running: bool = True
    exit_code: int | None = None


class Status(_Message, frozen=True, tag="status"):
    """Everything a new daemon must know. Descriptors: as for Created, while init lives."""

    container_id: str
    pid: int
    started_at_nanoseconds: int = 0
    """0: init still waits for Go."""
    exited: Exited | None = None
    execs: tuple[ExecState, ...] = ()
    version: int = VERSION


class ServeNames(_Message, frozen=True, tag="serve-names"):
    """Become an instance's names process (networks/dns/process.py). Descriptors: its listening socket, and the conversation with
    whoever ordered it."""

    socket_path: str
    version: int = VERSION


ToZygote = StartOrder | WorkerJob | ServeNames
ToShim = Go | Abandon | Exec | Attach | Wait | FollowLogs | Signal | Resize | Inquire | Forget
FromShim = Created | Started | StartFailed | Done | Refused | ExecExited | Detached | OutOfMemory | Exited | Status
FromWorker = PathFacts | WorkerDone | WorkerFailed


# ── the zygote itself ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Greeting(_Message, frozen=True, tag="greeting"):
    """The first message on every connection to a zygote, from it."""

    pid: int
    build: str
    """Which code it holds; a daemon of another build replaces it."""
    version: int = VERSION


class Leave(_Message, frozen=True, tag="leave"):
    """To a zygote: close the socket and exit. Shims and workers that it forked go on."""


Message = ToZygote | ToShim | FromShim | FromWorker | Greeting | Leave
"""Everything that may travel."""

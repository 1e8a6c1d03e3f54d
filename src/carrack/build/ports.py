"""What the solver asks of the rest of the house, as Protocols: file trees and their sources, RUN steps, images.

A **tree** is a stack of read-only layers, or one directory, as mounts (`Tree`); nothing here opens a path of one. Every call
blocks, may come from any thread, and is made from the solver's own pool; it looks at `Cancellation` when it can take long and then
raises Cancelled with nothing left behind. Errors are kinds of carrack.errors whose text the user reads under the Dockerfile's line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from carrack.distribution.cancellation import Cancellation
from carrack.oci.mount import Mount
from carrack.oci.platform import Platform

Tree = tuple[Mount, ...]
"""A read-only tree: the overlay of a layer stack (`lower` only), a bind of one directory, or () for an empty one (scratch)."""


# ── files: packing ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How a layer's tar is written. Order and headers are the same for the same tree whoever packs it."""

    compression: str = "gzip"
    """``uncompressed``, ``gzip``, ``zstd``."""
    level: int | None = None
    epoch_seconds: int | None = None
    """Times later than this become this (SOURCE_DATE_EPOCH with rewrite-timestamp); None: as they are."""
    prefix: str = ""
    """Of a whole tree: the directory that it stands in."""
    ends: bool = True
    """Of a whole tree: nothing follows in the same archive."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A tar that was written to a descriptor."""

    diff_id: str
    """Of the uncompressed tar."""
    size_bytes: int
    """The content of the files, as Docker counts a layer."""
    entries: int
    """0: the directory held nothing but its root."""


# ── files: one COPY or ADD ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc of COPY or ADD: a file of mode 0644 by that name."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class CopySource:
    """One source of a COPY or ADD.

    `pattern` is relative to the tree's root and has Docker's wildcards when `wildcards` is set. `unpack`: a tar is taken apart
    (None: ADD's own rule for a local file, by its content; False for COPY and for what came by HTTP). `required`: a name
    without wildcards that is not there is an error. `keep_owner`: files stay whose they are (COPY --from), else root's.
    """

    tree: Tree
    pattern: str
    wildcards: bool = True
    unpack: bool | None = False
    required: bool = True
    keep_owner: bool = False


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """One COPY or ADD, variables expanded and the destination absolute (its trailing slash kept).

    `base` is the stage so far: the destination's links, and the user names of `owner`, are looked up there. With `link` neither is
    followed: the result does not depend on `base`, which is then ().
    """

    sources: tuple[CopySource, ...]
    files: tuple[InlineFile, ...]
    destination: str
    base: Tree = ()
    owner: str = ""
    """``user[:group]`` of --chown; "": as each source says."""
    mode: str = ""
    """--chmod: octal or symbolic."""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    working_dir: str = "/"
    epoch_seconds: int | None = None
    """What new directories and inline files bear as time; None: now. Source files keep theirs."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy made in its staging directory, in overlay form."""

    size_bytes: int
    entries: int
    """0: nothing at all changed (the layer is empty)."""


@dataclass(frozen=True, slots=True)
class ChecksumOrder:
    """What a COPY source, or a bind mount's source, reads of a tree: the arguments that choose the files, and nothing else."""

    tree: Tree
    pattern: str
    wildcards: bool = True
    parents: bool = False
    excludes: tuple[str, ...] = ()
    follow_links: bool = True
    cache_key: str = ""
    """Names the tree when it never changes (a chain id, a context's digest): digests of it may be remembered. "": not."""


class FileTrees(Protocol):
    """Confined work on trees (files' half)."""

    def pack_upper(self, upper: Path, target_fd: int, options: PackOptions, cancel: Cancellation) -> Packed:
        """Write the tar of a layer in overlay form; whiteouts become image-spec whiteouts. `target_fd` stays the caller's."""

    def pack_tree(self, tree: Tree, target_fd: int, options: PackOptions, cancel: Cancellation) -> Packed:
        """Write the tar of a whole tree."""

    def copy(self, order: CopyOrder, upper: Path, cancel: Cancellation) -> Copied:
        """Fill the empty directory `upper` with what a COPY or ADD adds over `order.base`. Raises InvalidParameter, NotFound."""

    def checksum(self, order: ChecksumOrder, cancel: Cancellation) -> str:
        """A digest of names, kinds, modes, owners, link targets, attributes and bytes of what is read; never of times.

        Raises NotFound in BuildKit's words when a plain name is not there.
        """

    def read(self, tree: Tree, path: str, limit_bytes: int, cancel: Cancellation) -> bytes:
        """A file's content, links followed inside the tree. Raises NotFound, InvalidParameter when it is larger or no file."""

    def usage(self, tree: Tree) -> int:
        """What a tree's files take, in bytes."""


# ── files: sources ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class HttpSource:
    """ADD of a URL, or a remote context that is no Git repository."""

    url: str
    checksum: str = ""
    """--checksum: the content must have this digest."""
    filename: str = ""
    """"": by the URL or Content-Disposition."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GitSource:
    """A Git repository: ``url[#ref[:subdirectory]]`` or ``url?ref=…&subdir=…&keep-git-dir=…&checksum=…``."""

    url: str
    keep_git_dir: bool = False
    checksum: str = ""
    """The commit (or its beginning) that the reference must mean."""
    submodules: bool = True


RemoteSource = HttpSource | GitSource


@dataclass(frozen=True, slots=True)
class Pinned:
    """A source whose content is settled: the same `key` gives the same tree."""

    source: RemoteSource
    key: str
    """Such as a content digest, a validated ETag with its URL, or a commit."""
    shown: str
    """For display and provenance: the URL, secrets redacted."""
    digest: Mapping[str, str] = field(default_factory=dict)
    """For provenance: {"sha256": …} or {"sha1": commit}."""
    fetched: bool = False
    """Pinning had to fetch it all (HTTP without a validator); `fetch` then only moves it."""


class RemoteSources(Protocol):
    """Git and HTTP (files' half)."""

    def is_git(self, url: str) -> bool:
        """Whether a URL names a Git repository, by Docker's rules."""

    def pin(self, source: RemoteSource, secrets: Mapping[str, bytes], cancel: Cancellation) -> Pinned:
        """Settle what a source means now. Raises NotFound, InvalidParameter."""

    def fetch(
        self, pinned: Pinned, into: Path, secrets: Mapping[str, bytes], tell: Callable[[str], None], cancel: Cancellation
    ) -> None:
        """Fill the empty directory `into`: one file for HTTP, the work tree (or its subdirectory) for Git."""


class LocalContext(Protocol):
    """A build context that is on this host for the length of one build. `close` when the build ends."""

    def tree(self, ignore: Sequence[str] = ()) -> Tree:
        """Its files, without those that ignore patterns (of the Dockerfile's ignore file) name."""

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """A file such as the Dockerfile, None when it is not there. Links stay inside."""

    def open(self, path: str, limit_bytes: int) -> int | None:
        """The content of a large file as a descriptor of the caller's, at its beginning; None when it is not there."""

    @property
    def key(self) -> str:
        """Names the content; "": unknown, files are then hashed as they are read."""

    def close(self) -> None:
        """Remove what was received."""


class Contexts(Protocol):
    """Receives contexts (files' half). `POST /build` uses `receive_tar`; the incremental extension has its own entry."""

    def receive_tar(self, body: Callable[[int], bytes], cancel: Cancellation) -> LocalContext:
        """Unpack a tar (identity, gzip, bzip2, xz, zstd) read by `body(size)`. Raises InvalidParameter, DataCorrupt."""

    def receive_remote(self, url: str, tell: Callable[[str], None], cancel: Cancellation) -> tuple[LocalContext, str]:
        """A remote context and, for a URL that gave one lone text file, the name of that Dockerfile in it ("" otherwise)."""


# ── RUN ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StepMount:
    """Something put into a RUN step's tree before its program starts."""

    target: str
    type: str
    """``bind`` of `source` (a path on this host, or `tree` with `path` inside it), ``tmpfs``, ``socket`` (ssh agent)."""
    source: str = ""
    tree: Tree = ()
    path: str = ""
    """The place inside `tree`, looked up without leaving it."""
    writable: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepOrder:
    """One RUN: a program over a snapshot whose upper directory becomes the layer."""

    key: str
    """The snapshot's key, also the container's id: 64 hexadecimal digits."""
    rootfs: tuple[Mount, ...]
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    working_dir: str = "/"
    user: str = ""
    hostname: str = "buildkitsandbox"
    network: str = "default"
    """``default``, ``none``, ``host``, or what --network of the build names."""
    insecure: bool = False
    """--security=insecure: all capabilities, no seccomp."""
    mounts: tuple[StepMount, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    shm_bytes: int = 0
    cgroup_parent: str = ""
    limits: Mapping[str, object] = field(default_factory=dict)
    """Of `POST /build`: memory, memswap, cpushares, cpusetcpus, cpusetmems, cpuperiod, cpuquota, ulimits."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files (heredoc scripts, secrets) given at absolute paths for the step alone, mode 0400 or as `file_modes` says."""
    file_modes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Path to (mode, uid, gid)."""


class RunStep(Protocol):
    """The runtime behind RUN (the engine's half; wiring joins it)."""

    def run(self, order: StepOrder, output: Callable[[int, bytes], None], cancel: Cancellation) -> int:
        """Run to the end; `output(stream, bytes)` with stream 1 or 2. Returns the exit code, 137 after a kill for memory.

        When this returns or raises nothing of the step runs, no mount and no cgroup of it is left; cancellation kills it.
        """


# ── images ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class BaseImages(Protocol):
    """Where FROM and --from images come from (wiring joins images.Puller)."""

    def pull(
        self,
        reference: str,
        platform: Platform | None,
        credentials: Mapping[str, str],
        tell: Callable[[object], None],
        cancel: Cancellation,
    ) -> str:
        """Have an image here, with a registry's credentials of the build; the name that it has here.

        An image of a platform that was asked for takes no name from the one that is here already: it is found by its digest.
        Raises NotFound, Unauthorized, Unavailable.
        """

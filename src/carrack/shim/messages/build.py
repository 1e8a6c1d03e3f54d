"""Jobs of a worker for the steps of a build: contexts, COPY and ADD, keys of the cache, programs on trees of strangers."""

from __future__ import annotations

from carrack.oci.mount import Mount
from carrack.shim.messages.protocol import VERSION, ProtocolMessage


class UnpackContext(ProtocolMessage, frozen=True, tag="unpack-context"):
    """Extract a build context, everything as root's, names of whiteouts as ordinary names.

    Descriptors: the (compressed) tar, the empty target directory, an empty file for its index (`archive.index`). Answered with the
    digest of the uncompressed tar as `diff_id`, `size_bytes`, `entries`.
    """

    limit_bytes: int = 0
    version: int = VERSION


class SyncContext(ProtocolMessage, frozen=True, tag="sync-context"):
    """Bring a context's directory from what one manifest says (`archive.manifest`) to what another says.

    Descriptors: a tar of the files that the second has and the first has not, the directory, the first manifest, the second, the
    directory's index, an empty file for the new index. Answered like UnpackContext, without a digest. When it fails the directory
    is neither the one nor the other.
    """

    limit_bytes: int = 0
    version: int = VERSION


class PruneTree(ProtocolMessage, frozen=True, tag="prune-tree"):
    """Remove what ignore patterns leave out (`path_patterns`). Descriptor: the directory. Answered with `entries` removed."""

    patterns: tuple[str, ...]
    look_only: bool = False
    """Only count, and stop at the first."""
    version: int = VERSION


class ReadFile(ProtocolMessage, frozen=True, tag="read-file"):
    """Write a regular file's content, links followed inside the tree. Descriptor: where to write.

    NotFound when it is not there, InvalidParameter when it is no file or larger than the limit. Answered with `size_bytes`.
    """

    tree: tuple[Mount, ...]
    path: str
    limit_bytes: int
    version: int = VERSION


class CopySource(ProtocolMessage, frozen=True, tag="copy-source"):
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


class CopyInline(ProtocolMessage, frozen=True, tag="copy-inline"):
    """A heredoc of a COPY or ADD: a file of mode 0644."""

    name: str
    content: bytes


class CopyFiles(ProtocolMessage, frozen=True, tag="copy-files"):
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


class Checksum(ProtocolMessage, frozen=True, tag="checksum"):
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


class MakeDirectory(ProtocolMessage, frozen=True, tag="make-directory"):
    """Make a directory of a snapshot, as WORKDIR does. `entries` answers how many were made."""

    rootfs: tuple[Mount, ...]
    path: str
    owner: str = ""
    """``user[:group]``, by the tree's own names."""
    moment_seconds: int = -1
    """The time that new directories bear; -1: now."""
    version: int = VERSION


class LookAt(ProtocolMessage, frozen=True, tag="look-at"):
    """Say what is at a path of a read-only tree: `entries` 1 for a directory, 2 for a file, 3 for something else."""

    rootfs: tuple[Mount, ...]
    path: str
    version: int = VERSION


class Subtract(ProtocolMessage, frozen=True, tag="subtract"):
    """Make of a full copy of a stack, changed since, a layer over it. Descriptor: the copy. Answered with `entries`, 0 for none."""

    below: tuple[Mount, ...]
    version: int = VERSION


class RunConfined(ProtocolMessage, frozen=True, tag="run-confined"):
    """Run a program of the host that works on a tree of strangers (git), where it can reach nothing but that tree.

    Its file system holds the host's programs and libraries, read-only, no home and no data; the directory is `WORKSPACE` and its
    working directory, the only place it can write besides an empty /tmp. It has no capability and the host's network. Descriptors:
    the directory, standard output, standard error. Answered with `exit_code`; it dies with its order.
    """

    arguments: tuple[str, ...]
    """The first is a path of the host."""
    environment: tuple[str, ...] = ()
    version: int = VERSION

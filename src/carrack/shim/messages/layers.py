"""Jobs of a worker on whole trees: layers, volumes, and what is to be thrown away."""

from __future__ import annotations

from carrack.oci.mount import Mount
from carrack.shim.messages.protocol import VERSION, ProtocolMessage


class UnpackLayer(ProtocolMessage, frozen=True, tag="unpack-layer"):
    """Extract a (compressed) layer tar. Descriptors: the source (a file or a pipe), the empty target directory."""

    limit_bytes: int = 0
    """Give up when the content grows beyond this; 0: no limit."""
    version: int = VERSION


class UnpackArchive(ProtocolMessage, frozen=True, tag="unpack-archive"):
    """Extract a (compressed) tar into an empty directory, every name as it is. Descriptors: the source, the directory."""

    version: int = VERSION


class PackTree(ProtocolMessage, frozen=True, tag="pack-tree"):
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


class CopyDirectory(ProtocolMessage, frozen=True, tag="copy-directory"):
    """Copy everything in a directory, its own owner, mode and times too. Descriptors: the directory, the empty target."""

    version: int = VERSION


class CopyUp(ProtocolMessage, frozen=True, tag="copy-up"):
    """Copy what an image holds at `path` into an empty volume. Descriptor: the volume's directory."""

    rootfs: tuple[Mount, ...]
    path: str
    version: int = VERSION


class FindChanges(ProtocolMessage, frozen=True, tag="find-changes"):
    """Tell what a tree changes of the one below it: ``C``, ``A`` or ``D``, the path, a NUL, for each. Descriptors: where to write,
    the directory that holds the changes. Answered with `entries`."""

    below: tuple[Mount, ...] = ()
    """What is changed; nothing: an empty tree."""
    whole: bool = False
    """The directory is a changed copy of all that is below, and not an overlay's upper directory."""
    places: tuple[str, ...] = ()
    """Directories and empty files that are no change when they were added to a copy: the engine mounts on them."""
    version: int = VERSION


class RemoveTree(ProtocolMessage, frozen=True, tag="remove-tree"):
    """Remove `name` and everything below it. Descriptor: the directory that holds it."""

    name: str
    version: int = VERSION

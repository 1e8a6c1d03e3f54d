"""Jobs of a worker in a container's files, as `cp` and `export` see them: its root with volumes and binds in their places."""

from __future__ import annotations

import msgspec

from carrack.oci.mount import Mount
from carrack.shim.messages.protocol import VERSION, ProtocolMessage


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


class ReadPath(ProtocolMessage, frozen=True, tag="read-path"):
    """Tell of a path in a container and, with `archive`, write it and everything below as a tar stream.

    Descriptors: the view's, then where the archive goes. Answered with PathFacts, then, after the archive, with WorkerDone.
    """

    view: View
    path: str
    archive: bool = False
    makes_places: bool = False
    """Make the places of mounts that a container which never ran has not got yet; its root is taken to be written for that."""
    version: int = VERSION


class PathFacts(ProtocolMessage, frozen=True, tag="path-facts"):
    """What lstat(2) says of a path in a container."""

    name: str
    """Its last component as it was asked for, as text; bytes that are no UTF-8 replaced."""
    size_bytes: int
    mode: int
    """`st_mode`."""
    mtime_nanoseconds: int
    link_target: str = ""
    """Where a symbolic link leads in the end, from the container's root."""


class WritePath(ProtocolMessage, frozen=True, tag="write-path"):
    """Extract a (compressed) tar into a directory of a container. Descriptors: the view's, then the source."""

    view: View
    path: str
    keep_kinds: bool = False
    """Refuse to put a directory where something else is, or the reverse."""
    owner: str = ""
    """Whom everything is to belong to, looked up in the container's own files; empty: as the archive says."""
    version: int = VERSION


class ExportRoot(ProtocolMessage, frozen=True, tag="export-root"):
    """Write all of a view as a tar stream, as PackTree does. Descriptors: the view's, then where to write."""

    view: View
    version: int = VERSION

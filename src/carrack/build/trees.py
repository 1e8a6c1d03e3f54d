"""Work on file trees, each piece done by a confined worker: packing, COPY and ADD, checksums, reading a file.

This process never opens a path of a tree that a build can write; it names mounts, and the worker goes in.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from carrack.archive.removal import remove_tree
from carrack.build.ports import ChecksumOrder, Copied, CopyOrder, FileTrees, Packed, PackOptions, Tree
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter
from carrack.kernel.tree_size import tree_size
from carrack.oci.mount import Mount
from carrack.shim import messages
from carrack.shim.messages import WorkerDone, WorkerJob
from carrack.shim.workers import Job

_WORK = "copy-work"
_REMEMBERED = 10_000
_COMPRESSIONS = {"uncompressed": "", "": "", "gzip": "gzip", "zstd": "zstd"}


class WorkerTrees:
    """`ports.FileTrees`, by the zygote's workers. Every method may be called from any thread."""

    def __init__(self, zygote_socket: str, free_bytes: Callable[[], int] = lambda: 0) -> None:
        """`free_bytes` bounds what an archive may unpack to; 0: nothing does."""
        self._zygote_socket = zygote_socket
        self._free_bytes = free_bytes
        self.indexes: dict[str, Path] = {}
        """Directory of a context → its index, kept by whoever keeps the directory."""
        self._known: OrderedDict[ChecksumOrder, str] = OrderedDict()

    def pack_upper(self, upper: Path, target_fd: int, options: PackOptions, cancel: Cancellation) -> Packed:
        """See `ports.FileTrees.pack_upper`."""
        upper_fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._pack(_pack_job((), options, whiteouts=True), (target_fd, upper_fd), cancel)
        finally:
            os.close(upper_fd)

    def pack_tree(self, tree: Tree, target_fd: int, options: PackOptions, cancel: Cancellation) -> Packed:
        """See `ports.FileTrees.pack_tree`."""
        return self._pack(_pack_job(tree or _EMPTY, options, whiteouts=False), (target_fd,), cancel)

    def copy(self, order: CopyOrder, upper: Path, cancel: Cancellation) -> Copied:
        """See `ports.FileTrees.copy`. Beside `upper` there is a working directory of overlayfs while this runs."""
        trees: list[Tree] = []
        sources: list[messages.CopySource | messages.CopyInline] = []
        for source in order.sources:
            if source.tree not in trees:
                trees.append(source.tree)
            sources.append(
                messages.CopySource(
                    path=source.pattern,
                    tree=trees.index(source.tree),
                    wildcards=source.wildcards,
                    unpack=source.unpack is not False,
                    required=source.required,
                    keep_owner=source.keep_owner,
                )
            )
        sources += [messages.CopyInline(file.name, file.content) for file in order.files]
        work = upper.parent / _WORK
        job = messages.CopyFiles(
            target=_writable(order.base if not order.link else (), upper, work),
            trees=tuple(trees),
            sources=tuple(sources),
            destination=order.destination,
            owner=order.owner,
            mode=order.mode,
            parents=order.parents,
            excludes=order.excludes,
            made_seconds=-1 if order.epoch_seconds is None else order.epoch_seconds,
            limit_bytes=self._free_bytes(),
        )
        work.mkdir(mode=0o700)
        try:
            done = self.do(job, (), cancel)
        finally:
            parent_fd = os.open(upper.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                remove_tree(parent_fd, _WORK)
            finally:
                os.close(parent_fd)
        return Copied(done.size_bytes, done.entries)

    def checksum(self, order: ChecksumOrder, cancel: Cancellation) -> str:
        """See `ports.FileTrees.checksum`. What a `cache_key` names is remembered while this process lives."""
        if order.cache_key and (known := self._known.get(order)):
            return known
        job = messages.Checksum(
            tree=order.tree,
            source=messages.CopySource(order.pattern, wildcards=order.wildcards),
            parents=order.parents,
            excludes=order.excludes,
            follow_links=order.follow_links,
        )
        index = self.indexes.get(order.tree[0].source) if len(order.tree) == 1 else None
        fds = (os.open(index, os.O_RDONLY | os.O_CLOEXEC),) if index is not None else ()
        try:
            result = self.do(job, fds, cancel).checksum
        finally:
            for fd in fds:
                os.close(fd)
        if order.cache_key:
            self._known[order] = result
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return result

    def read(self, tree: Tree, path: str, limit_bytes: int, cancel: Cancellation) -> bytes:
        """See `ports.FileTrees.read`."""
        content_fd = os.memfd_create("carrack-file", os.MFD_CLOEXEC)
        try:
            size = self.do(messages.ReadFile(tree, path, limit_bytes), (content_fd,), cancel).size_bytes
            return os.pread(content_fd, size, 0)
        finally:
            os.close(content_fd)

    def usage(self, tree: Tree) -> int:
        """See `ports.FileTrees.usage`."""
        return sum(tree_size(each) for mount in tree for each in (mount.lower or (mount.source,)))

    def _pack(self, job: messages.PackTree, fds: Sequence[int], cancel: Cancellation) -> Packed:
        done = self.do(job, fds, cancel)
        return Packed(done.diff_id, done.size_bytes, done.entries)

    def begin(self, job: WorkerJob, fds: Sequence[int], cancel: Cancellation) -> Job:
        """Order a job whose input the caller then feeds. Raises Cancelled."""
        cancel.check()
        return Job(self._zygote_socket, job, fds)

    def do(self, job: WorkerJob, fds: Sequence[int], cancel: Cancellation) -> WorkerDone:
        """Have a worker do a job; the descriptors stay open here. Raises the worker's kind of error, Cancelled."""
        running = self.begin(job, fds, cancel)
        with cancel.calling(running.cancel):
            return running.result()


@contextmanager
def packed_tree(files: FileTrees, tree: Tree, cancel: Cancellation) -> Iterator[IO[bytes]]:
    """A tree as a tar that is read while a worker packs it; what goes wrong there is raised where the reading broke off."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    failures: list[CarrackError] = []

    def pack() -> None:
        try:
            files.pack_tree(tree, write_fd, PackOptions("uncompressed"), cancel)
        except CarrackError as error:
            failures.append(error)
        finally:
            os.close(write_fd)

    packer = threading.Thread(target=pack, name="tree-packer")
    packer.start()
    finished = False
    try:
        with os.fdopen(read_fd, "rb") as stream:
            yield stream
            finished = True
    finally:
        packer.join()
        if failures and not finished:
            raise failures[0]


_EMPTY: Tree = (Mount("tmpfs", "tmpfs"),)


def _pack_job(rootfs: Tree, options: PackOptions, *, whiteouts: bool) -> messages.PackTree:
    compression = _COMPRESSIONS.get(options.compression)
    if compression is None:
        raise InvalidParameter(f"unsupported layer compression type {options.compression!r}")
    return messages.PackTree(
        rootfs=rootfs,
        whiteouts=whiteouts,
        latest_mtime_seconds=-1 if options.epoch_seconds is None else options.epoch_seconds,
        compression=compression,
        level=options.level or 0,
        prefix=options.prefix,
        ends=options.ends,
    )


def _writable(base: Tree, upper: Path, work: Path) -> tuple[Mount, ...]:
    """The stage so far with an upper directory on top; over nothing, that directory alone."""
    if not base:
        return (Mount("bind", str(upper), options=("bind", "rw")),)
    lower = base[0].lower or (base[0].source,)
    return (Mount("overlay", "overlay", options=(f"upperdir={upper}", f"workdir={work}", "volatile"), lower=lower),)

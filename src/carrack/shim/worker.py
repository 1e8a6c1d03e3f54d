"""A worker: one job inside one untrusted tree, by a process that can see nothing else and ends with it.

Each job first takes, as detached mounts, what it may touch, then shuts itself in, and only then looks at the tree. It imports
nothing (law 1), and dies when the one who ordered it closes the connection.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import signal
import stat
from collections.abc import Callable

from carrack.archive.copying import copy_content
from carrack.archive.layer import unpack_layer
from carrack.archive.removal import remove_tree
from carrack.errors import CarrackError, InvalidParameter, NotFound, SystemFailure, Unavailable
from carrack.kernel import mount, paths
from carrack.runtime import rootfs
from carrack.shim import container_view, messages, place, wire
from carrack.shim.checksum import checksum
from carrack.shim.confinement import detached, shut_in
from carrack.shim.contexts import prune_tree, sync_context, unpack_context
from carrack.shim.copy_files import copy_files
from carrack.shim.copy_tree import TreeCopy
from carrack.shim.find_changes import find_changes
from carrack.shim.messages import (
    Checksum,
    CopyDirectory,
    CopyFiles,
    CopyUp,
    ExportRoot,
    FindChanges,
    LookAt,
    MakeDirectory,
    PackTree,
    PathFacts,
    PruneTree,
    ReadFile,
    ReadPath,
    RemoveTree,
    RunConfined,
    Subtract,
    SyncContext,
    UnpackArchive,
    UnpackContext,
    UnpackLayer,
    WorkerDone,
    WorkerFailed,
    WorkerJob,
    WritePath,
)
from carrack.shim.pack_tree import pack_tree
from carrack.shim.read_path import read_path
from carrack.shim.run_confined import run_confined
from carrack.shim.stacks import LOOK_ONLY, take_tree
from carrack.shim.subtract import subtract
from carrack.shim.write_path import write_path

Tell = Callable[[PathFacts], None]


def work(sock: _socket.socket, job: WorkerJob, fds: list[int]) -> None:
    """Do the job and answer on `sock`."""
    _die_with_connection(sock)
    answer: messages.FromWorker
    try:
        if job.version > messages.VERSION:
            raise Unavailable(f"the zygote speaks protocol version {messages.VERSION}, the job {job.version}")
        answer = _do(job, fds, lambda facts: wire.send(sock, facts))
    except CarrackError as error:
        answer = WorkerFailed(type(error).__name__, error.message)
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        answer = WorkerFailed(SystemFailure.__name__, f"{subject}{error.strerror or error}")
    wire.send(sock, answer)


def _do(job: WorkerJob, fds: list[int], tell: Tell) -> WorkerDone:
    match job:
        case UnpackLayer():
            return _unpack(job, *fds)
        case UnpackArchive():
            return _unpack_archive(*fds)
        case CopyUp():
            return _copy_up(job, *fds)
        case CopyDirectory():
            return _copy(*fds)
        case RemoveTree():
            return _remove(job, *fds)
        case PackTree():
            return _pack(job, *fds)
        case MakeDirectory():
            root, kept = rootfs.take_root(job.rootfs)
            os.close(kept)
            return place.make_directory(shut_in(root, overlay_attributes=True), job.path, job.owner, job.moment_seconds)
        case LookAt():
            return place.look_at(shut_in(take_tree(job.rootfs)), job.path)
        case Subtract():
            return _subtract(job, *fds)
        case ReadPath():
            return _read(job, fds, tell)
        case ExportRoot():
            return _export(job, fds)
        case FindChanges():
            return _find_changes(job, *fds)
        case WritePath():
            root_fd = container_view.enter(job.view, fds, writes=True)
            return write_path(job, root_fd, *fds)
        case ReadFile():
            return _read_file(job, *fds)
        case CopyFiles():
            return _copy_files(job)
        case Checksum():
            return _checksum(job, *fds)
        case UnpackContext():
            source_fd, directory_fd, index_fd = fds
            return unpack_context(job, source_fd, shut_in(_taken(directory_fd)), index_fd)
        case SyncContext():
            return sync_context(job, shut_in(_taken(fds.pop(1))), fds)
        case RunConfined():
            return WorkerDone(exit_code=run_confined(job, *fds))
        case PruneTree():
            return prune_tree(job, shut_in(_taken(*fds)))


def _unpack(job: UnpackLayer, source_fd: int, target_fd: int) -> WorkerDone:
    root_fd = shut_in(_taken(target_fd), overlay_attributes=True)
    report = unpack_layer(source_fd, root_fd, job.limit_bytes)
    return WorkerDone(report.diff_id, report.size_bytes, report.entries)


def _unpack_archive(source_fd: int, target_fd: int) -> WorkerDone:
    root_fd = shut_in(_taken(target_fd))
    report = unpack_layer(source_fd, root_fd, whiteouts=False)
    return WorkerDone(report.diff_id, report.size_bytes, report.entries)


def _copy(source_fd: int, target_fd: int) -> WorkerDone:
    source, target = _taken(source_fd), _taken(target_fd)
    mount.set_attributes(source, add=LOOK_ONLY)
    root_fd = shut_in(source)
    place = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    os.close(target)
    copy = TreeCopy()
    copy.copy(root_fd, place)
    return WorkerDone(size_bytes=copy.size_bytes, entries=copy.entries)


def _remove(job: RemoveTree, directory_fd: int) -> WorkerDone:
    remove_tree(shut_in(_taken(directory_fd)), job.name)
    return WorkerDone()


def _pack(job: PackTree, target_fd: int, directory_fd: int = -1) -> WorkerDone:
    if job.rootfs:
        tree = take_tree(job.rootfs)
    else:
        tree = _taken(directory_fd)
        mount.set_attributes(tree, add=LOOK_ONLY)
    return pack_tree(job, shut_in(tree, overlay_attributes=True), target_fd)


def _export(job: ExportRoot, fds: list[int]) -> WorkerDone:
    root_fd = container_view.enter(job.view, fds, writes=False)
    return pack_tree(PackTree(), root_fd, fds[0])


def _find_changes(job: FindChanges, target_fd: int, upper_fd: int) -> WorkerDone:
    """The changes stay a detached mount, from which ``..`` leads nowhere; what is below becomes the root."""
    upper = detached(upper_fd)
    os.close(upper_fd)
    mount.set_attributes(upper, add=LOOK_ONLY)
    root_fd = shut_in(take_tree(job.below), overlay_attributes=True)
    changes_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=upper)
    os.close(upper)
    return find_changes(job, root_fd, changes_fd, target_fd)


def _subtract(job: Subtract, full_fd: int) -> WorkerDone:
    """The copy stays a detached mount, from which ``..`` leads nowhere; what is below becomes the root."""
    full = _taken(full_fd)
    root_fd = shut_in(take_tree(job.below), overlay_attributes=True)
    changed_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=full)
    os.close(full)
    return WorkerDone(entries=subtract(root_fd, changed_fd))


def _read(job: ReadPath, fds: list[int], tell: Tell) -> WorkerDone:
    root_fd = container_view.enter(job.view, fds, writes=job.makes_places)
    return read_path(job, root_fd, fds[0] if fds else -1, tell)


def _copy_up(job: CopyUp, volume_fd: int) -> WorkerDone:
    """Docker's rule: only a directory of the image is copied, and only into an empty volume."""
    volume = _taken(volume_fd)
    root_fd = shut_in(take_tree(job.rootfs), overlay_attributes=True)
    target = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=volume)
    os.close(volume)
    if os.listdir(target):
        return WorkerDone()
    try:
        source = paths.open_in(root_fd, job.path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return WorkerDone()
    copy = TreeCopy()
    copy.copy(source, target)
    return WorkerDone(size_bytes=copy.size_bytes, entries=copy.entries)


def _copy_files(job: CopyFiles) -> WorkerDone:
    """The sources stay detached mounts, from which ``..`` leads nowhere; the destination becomes the root."""
    trees = [take_tree(each) for each in job.trees]
    target, kept = rootfs.take_root(job.target)
    os.close(kept)
    root_fd = shut_in(target)
    sources = [os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=each) for each in trees]
    done = copy_files(job, sources)
    os.close(root_fd)
    return done


def _taken(directory_fd: int) -> int:
    """A directory of the host as a detached mount, its own descriptor closed."""
    tree = detached(directory_fd)
    os.close(directory_fd)
    return tree


def _read_file(job: ReadFile, target_fd: int) -> WorkerDone:
    root_fd = shut_in(take_tree(job.tree))
    try:
        fd = paths.open_in(root_fd, job.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{job.path}: not found") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidParameter(f"{job.path} is not a file")
    if status.st_size > job.limit_bytes:
        raise InvalidParameter(f"{job.path} has {status.st_size} bytes, at most {job.limit_bytes} are read")
    copy_content(fd, target_fd, status.st_size)
    return WorkerDone(size_bytes=status.st_size)


def _checksum(job: Checksum, index_fd: int = -1) -> WorkerDone:
    return WorkerDone(checksum=checksum(job, shut_in(take_tree(job.tree)), index_fd))


def _die_with_connection(sock: _socket.socket) -> None:
    """The kernel kills this process when something happens on the connection, which only its end can be."""
    fd = sock.fileno()
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC)
    try:
        ended = not sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except BlockingIOError:
        ended = False
    if ended:
        os._exit(1)

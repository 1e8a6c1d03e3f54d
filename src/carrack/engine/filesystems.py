"""The files of containers, read and changed by confined workers: what `cp` and `diff` and `export` are made of.

A running container's worker joins its mount namespace, one of a container at rest mounts the root for itself. Readers of a root at
rest mount its layers without an upper directory, so they disturb nobody; who writes to it holds the container's lock, because
two overlays never share one (law 6).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from msgspec.structs import replace

from carrack.engine import roots
from carrack.engine.container import Container, MountPoint
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.live import Live
from carrack.engine.state import LIVE, Status
from carrack.engine.threads import in_thread
from carrack.engine.work import Work, make_pipe, read_pipe, write_pipe
from carrack.errors import CarrackError, Conflict, DataCorrupt, InvalidParameter, NotFound, SystemFailure, Unavailable
from carrack.oci.mount import Mount
from carrack.shim.messages import ExportRoot, FindChanges, PathFacts, ReadPath, View, ViewMount, WritePath

ENGINE_FILES = (("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname"), ("/etc/hosts", "hosts"))
_PATIENCE_SECONDS = 10.0
_TRIES = 3
"""How often a worker is sent to a container that ends at that moment."""


_Looking = ReadPath | WritePath | ExportRoot
_KINDS = {b"C": 0, b"A": 1, b"D": 2}


@dataclass(frozen=True, slots=True)
class Change:
    """One path that a container changed (0), added (1) or deleted (2)."""

    kind: int
    path: str


class Filesystems:
    """The files of one instance's containers."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle
        self._rooms = lifecycle.rooms

    async def facts(self, ref: str, path: str) -> PathFacts:
        """What lstat says of a path. Raises NotFound, InvalidParameter."""
        container = self._rooms.table.get(ref)
        work, facts = await self._read(container, ReadPath(View(), path), ref, [])
        await work.done()
        return facts

    async def read(self, ref: str, path: str) -> tuple[PathFacts, AsyncIterator[bytes]]:
        """A path and everything below it as tar, the facts first. Raises NotFound, InvalidParameter; the stream may break off."""
        container = self._rooms.table.get(ref)
        reader, writer = make_pipe()
        try:
            work, facts = await self._read(container, ReadPath(View(), path, archive=True), ref, [writer])
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._life.tell(container, "archive-path")
        return facts, Archive(work, reader)

    async def write(self, ref: str, path: str, archive: AsyncIterator[bytes], *, keep_kinds: bool, as_user: bool) -> None:
        """Extract a tar into a directory. Raises NotFound, InvalidParameter, Forbidden for what may not be written."""
        container = self._rooms.table.get(ref)
        job = WritePath(View(), path, keep_kinds=keep_kinds, owner=container.config.user if as_user else "")
        live = self._life.live(container)
        if container.state.status in LIVE:
            try:
                await self._write(container, live, job, archive, ref)
                return
            except Unavailable:
                await live.settled.wait()
        async with live.lock:
            await live.settled.wait()
            if self._rooms.table.find(container.id) is None:
                raise NotFound(f"No such container: {ref}")
            await live.without_works(_PATIENCE_SECONDS)
            try:
                await self._write(container, live, job, archive, ref)
            except Unavailable as error:
                raise Conflict(f"container {ref} started and ended while it was written to") from error

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """The whole root, without what is mounted over it, as tar. Raises NotFound; the stream may break off."""
        container = self._rooms.table.get(ref)
        reader, writer = make_pipe()
        try:
            work = await self._begin(container, ExportRoot(View()), [writer], with_mounts=False)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._life.tell(container, "export")
        return Archive(work, reader)

    async def changes(self, ref: str) -> list[Change]:
        """What a container changed of its image's files, in order of paths. Raises NotFound."""
        container = self._rooms.table.get(ref)
        below, directory = await in_thread(self._below, container)
        reader, writer = make_pipe()
        try:
            job = FindChanges(below, whole=self._rooms.snapshots.mounts(container.id)[0].type != "overlay", places=roots.PLACES)
            work = await Work.begin(self._rooms.begin_job, job, [writer, directory])
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
            os.close(directory)
        archive = Archive(work, reader)
        try:
            told = b"".join([piece async for piece in archive])
        finally:
            await archive.aclose()
        return [Change(_KINDS[line[:1]], line[1:].decode("utf-8", "replace")) for line in told.split(b"\0") if line]

    def _below(self, container: Container) -> tuple[tuple[Mount, ...], int]:
        """(what a container's changes lie over, the directory that holds them)."""
        snapshots = self._rooms.snapshots
        layers = [str(directory) for directory in snapshots.directories(snapshots.parent(container.id))]
        below = Mount("overlay", "overlay", lower=(*layers, str(self._rooms.directories.places)))
        return (below,), os.open(snapshots.changes(container.id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, container: Container, job: ReadPath, ref: str, beside: list[int]) -> tuple[Work, PathFacts]:
        """Send a worker and hear what it says of the path."""
        await self._make_places(container)
        for _ in range(_TRIES):
            work = await self._begin(container, job, beside)
            try:
                return work, await work.facts()
            except Unavailable:
                work.close()
                await self._life.live(container).settled.wait()
            except NotFound:
                work.close()
                raise NotFound(f"Could not find the file {job.path} in container {ref}") from None
            except SystemFailure as error:
                work.close()
                raise self._why(container, ref, error) from error
            except BaseException:
                work.close()
                raise
        raise Conflict(f"container {ref} starts and ends too often to be looked into")

    async def _make_places(self, container: Container) -> None:
        """Have the places of its mounts made in a container that never ran: a reader cannot."""
        if container.state.status is not Status.CREATED or not container.mounts or container.state.started_at_nanoseconds:
            return
        live = self._life.live(container)
        async with live.lock:
            if container.state.status is Status.CREATED and self._rooms.table.find(container.id) is not None:
                work = await self._begin(container, ReadPath(View(), "/", makes_places=True), [])
                try:
                    await work.facts()
                    await work.done()
                finally:
                    work.close()

    async def _write(self, container: Container, live: Live, job: WritePath, archive: AsyncIterator[bytes], ref: str) -> None:
        reader, writer = make_pipe()
        try:
            work = await self._begin(container, job, [reader])
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        live.works.add(work)
        live.idle.clear()
        feeding = asyncio.ensure_future(write_pipe(writer, archive))
        ending = asyncio.ensure_future(work.done())
        try:
            await asyncio.wait((feeding, ending), return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and feeding.exception() is not None:
                feeding.result()
            await ending
        except NotFound:
            raise NotFound(f"Could not find the file {job.path} in container {ref}") from None
        except DataCorrupt as error:  # the client's archive, not our disk
            raise InvalidParameter(error.message) from error
        except SystemFailure as error:
            raise self._why(container, ref, error) from error
        finally:
            feeding.cancel()
            ending.cancel()
            await asyncio.gather(feeding, ending, return_exceptions=True)
            work.close()
            live.works.discard(work)
            if not live.works:
                live.idle.set()
        self._life.tell(container, "extract-to-dir")

    def _why(self, container: Container, ref: str, error: SystemFailure) -> CarrackError:
        """A worker's failure, or what it comes from: a container that was removed meanwhile."""
        gone = self._rooms.table.find(container.id) is None or container.state.status is Status.REMOVING
        return NotFound(f"No such container: {ref}") if gone else error

    async def _begin(self, container: Container, job: _Looking, beside: list[int], *, with_mounts: bool = True) -> Work:
        """Send a worker into a container as it stands now."""
        if container.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict(f"container {container.id} is marked for removal")
        live = self._life.live(container)
        if live.init_fd < 0 or container.state.status not in LIVE:
            seen = await in_thread(self._view_at_rest, container, with_mounts)
            return await Work.begin(self._rooms.begin_job, replace(job, view=seen), beside)
        init_fd = os.dup(live.init_fd)
        try:
            seen = _view(container) if with_mounts else View()
            return await Work.begin(self._rooms.begin_job, replace(job, view=seen), [init_fd, *beside])
        finally:
            os.close(init_fd)

    def _view_at_rest(self, container: Container, with_mounts: bool) -> View:
        root = roots.root_of(container, self._rooms)
        if not with_mounts:
            return View(root)
        mounts = [
            ViewMount(point.destination, point.source, _beneath(point), point.writable)
            for point in _in_order(container)
            if point.type in ("bind", "volume")
        ]
        taken = {point.destination for point in container.mounts}
        for destination, name in ENGINE_FILES:
            source = f"{container.directory}/{name}"
            if destination not in taken and os.path.exists(source):
                mounts.append(ViewMount(destination, source))
        return View(root, tuple(mounts), container.host_config.readonly_rootfs)


def _view(container: Container) -> View:
    """What of a running container's namespace is shown: its root and what was asked to be mounted there."""
    mounts = [ViewMount(point.destination, writable=point.writable) for point in _in_order(container)]
    taken = {point.destination for point in container.mounts}
    mounts += [ViewMount(destination) for destination, _ in ENGINE_FILES if destination not in taken]
    return View((), tuple(mounts), container.host_config.readonly_rootfs)


def _in_order(container: Container) -> list[MountPoint]:
    return sorted(container.mounts, key=lambda point: point.destination.count("/"))


def _beneath(point: MountPoint) -> str:
    return next((option.removeprefix("subpath=") for option in point.options if option.startswith("subpath=")), "")


class Archive:
    """What a worker packs, as it comes; closing it ends the worker. It ends well only when the worker says so."""

    def __init__(self, work: Work, reader_fd: int) -> None:
        self._work = work
        self._reader_fd = reader_fd
        self._pieces = read_pipe(reader_fd)
        self._begun = False

    def __aiter__(self) -> Archive:
        return self

    async def __anext__(self) -> bytes:
        self._begun = True
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            await self._work.done()
            raise

    async def aclose(self) -> None:
        """Stop reading. May be called more than once."""
        if not self._begun:
            self._begun = True
            os.close(self._reader_fd)
        await self._pieces.aclose()  # type: ignore[attr-defined]
        self._work.close()

"""Images out of containers: `commit`. The container is paused meanwhile, unless that is not wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from carrack.archive.difference import DifferenceCopy
from carrack.engine import roots
from carrack.engine.config import ContainerConfig
from carrack.engine.container import Container
from carrack.engine.containers import Containers
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.state import Status
from carrack.engine.threads import in_thread
from carrack.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from carrack.images.changes import apply_changes
from carrack.images.committing import Commit, Packed, commit_image
from carrack.images.image import Image
from carrack.images.images import new_name
from carrack.oci.image_config import ExecutionConfig
from carrack.shim.messages import PackTree, Subtract

_GOING = (Status.REMOVING, Status.DEAD)
_FIELDS = tuple(field for field in ExecutionConfig.__struct_fields__ if field in ContainerConfig.__struct_fields__)


@dataclass(frozen=True, slots=True)
class CommitWish:
    """What POST /commit asks for."""

    name: str = ""
    """``repository[:tag]``; empty: an image without a name."""
    author: str = ""
    comment: str = ""
    changes: Sequence[str] = ()
    """Dockerfile instructions."""
    config: ContainerConfig | None = None
    """What is to be different from the container's own configuration."""
    pause: bool = True


class Commits:
    """Commits containers of one instance."""

    def __init__(self, lifecycle: Lifecycle, containers: Containers) -> None:
        self._life = lifecycle
        self._rooms = lifecycle.rooms
        self._containers = containers

    async def commit(self, ref: str, wish: CommitWish) -> Image:
        """Make an image of a container's files and configuration. Raises NotFound, InvalidParameter, Conflict."""
        container = self._rooms.table.get(ref)
        if container.state.status in _GOING:
            raise _going(container)
        names = (new_name(wish.name),) if wish.name else ()
        own = _execution(container.config)
        given = own if wish.config is None or _execution(wish.config) == ExecutionConfig() else _execution(wish.config)
        config = merged(apply_changes(given, wish.changes), own)
        commit = Commit(config, names, wish.author, wish.comment, " ".join(container.config.cmd or ()))
        paused = wish.pause and await self._paused(container)
        try:
            image = await in_thread(self._commit, container, commit)
        except (SystemFailure, NotFound, OSError) as error:
            if self._rooms.table.find(container.id) is not None and container.state.status not in _GOING:
                raise
            raise _going(container) from error  # it was removed under the worker
        finally:
            if paused:
                await self._unpaused(container)
        attributes = {"comment": wish.comment, "imageID": str(image.id), "imageRef": names[0].familiar if names else ""}
        self._life.tell(container, "commit", attributes)
        return image

    async def _paused(self, container: Container) -> bool:
        """Whether it had to be paused, and is."""
        if container.state.status is not Status.RUNNING:
            return False
        container.paused_by_commit = True  # recorded with the pause
        try:
            await self._containers.pause(container.id)
        except Conflict:  # it has ended, or somebody else was faster
            container.paused_by_commit = False
            return False
        return True

    async def _unpaused(self, container: Container) -> None:
        container.paused_by_commit = False
        try:
            await self._containers.unpause(container.id)
        except Conflict:  # killed meanwhile
            pass

    def _commit(self, container: Container, commit: Commit) -> Image:
        with self._changes(container) as changes:
            return self._commit_tree(container, commit, changes)

    @contextmanager
    def _changes(self, container: Container) -> Iterator[Path]:
        """What the container changed, in overlayfs' form; made of a copy where its files are a full copy of the image's."""
        rooms = self._rooms
        changed = rooms.snapshots.changes(container.id)
        below = roots.image_tree(container, rooms)
        if rooms.snapshots.name == "overlay2" or not below:
            yield changed
            return
        staging = rooms.snapshots.stage()
        try:
            with _opened(staging) as target_fd, _opened(changed) as changed_fd:
                DifferenceCopy(target_fd).add(changed_fd)
                rooms.start_job(Subtract(below), (target_fd,)).result()
            yield staging
        finally:
            rooms.snapshots.abandon(staging)

    def _commit_tree(self, container: Container, commit: Commit, changes: Path) -> Image:
        rooms = self._rooms

        def pack(target_fd: int) -> Callable[[], Packed]:
            with _opened(changes) as directory_fd:
                job = rooms.start_job(PackTree(whiteouts=True, compression="gzip"), (target_fd, directory_fd))

            def finish() -> Packed:
                done = job.result()
                return Packed(done.diff_id, done.entries)

            return finish

        return commit_image(rooms.images.store, rooms.images.get(container.image_id), commit, pack)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _going(container: Container) -> Conflict:
    return Conflict(f"You cannot commit container {container.id} which is Dead or being removed")


def _execution(config: ContainerConfig) -> ExecutionConfig:
    """The part of a container's configuration that an image has, too."""
    return ExecutionConfig(**{field: getattr(config, field) for field in _FIELDS})


def merged(given: ExecutionConfig, own: ExecutionConfig) -> ExecutionConfig:
    """What was asked for, completed by the container's own: Docker's rules for commit."""
    named = {variable.partition("=")[0] for variable in given.env or ()}
    command, entrypoint = given.cmd, given.entrypoint
    if not entrypoint:
        command = command or own.cmd
        entrypoint = own.entrypoint if entrypoint is None else None
    return replace(
        given,
        user=given.user or own.user,
        exposed_ports={**(own.exposed_ports or {}), **(given.exposed_ports or {})} or None,
        env=[*(given.env or ()), *(each for each in own.env or () if each.partition("=")[0] not in named)] or None,
        entrypoint=entrypoint,
        cmd=command,
        volumes={**(own.volumes or {}), **(given.volumes or {})} or None,
        working_dir=given.working_dir or own.working_dir,
        labels={**(own.labels or {}), **(given.labels or {})} or None,
        stop_signal=given.stop_signal or own.stop_signal,
        healthcheck=given.healthcheck or own.healthcheck,
        shell=given.shell or own.shell,
    )


def name_of(repository: str, tag: str) -> str:
    """The name that a request's `repo` and `tag` make. Raises InvalidParameter for a tag of nothing."""
    if tag and not repository:
        raise InvalidParameter("invalid reference format")
    return f"{repository}:{tag}" if tag else repository

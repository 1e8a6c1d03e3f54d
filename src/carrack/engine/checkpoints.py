"""Checkpoints of containers: made, listed, removed, and found again for a start. What writes and reads them is CRIU.

    <container's directory>/checkpoints/NAME, or DIRECTORY/NAME where the client says so
                                       /.NAME.RANDOM while it is being written: only a complete one has its name

The container's record names the directory before criu begins (law 7): what a daemon did not live to finish, the next one completes
or removes. Nothing of CRIU is imported before the first order.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from dataclasses import dataclass

from carrack.engine import remapping
from carrack.engine.container import Container
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.live import Live
from carrack.engine.names import ALLOWED
from carrack.engine.rooms import Rooms
from carrack.engine.state import LIVE, Status
from carrack.engine.threads import in_thread
from carrack.errors import CarrackError, Conflict, InvalidParameter, NotFound, SystemFailure, Unavailable
from carrack.runtime import criu
from carrack.shim.messages import Checkpoint

_NAME = re.compile(f"{ALLOWED}+")
_LOOK_SECONDS = 1.0


class Presence:
    """Whether this host has CRIU; looked up once a second at most, for every answer of the API tells it."""

    def __init__(self) -> None:
        self._looked_at = -_LOOK_SECONDS
        self._found = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at, self._found = now, bool(criu.find())
        return self._found


@dataclass(frozen=True, slots=True)
class CheckpointWish:
    """What POST /containers/{id}/checkpoints asks for."""

    name: str
    directory: str = ""
    """Where it is to be kept; empty: with the container, with which it goes."""
    exit: bool = False
    """End the container once it is written."""


class Checkpoints:
    """The checkpoints of one instance's containers."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle
        self._table = lifecycle.rooms.table

    async def create(self, ref: str, wish: CheckpointWish) -> None:
        """Write a running container out; when `exit` is asked, returns once everything that follows its end is done.

        Raises InvalidParameter, NotFound, Conflict, Unavailable (no CRIU), SystemFailure with CRIU's reason: then nothing is
        left of it, and the container goes on as if nobody had asked.
        """
        check_name(wish.name)
        container = self._table.get(ref)
        # shielded: a client that goes away must not leave half of it
        await asyncio.shield(self._life.spawn(self._create(ref, container, wish)))

    async def _create(self, ref: str, container: Container, wish: CheckpointWish) -> None:
        live = self._life.live(container)
        async with live.lock:
            self._check_can_be_written(container)
            target = await in_thread(_free_place, container, ref, wish)
            program = _criu()
            # random: in a directory of the client's choice, nothing of somebody else's may be taken for ours and removed
            unfinished = f"{os.path.dirname(target)}/.{wish.name}.{secrets.token_hex(8)}"
            stopped = container.stopped_by_user
            container.unfinished_checkpoint = unfinished
            container.stopped_by_user = stopped or wish.exit  # its restart policy must not begin it anew
            await asyncio.wrap_future(self._table.save(container, durable=True))
            try:
                await in_thread(_write, program, container, unfinished, target, wish)
            except (CarrackError, OSError) as error:
                container.stopped_by_user = stopped or container.state.status not in LIVE
                await self._finished(container)
                text = error.message if isinstance(error, CarrackError) else str(error)
                kind = InvalidParameter if isinstance(error, InvalidParameter) else SystemFailure
                raise kind(f"Cannot checkpoint container {ref}: {text}") from error
            await self._finished(container)
            self._life.tell(container, "checkpoint")
            if wish.exit:
                await self._ended(live)

    async def _finished(self, container: Container) -> None:
        container.unfinished_checkpoint = ""
        if self._table.find(container.id) is not None:
            await asyncio.wrap_future(self._table.save(container, durable=True))

    async def _ended(self, live: Live) -> None:
        """Criu has killed the processes: let the end have its consequences."""
        await live.ended.wait()
        await live.settled.wait()

    def _check_can_be_written(self, container: Container) -> None:
        host = container.host_config
        if container.state.paused:
            raise Conflict(f"container {container.id} is paused, unpause the container before a checkpoint")
        if container.state.status is not Status.RUNNING:
            raise Conflict(f"container {container.id} is not running")
        if host.pid_mode.startswith("container:"):
            raise Conflict(f"container {container.id} lives among the processes of another, which cannot be written out with it")
        if remapping.applies(host, self._life.rooms.settings.remap):
            raise Conflict(f"container {container.id} has a user namespace of its own, from which no checkpoint can be started")
        _check_runtime(container, self._life.rooms)

    async def list(self, ref: str, directory: str) -> list[str]:
        """The names of a container's checkpoints. Raises NotFound, InvalidParameter."""
        container = self._table.get(ref)
        return await in_thread(_names, container, ref, directory)

    async def remove(self, ref: str, name: str, directory: str) -> None:
        """Remove a checkpoint. Raises NotFound, InvalidParameter."""
        check_name(name)
        container = self._table.get(ref)
        async with self._life.live(container).lock:  # nobody starts from it meanwhile
            await in_thread(lambda: _remove(_existing(container, ref, name, directory)))


def check_name(name: str) -> None:
    """Raises InvalidParameter in Docker's words."""
    if _NAME.fullmatch(name) is None or name.endswith("."):
        raise InvalidParameter(f'invalid checkpoint ID "{name}", only {ALLOWED} are allowed')


def to_start(container: Container, rooms: Rooms, ref: str, name: str, directory: str) -> Checkpoint:
    """What a start from a checkpoint needs. Raises NotFound, Conflict, InvalidParameter, Unavailable. Blocking."""
    _check_runtime(container, rooms)
    return Checkpoint(criu=_criu(), directory=_existing(container, ref, name, directory))


def _check_runtime(container: Container, rooms: Rooms) -> None:
    runtime = container.host_config.runtime
    if rooms.settings.runtimes.find(runtime) is not None:
        raise Conflict(
            f"container {container.id} has the runtime {runtime or rooms.settings.runtimes.default}: checkpoints need ours"
        )


def complete(container: Container) -> None:
    """Give a checkpoint that an earlier daemon did not live to finish its name, or remove what there is of it. Blocking."""
    unfinished = container.unfinished_checkpoint
    parent, name = os.path.split(unfinished)
    target = f"{parent}/{name.removeprefix('.').rpartition('.')[0]}"
    if _is_complete(unfinished) and not os.path.lexists(target):
        os.rename(unfinished, target)
    else:
        _remove(unfinished)


def _criu() -> str:
    path = criu.find()
    if not path:
        raise Unavailable(criu.MISSING)
    return path


def _root(container: Container, directory: str) -> str:
    if directory and not directory.startswith("/"):
        raise InvalidParameter(f'checkpoint directory "{directory}" is not an absolute path')
    return os.path.normpath(directory) if directory else f"{container.directory}/checkpoints"


def _free_place(container: Container, ref: str, wish: CheckpointWish) -> str:
    """Where the checkpoint is to be. Raises Conflict when something is there."""
    target = f"{_root(container, wish.directory)}/{wish.name}"
    if os.path.isdir(target):
        raise Conflict(f"cannot checkpoint container {ref}: checkpoint with name {wish.name} already exists for container {ref}")
    if os.path.lexists(target):
        raise Conflict(f"cannot checkpoint container {ref}: {target} exists and is not a directory")
    return target


def _write(program: str, container: Container, unfinished: str, target: str, wish: CheckpointWish) -> None:
    from carrack.runtime.criu.dump import dump, standard_pipes

    try:
        os.makedirs(os.path.dirname(unfinished), mode=0o700, exist_ok=True)
        os.mkdir(unfinished, 0o700)
    except OSError as error:
        kind = InvalidParameter if wish.directory else SystemFailure
        raise kind(f"mkdir {error.filename}: {(error.strerror or '').lower()}") from error
    pid = container.state.pid
    pipes = tuple(f"pipe:[{inode}]" if inode else "" for inode in container.state.pipes) or standard_pipes(pid)
    try:
        dump(program, pid, unfinished, pipes, leave_running=not wish.exit)
    except (CarrackError, OSError):
        _remove(unfinished)
        raise
    try:
        os.rename(unfinished, target)
    except OSError as error:  # somebody has put something there meanwhile; what the container was may be nowhere else
        raise SystemFailure(f"{target}: {error.strerror}; the checkpoint, which is complete, is {unfinished}") from error


def _is_complete(directory: str) -> bool:
    from carrack.runtime.criu.images import COMPLETE

    return os.path.isfile(f"{directory}/{COMPLETE}")


def _existing(container: Container, ref: str, name: str, directory: str) -> str:
    """The directory of a checkpoint. Raises NotFound; what is none is not taken for one, wherever a client points."""
    found = f"{_root(container, directory)}/{name}"
    if not _is_complete(found):
        raise NotFound(f"checkpoint {name} does not exist for container {ref}")
    return found


def _names(container: Container, ref: str, directory: str) -> list[str]:
    root = _root(container, directory)
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        if directory:
            raise NotFound(f'checkpoint directory "{root}" does not exist for container {ref}') from None
        return []
    except NotADirectoryError:
        raise InvalidParameter(f'checkpoint directory "{root}" exists but is not a directory') from None
    return [name for name in names if _NAME.fullmatch(name) and _is_complete(f"{root}/{name}")]


def _remove(directory: str) -> None:
    from carrack.archive.removal import remove_tree

    parent, name = os.path.split(directory)
    try:
        parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(parent_fd, name)
    finally:
        os.close(parent_fd)

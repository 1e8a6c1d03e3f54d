"""Containers as the API orders them: looked up, checked, and handed to their life (`lifecycle.py`) or to their streams.

All of it runs on the event loop; blocking parts go through `in_thread`. Orders about one container's life take its
`Live.lock` and so follow one another. Lists and inspect read records and take nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from carrack.engine import checkpoints, creation, links, logs, names, request, roots, top, updating
from carrack.engine.config import CreateRequest, UpdateRequest
from carrack.engine.container import Container, Created, Explanation, MountPoint, Processes, Pruned, Sizes
from carrack.engine.copy_up import copy_up
from carrack.engine.demolition import demolish
from carrack.engine.exits import exit_document
from carrack.engine.filters import Filters
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.link_upkeep import rewrite_links
from carrack.engine.listing import select, until_nanoseconds
from carrack.engine.live import HeldAttach, HeldWait, Live
from carrack.engine.shims import Shim, SupervisorGone
from carrack.engine.state import LIVE, Status
from carrack.engine.stopping import SIGKILL, stop_signal
from carrack.engine.streams import (
    MULTIPLEXED,
    RAW,
    AttachOptions,
    HandedOn,
    LogOptions,
    Session,
    WaitCondition,
    finish,
    last_chunk,
    parse_detach_keys,
)
from carrack.engine.threads import in_thread
from carrack.errors import CarrackError, Conflict, InvalidParameter, NotFound, NotImplementedHere, NotModified, SystemFailure
from carrack.shim.messages import Attach, Resize, Wait

YOUNG_SECONDS = 0.2
"""How old a container is when its log is read without delay."""
Mounts = list[MountPoint]
Texts = list[str]
"""Names for what `list` means no more within the class."""


class Containers:
    """The containers of one instance."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle
        self._rooms = lifecycle.rooms

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, ref: str) -> Container:
        """One record. Raises NotFound, InvalidParameter."""
        return self._rooms.table.get(ref)

    def list(self, filters: Filters, *, all: bool, limit: int) -> list[Container]:
        """The records that match, newest first."""
        return select(self._rooms.table, filters, all=all, limit=limit, images=self._family)

    def _family(self, ref: str) -> set[str]:
        """The ids of an image and of every image that was made from it here."""
        try:
            first = self._rooms.images.get(ref).id
        except (NotFound, InvalidParameter):
            return set()
        return {str(image) for image in self._rooms.images.descendants(first)}

    async def sizes(self, container_id: str) -> Sizes:
        """Bytes of the writable layer and of the whole root."""
        container = self.get(container_id)
        changed = await in_thread(self._rooms.snapshots.usage_bytes, container.id)
        below = await in_thread(self._image_size, container.image_id)
        return Sizes(changed, changed + below)

    def _image_size(self, image_id: str) -> int:
        try:
            return self._rooms.images.get(image_id).size_bytes
        except NotFound:
            return 0

    async def top(self, ref: str, ps_args: str) -> Processes:
        """The container's processes as ps(1) shows them. Raises Conflict when it does not run."""
        container = self.get(ref)
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        if container.state.status not in LIVE:
            raise Conflict(f"container {container.id} is not running")
        shown = await in_thread(lambda: top.processes(self._life.cgroup(container).processes(), ps_args))
        self._life.tell(container, "top")
        return shown

    # ── making and removing ──────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, name: str, request: CreateRequest, platform: str) -> Created:
        """Make a container. Raises InvalidParameter, Conflict (name), NotFound (image, network)."""
        table = self._rooms.table
        warnings = creation.check(request, platform, self._rooms.settings.machine)
        container_id = names.new_id()
        chosen = table.reserve_name(name, container_id)
        try:
            inherited = self._inherited_mounts(request.host_config.volumes_from or [])
            container = await in_thread(creation.draft, container_id, chosen, request, platform, inherited, self._rooms)
            warnings += creation.platform_warnings(container, platform)
            try:
                await in_thread(copy_up, container, self._rooms)
                await asyncio.wrap_future(table.add(container))
            except BaseException:
                await in_thread(lambda: demolish(container, self._rooms, volumes=True))
                table.remove(container)
                raise
        except BaseException:
            table.release_name(chosen, container_id)
            raise
        self._life.tell(container, "create")
        return Created(container_id, warnings)

    def _inherited_mounts(self, sources: Iterable[str]) -> Mounts:
        """The mounts of `--volumes-from container[:ro|rw]`."""
        found: Mounts = []
        for source in sources:
            ref, _, mode = source.partition(":")
            if not source:
                raise InvalidParameter("volumes-from specification cannot be an empty string")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidParameter(f"invalid mode: {mode}")
            try:
                shared = self.get(ref)
            except NotFound as error:
                raise InvalidParameter(error.message) from error  # a 404 would have the command line pull the image
            for point in shared.mounts:
                if point.type in ("bind", "volume"):
                    writable = point.writable and mode != "ro"
                    found.append(msgspec.structs.replace(point, writable=writable, copy_up=False, anonymous=False, mode=""))
        return found

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        """Remove a container, with `force` also a running one. Raises NotFound, Conflict."""
        if link:
            await self._unlink(ref)
            return
        container = self.get(ref)
        live = self._life.live(container)
        if live.removing:
            raise Conflict(f"removal of container {ref} is already in progress")
        if container.state.running and not force:
            raise creation.reference_conflict(container)
        live.removing = True
        try:
            if force and container.state.status in LIVE:
                container.stopped_by_user = True
                await self._life.kill_now(container, live)  # without the lock: a stop that waits must not delay it
            async with live.lock:
                if container.state.running and not force:
                    raise creation.reference_conflict(container)
                container.stopped_by_user = True
                live.cancel_restart()
                if container.state.status in LIVE:
                    await self._life.kill_now(container, live)
                await live.settled.wait()
                if self._rooms.table.find(container.id) is not None:
                    await self._life.take_away(container, live, volumes=volumes or container.host_config.auto_remove)
        finally:
            live.removing = False

    async def _unlink(self, path: str) -> None:
        """Take a link away, and its lines from /etc/hosts. Raises NotFound, Conflict."""
        container, alias = links.find(path, self._rooms.table)
        async with self._life.live(container).lock:
            container.links.pop(alias, None)
            await asyncio.wrap_future(self._rooms.table.save(container, durable=True))
            await rewrite_links(container, self._rooms)

    def lower_directories(self, container: Container) -> Sequence[str]:
        """What lies below a container's own files, topmost first; nothing where they are a full copy, or have gone."""
        try:
            return roots.root_of(container, self._rooms)[0].lower
        except NotFound:
            return ()

    def links(self, container: Container) -> Texts | None:
        """A container's links as inspect shows them."""
        return links.described(container, self._rooms.table)

    def link_names(self) -> dict[str, Texts]:
        """The further names that links give to containers, by id."""
        return links.names(self._rooms.table)

    async def rename(self, ref: str, name: str) -> None:
        """Give a container another name. Raises Conflict, InvalidParameter."""
        name = name.strip()
        if name in ("", "/"):
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self.get(ref)
        try:
            new = names.check("/" + name.removeprefix("/"))
        except InvalidParameter as error:
            raise InvalidParameter(f"Error when allocating new name: {error.message}") from None
        if new == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        old = container.name
        try:
            self._rooms.table.reserve_name(new, container.id)
        except Conflict as error:
            raise Conflict(f"Error when allocating new name: {error.message}") from error
        container.name = new
        self._rooms.table.release_name(old, container.id)
        await asyncio.wrap_future(self._rooms.table.save(container, durable=True))
        await in_thread(self._rooms.networks.rename, container.id, new)
        self._life.tell(container, "rename", {"oldName": f"/{old}"})

    async def prune(self, filters: Filters, tell: Callable[[str], None] = lambda gone: None) -> Pruned:
        """Remove every container that does not run; `tell` hears of each."""
        filters.accept("label", "label!", "until")
        pruned = Pruned()
        until = until_nanoseconds(filters)
        for container in self._rooms.table:
            created = container.created_at_nanoseconds
            if container.state.running or (until and created >= until) or not filters.matches_labels(container.config.labels):
                continue
            if "label!" in filters and filters.matches_labels(container.config.labels, "label!"):
                continue
            try:
                size = (await self.sizes(container.id)).rw_bytes
                await self.remove(container.id, force=False, volumes=False, link=False)
            except (Conflict, NotFound):
                continue
            pruned.deleted.append(container.id)
            tell(container.id)
            pruned.reclaimed_bytes += size
        self._rooms.events.emit("container", "prune", "", {"reclaimed": str(pruned.reclaimed_bytes)})
        return pruned

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(
        self, ref: str, *, detach_keys: str = "", explain: bool = False, checkpoint: str = "", checkpoint_directory: str = ""
    ) -> Explanation:
        """Start a container, with a checkpoint's name from there. Raises NotModified when it runs, and what the runtime says when
        it cannot."""
        if detach_keys:
            parse_detach_keys(detach_keys)
        if checkpoint:
            checkpoints.check_name(checkpoint)
        elif checkpoint_directory:
            raise InvalidParameter("a checkpoint directory is given, and no checkpoint")
        container = self.get(ref)
        live = self._life.live(container)
        async with live.lock:
            await live.settled.wait()
            if self._rooms.table.find(container.id) is None:
                raise NotFound(f"No such container: {ref}")
            if container.state.paused:
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.state.status in LIVE:
                raise NotModified("container is already running")
            found = None
            if checkpoint:
                found = await in_thread(checkpoints.to_start, container, self._rooms, ref, checkpoint, checkpoint_directory)
            live.cancel_restart()
            container.restart_delay_seconds = 0.0
            container.restart_count = container.unhealthy_restarts = 0
            container.stopped_by_user = False
            return await self._life.begin(container, live, explain=explain, checkpoint=found)

    async def stop(self, ref: str, *, signal: str = "", timeout_seconds: int | None = None) -> None:
        """Ask a container to end, then make it. Raises NotModified when it does not run."""
        container = self.get(ref)
        number = request.parse_signal(signal) if signal else 0
        live = self._life.live(container)
        if await self._life.halted_restart(container, live):
            return
        if container.state.status not in LIVE:
            raise NotModified("container is already stopped")
        await self._life.end(container, live, number, timeout_seconds)  # without the lock: a second stop may be in more haste
        self._life.tell(container, "stop")

    async def restart(self, ref: str, *, signal: str = "", timeout_seconds: int | None = None) -> None:
        """Stop a container if it runs, and start it."""
        container = self.get(ref)
        number = request.parse_signal(signal) if signal else 0
        live = self._life.live(container)
        async with live.lock:
            live.cancel_restart()
            if container.state.status in LIVE:
                live.begins_again = True
                try:
                    await self._life.end(container, live, number, timeout_seconds)
                except BaseException:
                    self._life.give_up_restart(container, live)
                    raise
                finally:
                    live.begins_again = False
                self._life.tell(container, "stop")
            await live.settled.wait()
            if self._rooms.table.find(container.id) is None:
                raise NotFound(f"No such container: {ref}")
            container.stopped_by_user = False
            try:
                await self._life.begin(container, live)
            except CarrackError as error:  # of whatever kind, to Docker it is the system's
                raise SystemFailure(f"Cannot restart container {ref}: {error.message}") from error
        self._life.tell(container, "restart")

    async def kill(self, ref: str, signal: str) -> None:
        """Send a signal to the container's init. Raises Conflict when it does not run, InvalidParameter for the signal."""
        try:
            number = request.parse_signal(signal or "KILL")
        except InvalidParameter as error:
            raise InvalidParameter(f"cannot kill container: {ref}: {error.message}") from None
        container = self.get(ref)
        live = self._life.live(container)
        if number in (SIGKILL, stop_signal(container)) and await self._life.halted_restart(container, live):
            return
        if container.state.status not in LIVE or live.shim is None:
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        if number in (SIGKILL, stop_signal(container)):
            container.stopped_by_user = True
            self._rooms.table.save(container)
        if number == SIGKILL:
            await self._life.kill_now(container, live)
        else:
            await self._life.signal(container, live, number)

    async def pause(self, ref: str) -> None:
        """Freeze every process of a container. Raises Conflict."""
        container = self.get(ref)
        live = self._life.live(container)
        async with live.lock:
            if container.state.paused:
                raise Conflict(f"container {container.id} is already paused")
            if container.state.status is not Status.RUNNING:
                raise Conflict(f"container {container.id} is not running")
            async with live.doorway.closed():
                try:
                    await in_thread(self._life.cgroup(container).freeze)
                except FileNotFoundError:  # it has just ended
                    raise Conflict(f"container {container.id} is not running") from None
                await asyncio.wrap_future(self._life.become(container, Status.PAUSED))
        self._life.tell(container, "pause")

    async def unpause(self, ref: str) -> None:
        """Let the processes of a paused container go on. Raises Conflict."""
        container = self.get(ref)
        live = self._life.live(container)
        async with live.lock:
            if not container.state.paused:
                raise Conflict(f"Container {container.id} is not paused")
            await in_thread(self._life.cgroup(container).thaw)
            if container.state.paused:  # one that was killed while it stood still ends at this moment
                await asyncio.wrap_future(self._life.become(container, Status.RUNNING))
        self._life.tell(container, "unpause")

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the size of the container's terminal."""
        container = self.get(ref)
        shim = self._life.running_shim(container, f"container {container.id} is not running")
        if container.config.tty:
            await shim.order(lambda number: Resize(number, height, width))
        self._life.tell(container, "resize", {"height": str(height), "width": str(width)})

    async def update(self, ref: str, wanted: UpdateRequest) -> Texts:
        """Change limits and the restart policy. Raises InvalidParameter; nothing is changed then."""
        container = self.get(ref)
        live = self._life.live(container)
        async with live.lock:
            before = container.host_config
            changed, warnings = updating.changed(before, wanted, self._rooms.settings.machine)
            if container.state.status in LIVE:
                await in_thread(updating.apply, self._life.cgroup(container), before, changed)
            container.host_config = changed
            await asyncio.wrap_future(self._rooms.table.save(container, durable=True))
        self._life.tell(container, "update")
        return warnings

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def attach(self, ref: str, options: AttachOptions) -> Session:
        """A session on the container's streams; before the start, it waits for it."""
        container = self.get(ref)
        if container.state.paused:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        keys = parse_detach_keys(options.detach_keys)

        async def take(fd: int, head: bytes, eof: bool) -> None:
            def order(number: int) -> Attach:
                return Attach(
                    number,
                    stdin=options.stdin and container.config.open_stdin,
                    stdout=options.stdout,
                    stderr=options.stderr,
                    replay_logs=options.logs,
                    stream=options.stream,
                    detach_keys=keys,
                    head=head,
                    end_of_input=eof,
                )

            live = self._life.live(container)
            if live.shim is not None and container.state.running:
                await self._life.hand_on(live.shim, order, fd)
            elif options.stream:
                if options.logs:
                    await in_thread(logs.replay, container, fd, options)
                live.attached.append(HeldAttach(order(0), fd))
            else:
                try:
                    if options.logs:
                        await in_thread(logs.replay, container, fd, options)
                finally:
                    os.close(fd)
            self._life.tell(container, "attach")

        return HandedOn(RAW if container.config.tty else MULTIPLEXED, take)

    async def wait(self, ref: str, condition: WaitCondition) -> Session:
        """A session that tells the exit code when the condition holds."""
        container = self.get(ref)

        async def take(fd: int, head: bytes, eof: bool) -> None:
            live = self._life.live(container)
            over = self._rooms.table.find(container.id) is None
            if over or (condition is WaitCondition.NOT_RUNNING and not container.state.running):
                finish(fd, last_chunk(exit_document(container)))
            elif (
                live.shim is not None
                and container.state.status in LIVE
                and (condition is not WaitCondition.REMOVED or container.host_config.auto_remove)
            ):
                await self._wait_at_shim(container, live, condition, fd)
            else:
                live.waiting.append(HeldWait(condition, fd))

        return HandedOn("application/json", take, chunked=True)

    async def _wait_at_shim(self, container: Container, live: Live, condition: WaitCondition, fd: int) -> None:
        """Have the shim tell a client of the exit; do it ourselves where the shim leaves at this very moment."""
        assert live.shim is not None
        kept = os.dup(fd)
        try:
            await self._life.hand_on(live.shim, lambda number: Wait(number, condition.value), fd)
        except (CarrackError, OSError):
            gone = self._rooms.table.find(container.id) is None
            if gone or (condition is not WaitCondition.REMOVED and container.state.status not in LIVE):
                finish(kept, last_chunk(exit_document(container)))
            else:
                live.waiting.append(HeldWait(condition, kept))
        except BaseException:
            os.close(kept)
            raise
        else:
            os.close(kept)

    async def logs(self, ref: str, options: LogOptions) -> Session | AsyncIterator[bytes]:
        """What the container said: a session that follows, or the content as an iterator."""
        container = self.get(ref)
        if not options.stdout and not options.stderr:
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        if container.log_driver == "none":
            raise NotImplementedHere("configured logging driver does not support reading")
        live = self._life.live(container)
        shim = live.shim
        if options.follow and shim is not None and container.state.status in LIVE:
            return HandedOn(
                logs.content_type(container), lambda fd, head, eof: self._follow(container, shim, options, fd), chunked=True
            )
        if container.state.status in LIVE:
            await self._let_grow(container, live)
        return await logs.read(container, options)

    async def _follow(self, container: Container, shim: Shim, options: LogOptions, fd: int) -> None:
        """Have the shim write the log to a client; do it ourselves where the shim leaves at this very moment."""
        kept = os.dup(fd)
        try:
            await self._life.hand_on(shim, logs.follow_order(options), fd)
        except SupervisorGone:
            await logs.give_rest(container, options, kept)
        except BaseException:
            os.close(kept)
            raise
        else:
            os.close(kept)

    async def _let_grow(self, container: Container, live: Live) -> None:
        """Who starts a container and asks for its log in the next breath means what it says first; Docker's own start takes longer
        than that."""
        age_seconds = (time.time_ns() - container.state.started_at_nanoseconds) / 1e9
        if 0 <= age_seconds < YOUNG_SECONDS:
            try:
                await asyncio.wait_for(live.ended.wait(), YOUNG_SECONDS - age_seconds)
                await live.settled.wait()
            except TimeoutError:
                pass

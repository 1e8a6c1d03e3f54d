"""The first minutes of a daemon: find what an earlier one left running, judge what ended meanwhile, remove what nobody owns.

Containers come back from their shims (`shims/<id>.sock`), or from the exit that their shim wrote; with neither, as lost.
Only after that is anything that no record names removed: cgroups, sockets, directories. All conversations are held at once, and
nobody waits longer for one than PATIENCE_SECONDS: a supervisor that does not answer has not ended. Its container is left as it is,
and orders about its life wait, until it answers or is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path

from carrack.engine import checkpoints, image_mounts, launch, restart_policy
from carrack.engine.container import Container, PublishedPort
from carrack.engine.execs import Execs
from carrack.engine.exits import find_exit, read_exit
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.open_init import open_init
from carrack.engine.opening import Opening
from carrack.engine.shims import SupervisorGone, reconnect
from carrack.engine.state import LIVE, Status
from carrack.engine.threads import in_thread
from carrack.errors import CarrackError
from carrack.runtime import cgroups
from carrack.shim import foreign
from carrack.shim.messages import Abandon, ForeignRuntime

log = logging.getLogger("carrack.restore")
_ID = re.compile(r"[0-9a-f]{64}")
PATIENCE_SECONDS = 5.0


async def restore(life: Lifecycle, execs: Execs) -> None:
    """Bring every container's record in line with the world, then clear away what has no record."""
    restoring = {life.spawn(_restore_one(life, execs, container)): container for container in life.rooms.table}
    if restoring:
        done, waiting = await asyncio.wait(restoring, timeout=PATIENCE_SECONDS)
        for task in done:
            task.result()
        for task in waiting:
            log.warning("the supervisor of container %s does not answer: the container is left as it is", restoring[task].id[:12])
    await in_thread(_clear, life)


async def _restore_one(life: Lifecycle, execs: Execs, container: Container) -> None:
    async with life.live(container).lock:
        try:
            await _bring_in_line(life, execs, container)
        except (CarrackError, OSError) as error:
            log.error("container %s is left as it is: %s", container.id[:12], error)


async def _bring_in_line(life: Lifecycle, execs: Execs, container: Container) -> None:
    live = life.live(container)
    if container.unfinished_checkpoint:
        await _complete_checkpoint(life, container)
    status = container.state.status
    if status in LIVE:
        await _reunite(life, execs, container)
    elif status in (Status.REMOVING, Status.DEAD):
        container.state.status = Status.EXITED
        await life.take_away(container, live, volumes=container.host_config.auto_remove)
    elif status is Status.RESTARTING:
        await in_thread(life.clear_cgroup, container)
        life.restart_later(container, live)
    elif not await _was_started(life, execs, container):
        await in_thread(life.clear_cgroup, container)
        await in_thread(life.rooms.networks.release, container.id)
        if container.host_config.auto_remove and status is Status.EXITED:
            await life.take_away(container, live, volumes=True)
        elif status is Status.EXITED and restart_policy.begins_with_the_daemon(container):
            life.restart_soon(container, live)


async def _complete_checkpoint(life: Lifecycle, container: Container) -> None:
    try:
        await in_thread(checkpoints.complete, container)
    except (CarrackError, OSError) as error:
        log.warning("the unfinished checkpoint %s is left where it is: %s", container.unfinished_checkpoint, error)
    container.unfinished_checkpoint = ""
    await asyncio.wrap_future(life.rooms.table.save(container))


async def _was_started(life: Lifecycle, execs: Execs, container: Container) -> bool:
    """Whether a start that the earlier daemon did not live to record has succeeded: then the record learns of it."""
    live = life.live(container)
    opening = Opening()
    try:
        shim, status, fds = await reconnect(str(life.rooms.directories.shim_socket(container.id)), opening.report, opening.lose)
    except SupervisorGone:
        exited = find_exit(container)
        if exited is None or exited.finished_at_nanoseconds <= max(
            container.state.finished_at_nanoseconds, container.created_at_nanoseconds
        ):
            return False
        await in_thread(life.clear_cgroup, container)
        container.state.status = Status.RUNNING
        life.adopt(container, live, None, exited)
        return True
    init_fd = _keep_init(fds)
    if not status.started_at_nanoseconds:
        shim.tell(Abandon())
        shim.close()
        _close(init_fd)
        return False
    container.state.pid = status.pid
    container.state.started_at_nanoseconds = status.started_at_nanoseconds
    container.state.pipes = ()  # told with Started, to nobody
    container.state.status = Status.RUNNING
    for endpoint in life.rooms.networks.endpoints(container.id):
        launch.describe_endpoint(container, endpoint)
        container.ports += [PublishedPort(p.container_port, p.protocol, p.host_ip, p.host_port) for p in endpoint.publications]
    await asyncio.wrap_future(life.rooms.table.save(container))
    execs.adopt(container, status.execs)
    life.adopt(container, live, shim, status.exited, init_fd)
    opening.open(*life.callbacks(container))
    return True


async def _reunite(life: Lifecycle, execs: Execs, container: Container) -> None:
    live = life.live(container)
    path = str(life.rooms.directories.shim_socket(container.id))
    opening = Opening()
    live.ended.clear()
    if container.paused_by_commit or not container.state.paused:
        # Frozen by a commit that was cut off, or by a pause that nobody lived to record. Before anything is asked: its supervisor
        # may be waiting for a process that was frozen on its way in.
        await in_thread(_thaw, life, container)
    try:
        shim, status, fds = await reconnect(path, opening.report, opening.lose)
    except SupervisorGone as error:
        log.info("container %s ended while no daemon ran: %s", container.id[:12], error)
        await in_thread(life.clear_cgroup, container)
        life.adopt(container, live, None, read_exit(container))
        return
    init_fd = _keep_init(fds)
    if not status.started_at_nanoseconds and status.exited is None:
        shim.close()  # it never began: nobody will tell it to
        _close(init_fd)
        await in_thread(life.clear_cgroup, container)
        life.adopt(container, live, None, read_exit(container))
        return
    container.state.pid = status.pid
    if status.exited is None and (container.paused_by_commit or not container.state.paused):
        container.paused_by_commit = False
        if container.state.paused:
            life.become(container, Status.RUNNING)
    execs.adopt(container, status.execs)
    life.adopt(container, live, shim, status.exited, init_fd)
    opening.open(*life.callbacks(container))


def _thaw(life: Lifecycle, container: Container) -> None:
    cgroup = life.cgroup(container)
    try:
        if cgroup.frozen():
            cgroup.thaw()
    except FileNotFoundError:
        return  # it has ended meanwhile


def _keep_init(fds: list[int]) -> int:
    """The pidfd of a living init, the first that a Status brings; -1 when it has ended. The others are closed."""
    for fd in fds[1:]:
        os.close(fd)
    return fds[0] if fds else -1


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _clear(life: Lifecycle) -> None:
    """Remove directories, sockets, endpoints and uses of volumes that no record names. Blocking."""
    rooms = life.rooms
    known = {container.id for container in rooms.table}
    rooms.networks.reconcile(known, lambda container_id: open_init(rooms.table.get(container_id)))
    rooms.volumes.reconcile(known)
    containers = rooms.directories.data_root / "containers"
    for entry in _entries(containers):
        if image_mounts.owner_of(entry.name) not in known:
            log.info("removing %s, which no container owns", entry)
            rooms.snapshots.remove(entry.name)
            rooms.remove_tree(entry)
    for entry in _entries(rooms.directories.exec_root / "bundles"):
        if entry.name not in known:
            foreign.forget(ForeignRuntime("/bin/false", str(entry)), entry.name)
    if rooms.settings.cgroup_parent in ("/carrack", f"/carrack-{rooms.settings.instance}"):  # not one that others may share
        _clear_cgroups(rooms.settings.cgroup_parent, known)
    for entry in _entries(rooms.directories.exec_root / "shims"):
        if entry.name.removesuffix(".sock") not in known:
            entry.unlink(missing_ok=True)


def _clear_cgroups(parent: str, known: set[str]) -> None:
    """Remove the cgroups that whoever was killed left half made, or half removed. None that holds a process, nor another's."""
    for path in cgroups.idle_below(parent):
        name = os.path.basename(path)
        if _ID.fullmatch(name) and name not in known:
            log.info("removing %s, which no container owns", path)
            try:
                os.rmdir(path)
            except OSError as error:
                log.warning("cannot remove %s: %s", path, error.strerror)


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []

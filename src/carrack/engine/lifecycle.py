"""The life of containers: begin, end, what follows an end, and taking one away. Knows no API.

All of it runs on the event loop; blocking parts go through `in_thread`. Callers hold the container's `Live.lock`. An exit is worked
on without that lock (who stops a container holds it while waiting for the exit) and sets `settled` when everything that the exit
had to bring about is done: addresses and ports free, the record written, the container gone if it had to go, or its restart set.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future

import msgspec

from carrack.engine import cgroup_places, launch, restart_policy, specification
from carrack.engine.container import Container, Explanation, Step
from carrack.engine.container_events import tell_networks, tell_volumes
from carrack.engine.demolition import demolish
from carrack.engine.exits import exit_document, read_exit
from carrack.engine.launch import Launch
from carrack.engine.link_upkeep import tell_linking
from carrack.engine.live import Live
from carrack.engine.opening import Opening, StartError, Trace, failure_of
from carrack.engine.rooms import Rooms
from carrack.engine.shims import Numbered, Shim
from carrack.engine.state import LIVE, Status, follow
from carrack.engine.stopping import SIGKILL, stop_seconds, stop_signal
from carrack.engine.streams import WaitCondition, finish, last_chunk
from carrack.engine.threads import in_thread
from carrack.errors import CarrackError, Conflict, NotFound, SystemFailure, Unavailable
from carrack.runtime import cgroups
from carrack.shim.messages import (
    Abandon,
    Attach,
    Checkpoint,
    Detached,
    ExecExited,
    Exited,
    Forget,
    Go,
    OutOfMemory,
    Signal,
    Started,
    Wait,
)
from carrack.shim.messages import Created as InitCreated

log = logging.getLogger("carrack.lifecycle")

KILL_SECONDS = 10.0
START_SECONDS = 60.0
RESTORE_SECONDS = 600.0
"""The memory of a container may have to be read from the disk."""
WORKS_SECONDS = 10.0
"""How long a copy into a container that has ended may go on before a new start cuts it short."""


class Lifecycle:
    """What happens to the containers of one instance."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self._lives: dict[str, Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._going_down = False
        self.on_started: list[Callable[[Container, Live], None]] = []
        self.on_ended: list[Callable[[Container, Live], None]] = []
        self.on_exec_exited: Callable[[Container, ExecExited], None] = lambda container, message: None
        self.on_detached: Callable[[Container, str], None] = lambda container, exec_id: None

    # ── for everyone ───────────────────────────────────────────────────────────────────────────────────────────────────

    def live(self, container: Container) -> Live:
        """The perishable side of a container."""
        found = self._lives.get(container.id)
        if found is None:
            found = self._lives[container.id] = Live()
        return found

    def running_shim(self, container: Container, message: str) -> Shim:
        """The conversation with a running container's shim. Raises Conflict with the message."""
        live = self.live(container)
        if live.shim is None or container.state.status not in LIVE:
            raise Conflict(message)
        return live.shim

    def tell(self, container: Container, action: str, extra: dict[str, str] | None = None) -> None:
        """Emit an event about a container, with its image, name and labels as Docker does."""
        attributes = {**(container.config.labels or {}), "image": container.image_reference, "name": container.name}
        self.rooms.events.emit("container", action, container.id, attributes | (extra or {}))

    def become(self, container: Container, status: Status) -> Future[None]:
        """Move a container to another state and record it, as it stands. Raises Conflict when the table of states forbids it."""
        container.state.status = follow(container.state.status, status, container.id)
        return self.rooms.table.save(container)

    def cgroup(self, container: Container) -> cgroups.Cgroup:
        return cgroups.open(self.cgroup_path(container))

    def cgroup_path(self, container: Container) -> str:
        """Where a container's cgroup is, below the root of every hierarchy, whether or not it is there yet."""
        parent, slices = container.host_config.cgroup_parent or self.rooms.settings.cgroup_parent, self.rooms.settings.slices
        return container.cgroup or cgroup_places.place(container.id, parent, slices=slices is not None)

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run something beside, until it ends or the daemon closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def hand_on(self, shim: Shim, order: Callable[[int], Numbered], fd: int) -> None:
        """Give a client's connection to a shim."""
        try:
            await shim.order(order, (fd,))
        finally:
            os.close(fd)

    async def close(self) -> None:
        """Let go of every container; they run on."""
        for live in self._lives.values():
            live.cancel_restart()
            live.cancel_health()
            live.drop_init()
            if live.shim is not None:
                live.shim.close()
            live.drop_clients(live.attached, live.waiting)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── begin ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(
        self, container: Container, live: Live, *, explain: bool = False, checkpoint: Checkpoint | None = None
    ) -> Explanation:
        """Start a container, or have it go on from a checkpoint. On failure everything is undone, the record says why, and the
        error is raised.

        With `explain` the answer has the container's own steps too.
        """
        rooms = self.rooms
        opening = Opening()
        await live.without_works(WORKS_SECONDS)
        prepared: Launch | None = None
        shim: Shim | None = None
        try:
            trace = Trace()
            places = specification.Places("", namespace_of=self._init_pid)
            prepared = await in_thread(launch.prepare, container, rooms, places, checkpoint)
            trace.mark("addresses, ports, files")
            assert prepared.order is not None
            attached, waiting = list(live.attached), live.for_shim(auto_remove=container.host_config.auto_remove)
            order = launch.with_clients(prepared.order, attached, waiting)
            if explain:
                order = msgspec.structs.replace(order, trace=True)
            clients = [client.fd for client in attached] + [client.fd for client in waiting]
            shim = rooms.zygote.start(order, [*prepared.port_fds, *clients], opening.report, opening.lose)
            trace.mark("order")
            pid = await self._make_init(container, live, prepared, shim, trace)
            started = await self._answer(shim, Go(), START_SECONDS if checkpoint is None else RESTORE_SECONDS)
            trace.mark("go")
            if not isinstance(started, Started):
                raise failure_of(started)
        except BaseException as error:
            if shim is not None:
                if not shim.closed:
                    shim.tell(Abandon())
                shim.close()
            live.drop_init()
            if prepared is not None:
                await in_thread(launch.undo, container, rooms, prepared)
            await self._not_begun(container, live, error)
            raise
        if started.trace:
            steps = ", ".join(f"{step} {microseconds}" for step, microseconds in (*trace.steps, *started.trace))
            log.debug("start of %s, in microseconds: %s", container.id[:12], steps)
        await in_thread(launch.release, prepared) if prepared.scope is not None else launch.release(prepared)
        live.drop_clients(attached, waiting)
        live.shim = shim
        live.ended.clear()
        launch.describe_endpoints(container, rooms, prepared)
        recorded = self._record_begin(container, pid, started)
        self._tell_begin(container, live)
        self._hand_latecomers(container, live, shim)
        opening.open(lambda message: self._report(container, message), lambda: self._lost(container, live))
        await asyncio.wrap_future(recorded)
        trace.mark("record")
        return Explanation(
            container=container.id,
            steps=[
                *(Step("daemon", step, microseconds) for step, microseconds in trace.steps),
                *(Step("container", step, microseconds) for step, microseconds in started.trace),
            ],
            total_microseconds=sum(microseconds for _, microseconds in trace.steps),
        )

    def _record_begin(self, container: Container, pid: int, started: Started) -> Future[None]:
        state = container.state
        state.pid, state.exit_code, state.error, state.out_of_memory = pid, 0, "", False
        state.started_at_nanoseconds = started.started_at_nanoseconds
        state.pipes = started.pipes
        return self.become(container, Status.RUNNING)

    def _tell_begin(self, container: Container, live: Live) -> None:
        tell_volumes(container, "mount", self.rooms)
        tell_networks(container, "connect", self.rooms)
        self.tell(container, "start")
        for listener in self.on_started:
            listener(container, live)
        if any(container.id in other.links.values() for other in self.rooms.table):
            self.spawn(tell_linking(container, self.rooms))

    def _hand_latecomers(self, container: Container, live: Live, shim: Shim) -> None:
        """Give the shim those who attached or began to wait while it was starting."""
        waiting = live.for_shim(auto_remove=container.host_config.auto_remove)
        for client in live.attached:
            self.spawn(self.hand_on(shim, _numbered(client.order), client.fd))
        for waiter in waiting:
            self.spawn(self.hand_on(shim, _numbered(Wait(condition=waiter.condition.value)), waiter.fd))
        live.attached = []
        live.waiting = [waiter for waiter in live.waiting if waiter not in waiting]

    async def _make_init(self, container: Container, live: Live, prepared: Launch, shim: Shim, trace: Trace) -> int:
        """Wait for the namespaces and join them to the networks."""
        message, fds = await asyncio.wait_for(shim.expect_next(), START_SECONDS)
        trace.mark("namespaces")
        try:
            if not isinstance(message, InitCreated):
                raise failure_of(message)
            if launch.uses_own_network(container) and len(fds) > 1:
                await in_thread(launch.plug, self.rooms, prepared, fds[1], fds[0])
            live.hold_init(fds.pop(0))
            return message.pid
        finally:
            for fd in fds:
                os.close(fd)

    async def _answer(self, shim: Shim, order: Go, patience_seconds: float) -> object:
        answer = shim.expect_next()
        shim.tell(order)
        message, fds = await asyncio.wait_for(answer, patience_seconds)
        for fd in fds:
            os.close(fd)
        return message

    async def _not_begun(self, container: Container, live: Live, error: BaseException) -> None:
        """Record why a start failed; those who attached are sent away."""
        container.state.error = str(error)
        container.state.exit_code = error.exit_code if isinstance(error, StartError) else 128
        live.drop_attached()
        if container.state.status is Status.RESTARTING:
            container.state.status = Status.EXITED
        self.rooms.table.save(container)
        if container.host_config.auto_remove:
            await self.take_away(container, live, volumes=True)

    def _init_pid(self, ref: str) -> int:
        container = self.rooms.table.get(ref)
        return container.state.pid if container.state.status in LIVE else 0

    # ── end ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def end(self, container: Container, live: Live, signal: int = 0, timeout_seconds: int | None = None) -> None:
        """Ask a running container to end, wait, then make it; returns when all that follows is done."""
        container.stopped_by_user = True
        live.cancel_restart()
        self.rooms.table.save(container)
        await self._ask_to_end(container, live, signal, timeout_seconds)
        if not live.begins_again:
            self.give_up_restart(container, live)

    async def end_all(self) -> None:
        """End every container because the machine goes down: each by its own signal and time, all at once, and nothing begins any
        more. Nobody stopped them, so the next daemon begins again what its restart policy wants to run."""
        self._going_down = True
        await asyncio.gather(*(self._end_for_now(container) for container in self.rooms.table), return_exceptions=True)

    async def _end_for_now(self, container: Container) -> None:
        live = self.live(container)
        live.cancel_restart()
        async with live.lock:
            if container.state.status in LIVE and live.shim is not None:
                await self._ask_to_end(container, live, 0, None)

    async def _ask_to_end(self, container: Container, live: Live, signal: int, timeout_seconds: int | None) -> None:
        if timeout_seconds is None:
            timeout_seconds = stop_seconds(container)
        await self.signal(container, live, signal or stop_signal(container))
        try:
            await asyncio.wait_for(live.ended.wait(), None if timeout_seconds < 0 else timeout_seconds)
        except TimeoutError:
            await self.kill_now(container, live)
        await live.settled.wait()

    async def revive(self, container: Container, live: Live) -> None:
        """End a container that is unhealthy, as `stop` would; what follows its end begins it again, unless the user stops it."""
        container.reviving = True
        await asyncio.wrap_future(self.rooms.table.save(container))
        seconds = stop_seconds(container)
        try:
            await self.signal(container, live, stop_signal(container))
            await asyncio.wait_for(live.ended.wait(), None if seconds < 0 else seconds)
        except TimeoutError:
            await self.kill_now(container, live)
        except CarrackError:
            pass  # it has ended meanwhile

    async def signal(self, container: Container, live: Live, number: int, *, everyone: bool = False) -> None:
        """Send a signal to the container's init; a paused container is let go on to receive one that may end it."""
        if live.shim is None:
            if live.ended.is_set():
                return
            raise Unavailable("the container's supervisor does not answer")
        self.tell(container, "kill", {"signal": str(number)})
        try:
            await live.shim.order(lambda sequence: Signal(sequence, number, everyone=everyone))
        except (NotFound, Unavailable):
            if not live.ended.is_set():
                raise
            return
        if container.state.paused and (number in (SIGKILL, stop_signal(container)) or not container.config.stop_signal):
            await in_thread(self.cgroup(container).thaw)
            if container.state.paused:  # it may have ended while it was let go on
                self.become(container, Status.RUNNING)
                if number != SIGKILL:
                    self.tell(container, "unpause")

    async def kill_now(self, container: Container, live: Live) -> None:
        """End a container by force. Raises SystemFailure when the kernel does not let it end."""
        if not live.ended.is_set():
            await self.signal(container, live, SIGKILL, everyone=True)
        try:
            await asyncio.wait_for(live.ended.wait(), KILL_SECONDS)
        except TimeoutError:
            raise SystemFailure(f"tried to kill container {container.id}, but did not receive an exit event") from None
        await live.settled.wait()
        if container.stopped_by_user:
            self.give_up_restart(container, live)

    async def halted_restart(self, container: Container, live: Live) -> bool:
        """Stop a container between two tries of its restart policy. False when it is not between them: a try that is under way
        is let begin first, for then it can be ended."""
        if container.state.status is not Status.RESTARTING:
            return False
        async with live.lock:
            return self.give_up_restart(container, live)

    def give_up_restart(self, container: Container, live: Live) -> bool:
        """Leave a container ended that is between two lives. False when it is not."""
        if container.state.status is not Status.RESTARTING:
            return False
        container.stopped_by_user = True
        live.cancel_restart()
        self.become(container, Status.EXITED)
        self._answer_waiting(container, live, lambda condition: condition is not WaitCondition.REMOVED)
        return True

    async def take_away(self, container: Container, live: Live, *, volumes: bool) -> None:
        """Remove a container that has no process: layer, directory, anonymous volumes if asked, record; answer those who wait.

        One that cannot be removed is dead, until another removal (or the next daemon's) succeeds; those who wait are answered.
        """
        container.state.status = follow(container.state.status, Status.REMOVING, container.id)
        await live.without_works(0)
        try:
            await in_thread(lambda: demolish(container, self.rooms, volumes=volumes))
        except CarrackError as error:
            container.state.error = str(error)
            self.become(container, Status.DEAD)
            self._part(container, live, Forget(removed=True))
            raise
        for other in self.rooms.table:
            if container.id in other.links.values():
                other.links = {alias: identity for alias, identity in other.links.items() if identity != container.id}
                self.rooms.table.save(other)
        await asyncio.wrap_future(self.rooms.table.remove(container))
        live.drop_attached()
        self._part(container, live, Forget(removed=True))
        self._lives.pop(container.id, None)
        self.tell(container, "destroy")

    def _part(self, container: Container, live: Live, order: Forget) -> None:
        """Let the shim go, which answers those who wait with it; of those who wait with us, all when the container is removed."""
        if order.removed:
            self._answer_waiting(container, live, lambda condition: True)
        if live.shim is not None:
            live.shim.dismiss(order)
            live.shim = None

    # ── what shims tell ────────────────────────────────────────────────────────────────────────────────────────────────

    def adopt(self, container: Container, live: Live, shim: Shim | None, exited: Exited | None, init_fd: int = -1) -> None:
        """Take a container over from an earlier daemon: with its shim (and init's pidfd), or with how it ended, or both."""
        live.shim = shim
        live.hold_init(init_fd)
        if exited is not None:
            self._report(container, exited)
        else:
            live.ended.clear()
            for listener in self.on_started:
                listener(container, live)

    def callbacks(self, container: Container) -> tuple[Callable[[object], None], Callable[[], None]]:
        """What a conversation that is taken over calls."""
        return (lambda message: self._report(container, message)), (lambda: self._lost(container, self.live(container)))

    def _report(self, container: Container, message: object) -> None:
        live = self.live(container)
        if isinstance(message, Exited):
            live.ended.set()
            live.settled.clear()
            self.spawn(self._settle(container, live, message))
        elif isinstance(message, ExecExited):
            self.on_exec_exited(container, message)
        elif isinstance(message, Detached):
            self.on_detached(container, message.exec_id)
        elif isinstance(message, OutOfMemory):
            container.state.out_of_memory = True
            self.tell(container, "oom")

    def _lost(self, container: Container, live: Live) -> None:
        """The shim is gone without a word: the container died with it (law 5)."""
        live.shim = None
        if container.state.status in LIVE and not live.ended.is_set():
            live.ended.set()
            live.settled.clear()
            self.spawn(self._settle_lost(container, live))

    async def _settle_lost(self, container: Container, live: Live) -> None:
        await in_thread(self.clear_cgroup, container)
        await self._settle(container, live, read_exit(container))

    def clear_cgroup(self, container: Container) -> None:
        """Of a container without a supervisor: kill what is left, and remove its cgroup, its socket and what another runtime keeps.
        Blocking."""
        group = self.cgroup(container)
        group.kill()
        launch.forget_foreign(container, self.rooms)
        self.rooms.directories.shim_socket(container.id).unlink(missing_ok=True)
        group.remove()

    async def _settle(self, container: Container, live: Live, exited: Exited) -> None:
        """Bring about everything that follows an end."""
        live.drop_init()
        try:
            state = container.state
            ran_nanoseconds = exited.finished_at_nanoseconds - state.started_at_nanoseconds
            live.cancel_health()
            state.pid = 0
            state.exit_code, state.error = exited.exit_code, exited.error
            state.out_of_memory = exited.out_of_memory or state.out_of_memory
            state.finished_at_nanoseconds = exited.finished_at_nanoseconds
            again = restart_policy.wants(container) or (container.reviving and not container.stopped_by_user)
            again = again and not self._going_down
            container.reviving = False
            for listener in self.on_ended:
                listener(container, live)
            await self._leave_networks(container)
            tell_volumes(container, "unmount", self.rooms)
            launch.clear_endpoints(container)
            # Who hears of the death asks at once what became of it (Compose does): the state is there before the event.
            death = {"execDuration": str(ran_nanoseconds // 10**9), "exitCode": str(exited.exit_code)}
            if container.host_config.auto_remove and not again and not live.begins_again:
                container.state.status = follow(state.status, Status.EXITED, container.id)
                self.tell(container, "die", death)
                try:
                    await self.take_away(container, live, volumes=True)
                except CarrackError as error:  # it is dead, and says why
                    log.error("container %s cannot be removed: %s", container.id[:12], error)
                return
            if again:
                restart_policy.plan(container, ran_nanoseconds / 1e9)
            if live.begins_again:
                container.stopped_by_user = False  # of a daemon that dies now the next one completes the restart
            await asyncio.wrap_future(self.become(container, Status.RESTARTING if again or live.begins_again else Status.EXITED))
            self.tell(container, "die", death)
            self._part(container, live, Forget())
            if again:
                self.restart_later(container, live)
        finally:
            live.settled.set()

    async def _leave_networks(self, container: Container) -> None:
        """Give addresses and ports back. What the kernel does not let go must not keep the end from being recorded; the next daemon
        finds it."""
        try:
            await in_thread(self.rooms.networks.release, container.id)
        except (CarrackError, OSError) as error:
            log.error("container %s has ended, and not left its networks: %s", container.id[:12], error)
        tell_networks(container, "disconnect", self.rooms)

    def restart_later(self, container: Container, live: Live) -> None:
        """Begin a container again when that is due, be it that an earlier daemon planned it."""
        live.restart = self.spawn(self._restart(container, live, restart_policy.remaining_seconds(container)))

    async def _restart(self, container: Container, live: Live, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        async with live.lock:
            if container.state.status is not Status.RESTARTING or container.stopped_by_user:
                return
            live.restart = None
            container.restart_at_nanoseconds = 0
            container.restart_count += 1
            try:
                await self.begin(container, live)
            except CarrackError:
                pass  # recorded in the container's state, as dockerd does; the policy ends here

    def restart_soon(self, container: Container, live: Live) -> None:
        """Begin a container again that its policy wants to run; for the daemon's own start."""
        container.stopped_by_user = False  # `always` does not mind
        container.state.status = Status.RESTARTING
        live.restart = self.spawn(self._restart(container, live, 0.0))

    def _answer_waiting(self, container: Container, live: Live, suits: Callable[[WaitCondition], bool]) -> None:
        for fd in live.take_waiting(suits):
            finish(fd, last_chunk(exit_document(container)))


def _numbered(order: Attach | Wait) -> Callable[[int], Attach | Wait]:
    return lambda number: msgspec.structs.replace(order, sequence=number)

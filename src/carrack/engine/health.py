"""Health checks: an exec at intervals, judged as Docker judges it; and, beyond Docker, a restart for what stays unhealthy.

starting ──success──▶ healthy ──`retries` failures in a row──▶ unhealthy ──success──▶ healthy. Failures within the start period
do not count until the first success.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

from carrack.engine import names
from carrack.engine.config import ExecConfig
from carrack.engine.container import Container, ExecSession, HealthResult, HealthState
from carrack.engine.execs import Execs
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.live import Live
from carrack.engine.state import Status
from carrack.engine.stopping import SIGKILL
from carrack.engine.streams import ExecStartOptions
from carrack.errors import CarrackError, InvalidParameter
from carrack.oci.image_config import Healthcheck
from carrack.shim.messages import Signal

INTERVAL_SECONDS, TIMEOUT_SECONDS, START_INTERVAL_SECONDS, RETRIES = 30.0, 30.0, 5.0, 3
OUTPUT_LIMIT_BYTES = 4096
KEPT_RESULTS = 5
RESTART_LABEL = "carrack.restart-on-unhealthy"
"""Beyond Docker: what it holds is added to any restart policy, so that Compose files can ask for it."""


class Health:
    """The probes of every running container that has a check."""

    def __init__(self, lifecycle: Lifecycle, execs: Execs) -> None:
        self._life = lifecycle
        self._execs = execs
        lifecycle.on_started.append(self._begin)

    def _begin(self, container: Container, live: Live) -> None:
        check = container.config.healthcheck
        command = command_of(check, container.config.shell)
        if check is None or not command:
            container.state.health = None
            return
        container.state.health = HealthState()
        live.cancel_health()
        live.health = self._life.spawn(self._probe(container, live, check, command))

    async def _probe(self, container: Container, live: Live, check: Healthcheck, command: list[str]) -> None:
        loop = asyncio.get_running_loop()
        interval = check.interval / 1e9 or INTERVAL_SECONDS
        start_period = check.start_period / 1e9
        start_interval = check.start_interval / 1e9 or START_INTERVAL_SECONDS
        begun = loop.time()
        while container.state.status in (Status.RUNNING, Status.PAUSED):
            health = container.state.health
            starting = health is not None and health.status == "starting" and loop.time() - begun < start_period
            await asyncio.sleep(min(start_interval, interval) if starting else interval)
            if container.state.paused:
                continue
            result = await self._run(container, command, check.timeout / 1e9 or TIMEOUT_SECONDS)
            if container.state.status is Status.RUNNING and result is not None:
                in_start_period = loop.time() - begun < start_period
                self._judge(container, live, result, check.retries or RETRIES, in_start_period)

    async def _run(self, container: Container, command: list[str], timeout_seconds: float) -> HealthResult | None:
        """One run; None when the container has ended meanwhile."""
        session = ExecSession(names.new_id(), container.id, ExecConfig(cmd=command, attach_stdout=True, attach_stderr=True))
        start = _now()
        try:
            async with asyncio.timeout(timeout_seconds):
                output, code = await self._execute(container, session)
        except TimeoutError:
            await self._kill(container, session)
            return HealthResult(start, _now(), -1, f"Health check exceeded timeout ({timeout_seconds:g}s)")
        except (CarrackError, OSError) as error:  # of the engine's side: the next probe may find it mended
            return HealthResult(start, _now(), -1, str(error)) if container.state.status is Status.RUNNING else None
        finally:
            self._execs.forget(session)
        return HealthResult(start, _now(), code, output)

    async def _execute(self, container: Container, session: ExecSession) -> tuple[str, int]:
        """What a probe says, and its exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
            try:
                theirs.setblocking(False)
                await self._execs.run_quietly(container, session, ExecStartOptions(), (theirs.fileno(), b"", True))
                theirs.close()  # the shim has its own, whose end is the end of the output
                return await _read_frames(reader), await self._execs.ended(session)
            finally:
                writer.close()

    async def _kill(self, container: Container, session: ExecSession) -> None:
        shim = self._life.live(container).shim
        if shim is not None:
            try:
                await shim.order(lambda number: Signal(number, SIGKILL, session.id))
            except CarrackError:
                pass  # it ended at the same moment

    def _judge(self, container: Container, live: Live, result: HealthResult, retries: int, in_start_period: bool) -> None:
        health = container.state.health
        if health is None:
            return
        before = health.status
        health.log = [*health.log, result][-KEPT_RESULTS:]
        if result.exit_code == 0:
            health.failing_streak, health.status = 0, "healthy"
        elif not (before == "starting" and in_start_period):
            health.failing_streak += 1
            if health.failing_streak >= retries:
                health.status = "unhealthy"
        self._life.rooms.table.save(container)
        if health.status == "healthy":
            container.unhealthy_restarts = 0
        if health.status != before:
            self._life.tell(container, f"health_status: {health.status}")
            if health.status == "unhealthy" and container.unhealthy_restarts < self._restarts_of(container):
                container.unhealthy_restarts += 1
                self._life.spawn(self._life.revive(container, live))

    def _restarts_of(self, container: Container) -> int:
        """How many restarts in a row an unhealthy container gets: its label's number, else the daemon's."""
        own = restarts_wanted(container.config.labels or {})
        return self._life.rooms.settings.restart_on_unhealthy if own is None else own


def restarts_wanted(labels: Mapping[str, str]) -> int | None:
    """The number in a container's label; None without one. Raises InvalidParameter."""
    text = labels.get(RESTART_LABEL)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InvalidParameter(f"invalid label {RESTART_LABEL}={text}: want how many restarts in a row an unhealthy container gets")
    return int(text)


def command_of(check: Healthcheck | None, shell: list[str] | None) -> list[str]:
    """What a probe executes; empty when there is none."""
    if check is None or not check.test or check.test[0] in ("", "NONE"):
        return []
    if check.test[0] == "CMD":
        return check.test[1:]
    return [*(shell or ["/bin/sh", "-c"]), *check.test[1:2]]


async def _read_frames(reader: asyncio.StreamReader) -> str:
    """The output of both streams up to the limit; the rest is read and dropped."""
    kept = bytearray()
    try:
        while True:
            header = await reader.readexactly(8)
            content = await reader.readexactly(int.from_bytes(header[4:8], "big"))
            kept += content[: OUTPUT_LIMIT_BYTES - len(kept)]
    except asyncio.IncompleteReadError:
        return kept.decode(errors="replace")


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")

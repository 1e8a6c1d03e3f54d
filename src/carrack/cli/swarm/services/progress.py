"""Waiting for a service's tasks: how far they are, as progress messages, until they have run without failure for a while."""

from __future__ import annotations

import time

from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from carrack.cli.session import Session

    Document = dict[str, Any]

_POLL_SECONDS = 0.2
_MONITOR_SECONDS = 5.0
_STATES = {
    state: number
    for number, state in enumerate(
        ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running", "complete"), 1
    )
}
_ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")
_LONGEST = max(len(state) for state in _STATES)


def wait_on_service(session: Session, identity: str, *, quiet: bool) -> None:
    """Shows how a service's tasks come up, until they have. Ctrl-c ends the waiting, not the service. Raises CommandFailure."""
    from carrack.cli.images.transfer import show_progress

    session.out.flush()
    try:
        show_progress(_messages(session, identity), None if quiet else session.out)
    except KeyboardInterrupt:
        session.out.line("Operation continuing in background.")
        session.out.line(f"Use `carrack service ps {identity}` to check progress.")


def _messages(session: Session, identity: str) -> Iterator[Document]:
    converged_at = 0.0
    converged, rolled_back = False, False
    said = ""
    first = True
    while True:
        service = session.engine.json("GET", f"/services/{percent_encode(identity)}", {"insertDefaults": "false"})
        spec, status = service["Spec"], service.get("UpdateStatus") or {}
        monitor = _monitor_seconds(spec, rolled_back=rolled_back)
        state, reason = str(status.get("State") or ""), str(status.get("Message") or "")
        if state == "completed" and converged and time.monotonic() - converged_at >= monitor:
            yield _verified(identity)
            return
        if state == "paused":
            raise CommandFailure(f"service update paused: {reason}")
        if state == "rollback_paused":
            raise CommandFailure(f"service rollback paused: {reason}")
        if state == "rollback_started" and said != state:
            said, rolled_back = state, True
            yield {"id": "rollback", "status": reason}
        if state == "rollback_completed":
            if not converged:
                yield {"id": "rollback", "status": reason}
                raise CommandFailure(f"service rolled back: {reason}")
            rolled_back = True
        if converged and time.monotonic() - converged_at >= monitor:
            yield _verified(identity)
            if rolled_back:
                yield {"id": "rollback", "status": reason}
            return
        tasks = session.engine.json("GET", "/tasks", filters_query({"service": [service["ID"]], "_up-to-date": ["true"]})) or []
        nodes = session.engine.json("GET", "/nodes") or []
        view = _Job(spec, tasks) if _is_job(spec) else _Running(spec, tasks, nodes)
        if first:
            first = False
            yield from view.opening(rolled_back=rolled_back)
        if not converged or not view.done:
            yield from view.progress(rolled_back=rolled_back)
        if view.done and isinstance(view, _Job):
            yield {"status": "job complete"}
            return
        if view.done and not converged:
            converged, converged_at = True, time.monotonic()
        elif not view.done:
            converged = False
        if converged:
            left = monitor - (time.monotonic() - converged_at)
            if left > 0:
                seconds = max(int(left + 0.999), 1)
                yield {"id": "verify", "status": f"Waiting {seconds} seconds to verify that tasks are stable..."}
        time.sleep(_POLL_SECONDS)


def _verified(identity: str) -> Document:
    return {"id": "verify", "status": f"Service {identity} converged"}


def _monitor_seconds(spec: Document, *, rolled_back: bool) -> float:
    config = spec.get("RollbackConfig" if rolled_back else "UpdateConfig") or {}
    return config["Monitor"] / 10**9 if config.get("Monitor") else _MONITOR_SECONDS


def _is_job(spec: Document) -> bool:
    mode = spec.get("Mode") or {}
    return "ReplicatedJob" in mode or "GlobalJob" in mode


def _rank(task: Document) -> int:
    """How much a task tells of its slot: one that is to go on running tells more than one that has ended."""
    return 0 if task.get("DesiredState") in _ENDED or task.get("DesiredState") == "shutdown" else 1


class _Running:
    """A service whose tasks are to go on running."""

    def __init__(self, spec: Document, tasks: list[Document], nodes: list[Document]) -> None:
        replicated = (spec.get("Mode") or {}).get("Replicated")
        up = {node["ID"] for node in nodes if (node.get("Status") or {}).get("State") != "down"}
        self._slots: dict[str, Document] = {}
        for task in sorted(tasks, key=lambda task: (_rank(task), str(task.get("CreatedAt") or ""))):
            if task.get("NodeID") and task["NodeID"] not in up:
                continue
            slot = str(task.get("Slot") or 0) if replicated is not None else str(task.get("NodeID") or "")
            self._slots[slot] = task
        if replicated is not None:
            count = replicated.get("Replicas")
            self.total = 1 if count is None else int(count)
            self._order = [str(number) for number in range(1, self.total + 1)]
        else:
            self._order = sorted(self._slots)
            self.total = len(self._order)
        self._replicated = replicated is not None
        running = [slot for slot in self._order if self._state(slot) == "running"]
        self._running = len(running)
        self.done = self._running >= self.total and (self._replicated or self.total > 0)

    def _state(self, slot: str) -> str:
        return str(((self._slots.get(slot) or {}).get("Status") or {}).get("State") or "")

    def _overall(self, rolled_back: bool) -> Document:
        prefix = "rolling back update: " if rolled_back else ""
        return {"id": "overall progress", "status": f"{prefix}{self._running} out of {self.total} tasks"}

    def opening(self, *, rolled_back: bool) -> Iterator[Document]:
        """The lines that later messages fill."""
        yield {**self._overall(rolled_back), "progressDetail": {}}
        if self._replicated and self.total <= 20:
            for slot in self._order:
                yield {"id": f"{slot}/{self.total}", "status": " ", "progressDetail": {}}

    def progress(self, *, rolled_back: bool) -> Iterator[Document]:
        """How far each task is."""
        for slot in self._order if self.total <= 20 else ():
            task = self._slots.get(slot)
            if task is None:
                continue
            state = self._state(slot)
            failure = str((task.get("Status") or {}).get("Err") or "")
            name = f"{slot}/{self.total}" if self._replicated else slot[:12]
            detail = {"current": min(_STATES.get(state, 0), 9), "total": 9, "hidecounts": True}
            yield {"id": name, "status": failure[:75] if failure else state.ljust(_LONGEST), "progressDetail": detail}
        yield {**self._overall(rolled_back), "progressDetail": {}}


class _Job:
    """A job, whose tasks are to end well."""

    def __init__(self, spec: Document, tasks: list[Document]) -> None:
        mode = spec["Mode"]
        states = [str((task.get("Status") or {}).get("State") or "") for task in tasks]
        if "ReplicatedJob" in mode:
            total = (mode["ReplicatedJob"] or {}).get("TotalCompletions")
            self.total = 1 if total is None else int(total)
            self._most = int((mode["ReplicatedJob"] or {}).get("MaxConcurrent") or self.total)
        else:
            self.total = len(tasks)
            self._most = self.total
        self._complete = states.count("complete")
        self._active = len([state for state in states if state in _STATES and state != "complete"])
        self.done = self.total > 0 and self._complete >= self.total

    def opening(self, *, rolled_back: bool) -> Iterator[Document]:
        """Nothing: the first progress says it."""
        yield from ()

    def progress(self, *, rolled_back: bool) -> Iterator[Document]:
        """How many have ended well."""
        yield {"id": "job progress", "status": f"{self._complete} out of {self.total} complete", "progressDetail": {}}
        active = min(self._most, self.total - self._complete)
        yield {"id": "active tasks", "status": f"{self._active} out of {active} tasks", "progressDetail": {}}

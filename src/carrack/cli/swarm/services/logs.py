"""`service logs`: the logs of a service's tasks, each line with the task and the node it came from."""

from __future__ import annotations

from carrack.cli.console import write_all
from carrack.cli.containers.logs import print_stream
from carrack.cli.failure import CommandFailure
from carrack.cli.swarm.tasks import Names
from carrack.cli.times import api_timestamp
from carrack.client.failure import ApiNotFound
from carrack.client.frames import STDERR, SYSTEM_ERROR, FrameReader
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_PREFIX = "com.docker.swarm."


def show_logs(session: Session, parsed: Parsed) -> None:
    """Prints the logs of a service, or of one task. Raises CommandFailure."""
    name = parsed.arguments[0]
    raw = parsed.flag("raw")
    query = {"stdout": "1", "stderr": "1", "tail": parsed.text("tail")}
    if parsed.text("since"):
        try:
            query["since"] = api_timestamp(parsed.text("since"))
        except ValueError as error:
            raise CommandFailure(f'invalid value for "since": {error}') from None
    for flag in ("follow", "timestamps"):
        if parsed.flag(flag):
            query[flag] = "1"
    if parsed.flag("details") or not raw:
        query["details"] = "1"  # they say which task a line is of
    path, tty, slots = _target(session, name)
    if tty and not raw:
        raise CommandFailure("tty service logs only supported with --raw")
    with session.engine.request("GET", path, query) as response:
        if raw:
            print_stream(response, framed=not tty)
        else:
            _print_lines(session, parsed, response.body, width=len(str(slots)) if slots else 0)


def _target(session: Session, name: str) -> tuple[str, bool, int]:
    """(the path of the logs, whether there is a terminal, how many slots there are). Raises CommandFailure."""
    place = percent_encode(name)
    try:
        service = session.engine.json("GET", f"/services/{place}", {"insertDefaults": "false"})
    except ApiNotFound:
        pass
    else:
        spec = service["Spec"]
        tty = bool((spec["TaskTemplate"].get("ContainerSpec") or {}).get("TTY"))
        replicas = ((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas") or 0
        return f"/services/{place}/logs", tty, int(replicas)
    try:
        task = session.engine.json("GET", f"/tasks/{place}")
    except ApiNotFound:
        raise CommandFailure(f"no such task or service: {name}") from None
    return f"/tasks/{place}/logs", bool((task["Spec"].get("ContainerSpec") or {}).get("TTY")), 0


def _print_lines(session: Session, parsed: Parsed, body: Any, *, width: int) -> None:
    source = _Source(session, parsed, width)
    waiting: dict[int, bytes] = {}
    frames = FrameReader()
    for data in body:
        for stream, piece in frames.feed(data):
            if stream == SYSTEM_ERROR:
                raise CommandFailure(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
            *lines, waiting[stream] = (waiting.get(stream, b"") + piece).split(b"\n")
            for line in lines:
                write_all(2 if stream == STDERR else 1, source.label(line) + b"\n")
    for stream, rest in waiting.items():
        if rest:
            write_all(2 if stream == STDERR else 1, source.label(rest))


class _Source:
    """Puts names in front of lines. A line comes as `[time ]details text`, the details being comma-separated pairs."""

    def __init__(self, session: Session, parsed: Parsed, width: int) -> None:
        self._session = session
        self._names = Names(session, resolve=not parsed.flag("no-resolve"))
        self._tasks: dict[str, str] = {}
        self._width = width
        self._stamped = parsed.flag("timestamps")
        self._details = parsed.flag("details")
        self._with_ids = not parsed.flag("no-task-ids")
        self._truncate = not parsed.flag("no-trunc")

    def label(self, line: bytes) -> bytes:
        stamp = b""
        if self._stamped:
            stamp, _, line = line.partition(b" ")
            stamp += b" "
        details, _, text = line.partition(b" ")
        pairs = dict([pair.partition("=")[::2] for pair in details.decode("utf-8", "replace").split(",")])
        if f"{_PREFIX}task.id" not in pairs:
            raise CommandFailure(f"invalid context in log message: {details.decode('utf-8', 'replace')}")
        others = ",".join([f"{key}={value}" for key, value in sorted(pairs.items()) if not key.startswith(_PREFIX)])
        shown = f"{others} ".encode() if self._details else b""
        name = self._task(pairs[f"{_PREFIX}task.id"], pairs.get(f"{_PREFIX}service.id", ""), pairs.get(f"{_PREFIX}node.id", ""))
        return stamp + name.encode() + b"    | " + shown + text

    def _task(self, task_id: str, service_id: str, node_id: str) -> str:
        if task_id not in self._tasks:
            slot = self._session.engine.json("GET", f"/tasks/{percent_encode(task_id)}").get("Slot") or node_id
            name = f"{self._names.service(service_id)}.{slot}"
            if self._with_ids:
                name += f".{task_id[:12] if self._truncate else task_id}"
            padding = " " * max(self._width - len(str(slot)), 0)
            self._tasks[task_id] = f"{name}@{self._names.node(node_id)}{padding}"
        return self._tasks[task_id]

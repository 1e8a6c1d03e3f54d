"""What a build looks like: parallel steps with their times redrawn on a terminal, lines elsewhere, or events for programs.

Every display takes the daemon's events (`POST /build` with `progress=events`) one by one. The forms are BuildKit's, which people
and the programs that read CI logs know.
"""

from __future__ import annotations

import time

from carrack.cli.render.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.console import Output

_NANOSECOND = 10**9
_LOG_LINES = 6
_REDRAW_SECONDS = 0.1
_PATIENCE_SECONDS = 0.3
_ERROR_LINES = 10


class Vertex:
    """One step as far as it has been told."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.started = 0
        self.completed = 0
        self.cached = False
        self.error = ""
        self.tail: list[str] = []
        """The last lines of its output, for the terminal and for the report of a failure."""
        self.partial = ""
        self.statuses: dict[str, str] = {}

    def seconds(self, now: int) -> float:
        """How long it has taken so far."""
        return max(0, (self.completed or now) - self.started) / _NANOSECOND if self.started else 0.0

    def take_lines(self, data: str) -> list[str]:
        """The whole lines in a piece of output; a rest waits for the next."""
        *lines, self.partial = (self.partial + data).split("\n")
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        self.tail = [*self.tail, *lines][-50:]
        return lines


class BuildState:
    """Everything that a build has told."""

    def __init__(self) -> None:
        self.vertices: dict[str, Vertex] = {}
        self.warnings: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {}
        self.built: dict[str, Any] = {}
        self.failed: dict[str, Any] = {}
        self.begun = time.time_ns()

    def take(self, event: dict[str, Any]) -> Vertex | None:
        """Note an event; the step it is about."""
        kind = event.get("event")
        if kind == "warning":
            self.warnings.append(event)
        elif kind == "built":
            self.built = event
        elif kind == "answer":
            self.answer = event.get("document") or {}
        elif kind == "failed":
            self.failed = event
        identity = event.get("vertex", "")
        if kind == "started" and identity not in self.vertices and event.get("name"):
            self.vertices[identity] = Vertex(len(self.vertices) + 1, event.get("name", ""))
        vertex = self.vertices.get(identity)
        if vertex is None:
            return None
        if kind == "started":
            vertex.started = event.get("started_nanoseconds", 0)
        elif kind == "completed":
            vertex.completed = event.get("completed_nanoseconds", 0) or time.time_ns()
            vertex.cached = bool(event.get("cached"))
            vertex.error = event.get("error", "")
        elif kind == "status":
            vertex.statuses[event.get("id", "")] = status_text(event)
        return vertex


def status_text(event: dict[str, Any]) -> str:
    """``text 3.1MB / 7.6MB``, with ``done`` at the end of it."""
    current, total = event.get("current", 0), event.get("total", 0)
    text = event.get("text") or event.get("id") or ""
    amount = f" {human_size(current)} / {human_size(total)}" if total else (f" {human_size(current)}" if current else "")
    return f"{text}{amount}{' done' if event.get('completed') else ''}"


def text_of(event: dict[str, Any]) -> str:
    """The output that a log event carries; bytes that are no UTF-8 are shown as such."""
    from binascii import a2b_base64

    return a2b_base64(event.get("data", "")).decode("utf-8", "replace")


class PlainDisplay:
    """One line per thing that happens, as CI logs want it: ``#3 0.214 output``.

    The name of a step comes with its first line, or when it has been at work for a while: what ends at once stands together.
    """

    redraw_seconds: float | None = _PATIENCE_SECONDS

    def __init__(self, out: Output, *, explains: bool = False) -> None:
        self._out = out
        self._explains = explains
        self._last = 0
        self._named: set[int] = set()

    def show(self, state: BuildState, event: dict[str, Any]) -> None:
        """Take an event into the state, and write the lines that it is worth."""
        vertex = state.take(event)
        match event.get("event"):
            case "completed" if vertex is not None:
                if vertex.partial:
                    self._line(vertex, f"{vertex.seconds(time.time_ns()):.3f} {vertex.partial}")
                if vertex.error:
                    self._line(vertex, f"ERROR: {vertex.error}")
                elif vertex.cached:
                    self._line(vertex, "CACHED")
                else:
                    self._line(vertex, f"DONE {vertex.seconds(0):.1f}s")
            case "log" if vertex is not None:
                moment = event.get("moment_nanoseconds", 0)
                seconds = (
                    max(0, moment - vertex.started) / _NANOSECOND if moment and vertex.started else vertex.seconds(time.time_ns())
                )
                for line in vertex.take_lines(text_of(event)):
                    self._line(vertex, f"{seconds:.3f} {line}")
            case "status" if vertex is not None and event.get("completed"):
                self._line(vertex, status_text(event))
            case "miss" if vertex is not None and self._explains:
                self._line(vertex, f"not from the cache: {event.get('reason', '')}")
            case "told":
                self._out.line(event.get("text", ""))

    def tick(self, state: BuildState) -> None:
        """Name the steps that have been at work for a while without a word."""
        now = time.time_ns()
        for vertex in state.vertices.values():
            if vertex.number not in self._named and vertex.seconds(now) >= _PATIENCE_SECONDS:
                self._name(vertex)

    def end(self, state: BuildState) -> None:
        """The last words, after a failure the step's output again."""
        show_failure(self._out, state)
        show_warnings(self._out, state)
        self._out.flush()

    def _name(self, vertex: Vertex) -> None:
        self._named.add(vertex.number)
        self._line(vertex, vertex.name)

    def _line(self, vertex: Vertex, text: str) -> None:
        if vertex.number not in self._named:
            self._name(vertex)
        if self._last not in (0, vertex.number):
            self._out.line()
        self._last = vertex.number
        self._out.line(f"#{vertex.number} {text}".rstrip())
        self._out.flush()


class TerminalDisplay:
    """The steps in a block that is redrawn: those at work with their last lines of output, those done with their times."""

    redraw_seconds: float | None = _REDRAW_SECONDS

    def __init__(self, out: Output, *, explains: bool = False) -> None:
        self._out = out
        self._explains = explains
        self._drawn = 0
        self._last_drawing = 0.0

    def show(self, state: BuildState, event: dict[str, Any]) -> None:
        """Take an event into the state, and redraw when it is time."""
        vertex = state.take(event)
        if event.get("event") == "log" and vertex is not None:
            vertex.take_lines(text_of(event))
        elif event.get("event") == "miss" and vertex is not None and self._explains:
            self._clear()
            self._out.line(f"{vertex.name}: not from the cache: {event.get('reason', '')}")
        elif event.get("event") == "told":
            self._clear()
            self._out.line(event.get("text", ""))
        self.tick(state)

    def tick(self, state: BuildState) -> None:
        """Draw again, not more often than an eye can see."""
        now = time.monotonic()
        if now - self._last_drawing >= _REDRAW_SECONDS:
            self._last_drawing = now
            self._draw(self._block(state))

    def end(self, state: BuildState) -> None:
        """Every step with its outcome, then what went wrong."""
        self._draw(self._block(state, whole=True))
        show_failure(self._out, state)
        show_warnings(self._out, state)
        self._out.flush()

    def _block(self, state: BuildState, *, whole: bool = False) -> list[str]:
        now = time.time_ns()
        height, width = self._out.size()
        width = width or 80
        done = sum(bool(vertex.completed) for vertex in state.vertices.values())
        ended = whole and not state.failed
        head = f"[+] Building {(now - state.begun) / _NANOSECOND:.1f}s ({done}/{len(state.vertices)}){' FINISHED' * ended}"
        body: list[tuple[bool, list[str]]] = []
        for vertex in state.vertices.values():
            lines = [_with_time(f" => {_mark(vertex)}{vertex.name}", vertex.seconds(now), width)]
            at_work = not vertex.completed
            if at_work:
                lines += [f" => => {text}"[:width] for text in list(vertex.statuses.values())[-_LOG_LINES:]]
                lines += [f" => => # {line}"[:width] for line in vertex.tail[-_LOG_LINES:]]
            body.append((at_work, lines))
        if not whole:
            body = _fitting(body, max(3, (height or 24) - 2))
        return [head[:width], *(line for _, lines in body for line in lines)]

    def _draw(self, lines: list[str]) -> None:
        self._clear()
        self._drawn = len(lines)
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()

    def _clear(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


class RawDisplay:
    """BuildKit's status as JSON, one document per line."""

    redraw_seconds: float | None = None

    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, state: BuildState, event: dict[str, Any]) -> None:
        """Take an event into the state, and write its document."""
        from carrack.client.codec import encode

        vertex = state.take(event)
        document = _status_document(event, vertex)
        if document:
            self._out.line(encode(document))
            self._out.flush()

    def tick(self, state: BuildState) -> None:
        """Nothing: programs need no clock."""

    def end(self, state: BuildState) -> None:
        self._out.flush()


class QuietDisplay:
    """Nothing, unless it fails."""

    redraw_seconds: float | None = None

    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, state: BuildState, event: dict[str, Any]) -> None:
        """Take an event into the state."""
        vertex = state.take(event)
        if event.get("event") == "log" and vertex is not None:
            vertex.take_lines(text_of(event))

    def tick(self, state: BuildState) -> None:
        """Nothing."""

    def end(self, state: BuildState) -> None:
        """Write the failure, when there is one."""
        show_failure(self._out, state)
        self._out.flush()


Display = PlainDisplay | TerminalDisplay | RawDisplay | QuietDisplay


def open_display(progress: str, out: Output, *, explains: bool = False) -> Display:
    """The display that ``--progress`` names; `auto` is the terminal's where there is one. `explains`: why steps were not cached."""
    if progress == "tty" or (progress == "auto" and out.is_terminal):
        return TerminalDisplay(out, explains=explains)
    if progress in ("auto", "plain", "tty"):
        return PlainDisplay(out, explains=explains)
    return RawDisplay(out) if progress == "rawjson" else QuietDisplay(out)


def show_failure(out: Output, state: BuildState) -> None:
    """The failing step's last output, and the Dockerfile's lines around it."""
    if not state.failed:
        return
    vertex = state.vertices.get(state.failed.get("vertex", ""))
    if vertex is not None:
        out.line("------")
        out.line(f" > {vertex.name}:")
        for line in [*vertex.tail, *([vertex.partial] if vertex.partial else [])][-_ERROR_LINES:]:
            out.line(line)
        out.line("------")
    if state.failed.get("source"):
        out.line(str(state.failed["source"]))


def show_warnings(out: Output, state: BuildState) -> None:
    """The lint's findings, one line each."""
    if not state.warnings:
        return
    count = len(state.warnings)
    out.line()
    out.line(f" {count} warning{'s' * (count != 1)} found (use --check to see each with its place):")
    for warning in state.warnings:
        place = f" (line {warning['line']})" if warning.get("line") else ""
        out.line(f" - {warning.get('rule', '')}: {warning.get('message', '')}{place}")


def show_findings(out: Output, warnings: list[dict[str, Any]]) -> None:
    """``--check``: each finding with its explanation and its place."""
    for warning in warnings:
        out.line(f"WARNING: {warning.get('rule', '')}{' - ' + warning['url'] if warning.get('url') else ''}")
        for line in warning.get("detail") or ():
            out.line(str(line))
        out.line(str(warning.get("message", "")))
        if warning.get("source"):
            out.line(str(warning["source"]))
        elif warning.get("line"):
            out.line(f"{warning.get('file') or 'Dockerfile'}:{warning['line']}")
        out.line()


def _mark(vertex: Vertex) -> str:
    if vertex.error:
        return "ERROR "
    return "CACHED " if vertex.cached else ""


def _with_time(text: str, seconds: float, width: int) -> str:
    shown = f"{seconds:.1f}s"
    room = max(10, width - len(shown) - 1)
    return f"{text[:room]:<{room}} {shown}"


def _fitting(body: list[tuple[bool, list[str]]], height: int) -> list[tuple[bool, list[str]]]:
    """As many steps as fit: those at work always, then the latest of those done."""
    used = sum(len(lines) for at_work, lines in body if at_work)
    kept: list[tuple[bool, list[str]]] = []
    for at_work, lines in reversed(body):
        if at_work:
            kept.append((at_work, lines))
        elif used + len(lines) <= height:
            used += len(lines)
            kept.append((at_work, lines))
    return kept[::-1]


def _moment(nanoseconds: int) -> str:
    from carrack.cli.render.units import rfc3339_nano

    return rfc3339_nano(nanoseconds)


def _status_document(event: dict[str, Any], vertex: Vertex | None) -> dict[str, Any]:
    match event.get("event"):
        case "started" | "completed" if vertex is not None:
            document: dict[str, Any] = {"digest": event["vertex"], "name": vertex.name}
            if event.get("inputs"):
                document["inputs"] = event["inputs"]
            if vertex.started:
                document["started"] = _moment(vertex.started)
            if vertex.completed:
                document["completed"] = _moment(vertex.completed)
            if vertex.cached:
                document["cached"] = True
            if vertex.error:
                document["error"] = vertex.error
            return {"vertexes": [document]}
        case "status":
            status = {key: event.get(key, 0) for key in ("current", "total")}
            return {"statuses": [{"id": event.get("id", ""), "vertex": event["vertex"], "name": event.get("text", ""), **status}]}
        case "log":
            moment = _moment(event.get("moment_nanoseconds", 0))
            log = {"vertex": event["vertex"], "stream": event.get("stream", 1), "data": event.get("data", ""), "timestamp": moment}
            return {"logs": [log]}
        case "warning":
            detail = {"short": event.get("message", ""), "url": event.get("url", ""), "rule": event.get("rule", "")}
            return {"warnings": [{"vertex": "", "level": 1, **detail, "line": event.get("line", 0)}]}
    return {}

"""A build by way of the daemon's session (docs/build.md): changed files travel, secrets and agents come along, outputs come back.

A daemon that has no sessions (Docker's) answers 404 to the first request, and the caller goes the classic way.
"""

from __future__ import annotations

import os
import threading

from carrack.cli.failure import CommandFailure
from carrack.cli.images.build_display import BuildState, Display
from carrack.cli.images.build_options import Output
from carrack.cli.images.build_order import BuildOrder
from carrack.cli.render.units import human_size
from carrack.client.codec import DocumentReader
from carrack.client.failure import ApiError, ConnectionFailed
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from carrack.cli.images.ssh_agent import Agent
    from carrack.cli.session import Session
    from carrack.client.engine import Engine, Response

_SENDING = "carrack:context"
_MAIN = "."


def build_in_session(
    session: Session,
    order: BuildOrder,
    query: Mapping[str, str | list[str]],
    headers: Mapping[str, str],
    display: Display,
) -> BuildState | None:
    """Build. None when the daemon knows no sessions.

    Raises CommandFailure after the display has shown what failed.
    """
    engine = session.engine
    try:
        answer = engine.request("POST", "/build/sessions", content=order.encoded(), media_type="application/x-carrack-build")
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    from carrack.client.codec import decode

    made = decode(answer.read_all())
    place = f"/build/sessions/{made['Id']}"
    state = BuildState()
    try:
        _send_folders(engine, place, order, made.get("Missing") or {}, state, display)
        if order.archive is not None:
            engine.request(
                "PUT", f"{place}/contexts/{_MAIN}", content=order.archive.pieces, media_type="application/x-tar"
            ).read_all()
        lenders = [AgentLender(session, f"{place}/agents/{percent_encode(name)}", path) for name, path in order.agents.items()]
        try:
            full = {**query, "remote": f"carrack-session:{made['Id']}", "progress": "events"}
            with engine.request("POST", "/build", full, content=b"", headers=headers) as response:
                for event in _events(response, display, state):
                    display.show(state, event)
        finally:
            for lender in lenders:
                lender.close()
        display.end(state)
        if state.failed:
            message = f"ERROR: failed to build: failed to solve: {state.failed.get('message', '')}"
            raise CommandFailure(message, int(state.failed.get("code") or 1))
        for number, output in enumerate(order.outputs):
            if output.destination:
                with engine.request("GET", f"{place}/outputs/{number}") as response:
                    _take_output(session, output, response)
    finally:
        try:
            engine.order("DELETE", place)
        except (ApiError, ConnectionFailed):
            pass  # it ends by itself
    return state


def _send_folders(
    engine: Engine, place: str, order: BuildOrder, missing: dict[str, list[int]], state: BuildState, display: Display
) -> None:
    import time

    for name, folder in order.folders.items():
        numbers = missing.get(name) or []
        vertex = f"{_SENDING}:{name}"
        shown = f"[internal] send build context{f' {name}' if name else ''}"
        display.show(state, {"event": "started", "vertex": vertex, "name": shown, "started_nanoseconds": time.time_ns()})
        total = folder.size_of(numbers)
        if numbers:
            pieces = _told(folder.tar(numbers), state, display, vertex, total)
            path = f"{place}/contexts/{percent_encode(name) if name else _MAIN}"
            engine.request("PUT", path, content=pieces, media_type="application/x-tar").read_all()
        text = f"transferred {len(numbers)} of {len(folder.entries)} files: {human_size(total)}"
        display.show(state, {"event": "status", "vertex": vertex, "id": "transfer", "text": text, "completed": True})
        display.show(state, {"event": "completed", "vertex": vertex, "completed_nanoseconds": time.time_ns()})


def _told(pieces: Iterator[bytes], state: BuildState, display: Display, vertex: str, total: int) -> Iterator[bytes]:
    """Passes an archive on and tells how much of it has gone."""
    sent = 0
    for piece in pieces:
        sent += len(piece)
        yield piece
        status = {
            "event": "status",
            "vertex": vertex,
            "id": "transfer",
            "text": "transferring",
            "current": min(sent, total),
            "total": total,
        }
        display.show(state, status)


def _events(response: Response, display: Display, state: BuildState) -> Iterator[Any]:
    """The build's events; between them the display gets its ticks."""
    reader = DocumentReader()
    poller = None
    if display.redraw_seconds:
        from select import POLLIN, poll

        poller = poll()
        poller.register(response.body.fileno(), POLLIN)
    while not response.body.ended:
        if poller is not None and display.redraw_seconds and not response.body.buffered:
            while not poller.poll(display.redraw_seconds * 1000):
                display.tick(state)
        yield from reader.feed(response.body.read())
    if reader.unfinished.strip():
        raise ConnectionFailed("unexpected EOF")


class AgentLender:
    """Keeps a connection waiting at the daemon for the next step that wants our ssh agent, and joins it with one to the agent."""

    def __init__(self, session: Session, path: str, agent: Agent) -> None:
        self._session = session
        self._path = path
        self._agent = agent
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: Any = None
        threading.Thread(target=self._lend, daemon=True).start()

    def close(self) -> None:
        """Wait for nobody any more."""
        with self._lock:
            self._closed = True
            if self._waiting is not None:
                self._waiting.half_close()

    def _lend(self) -> None:
        engine = self._session.new_engine()
        while True:
            try:
                connection = engine.hijack(self._path).connection
            except (ApiError, ConnectionFailed):
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._waiting = connection
            first = connection.receive()  # a step speaks first: it wants the agent
            if not first:
                connection.close()
                return
            threading.Thread(target=self._join, args=(connection, first), daemon=True).start()

    def _join(self, connection: Any, first: bytes) -> None:
        from carrack.cli.images.ssh_agent import serve

        try:
            serve(connection.receive, connection.send, self._agent, first)
        except (OSError, ConnectionFailed):
            pass
        connection.close()


def _take_output(session: Session, output: Output, response: Response) -> None:
    """Put an output where the command line says."""
    if output.destination == "-":
        for piece in response.body:
            session.out.write_bytes(piece)
        session.out.flush()
        return
    into_folder = output.type in ("local", "cache") or output.attributes.get("tar") == "false"
    if into_folder:
        from carrack.cli.images.build_outputs import unpack

        unpack(response.body, output.destination, delete=output.attributes.get("mode") == "delete")
        return
    temporary = f"{output.destination}.{os.urandom(4).hex()}"
    try:
        with open(temporary, "xb") as file:
            for piece in response.body:
                file.write(piece)
        os.rename(temporary, output.destination)
    except OSError as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise CommandFailure(f"open {output.destination}: {(error.strerror or '').lower()}") from None

"""What the screen shows, fetched beside it: each concern has a thread and a connection of its own, and reports by a callback.

Threads end when the feed is stopped. A daemon that goes away is asked again every two seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from select import select
from typing import Any

from carrack.cli.containers.stats import Usage
from carrack.client.codec import DocumentReader
from carrack.client.engine import Engine, Response
from carrack.client.frames import FrameReader
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

RETRY_SECONDS = 2.0
STATS_SECONDS = 2.0
_GLANCE_SECONDS = 0.25
LOG_TAIL = 500
JOIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a container used since the reading before: CPU in percent of one, memory in bytes."""

    cpu_percent: float
    memory_bytes: int
    limit_bytes: int
    processes: int
    network: tuple[int, int]
    blocks: tuple[int, int]


class Feed:
    """Threads that fetch. `new_engine` opens a client of the daemon; the callbacks are called from the threads."""

    def __init__(
        self,
        new_engine: Callable[[], Engine],
        *,
        on_containers: Callable[[list[dict[str, Any]]], None],
        on_readings: Callable[[dict[str, Reading]], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._new_engine = new_engine
        self._on_containers = on_containers
        self._on_readings = on_readings
        self._on_trouble = on_trouble
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._running: tuple[str, ...] = ()
        self._samples: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        """Begins to fetch."""
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._watch_containers, self._read_usage)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits for the threads to end."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def stop(self) -> None:
        """Ends the threads; they may take a moment."""
        self._ended.set()

    # -- containers

    def _watch_containers(self) -> None:
        while not self._ended.is_set():
            try:
                with closing(self._new_engine()) as engine:
                    self._fetch(engine)
                    with engine.request("GET", "/events", {"filters": '{"type":["container"]}'}) as response:
                        self._on_trouble("")
                        self._fetch(engine)  # what happened before the daemon listened
                        for _ in arrivals(response, self._ended):
                            self._fetch(engine)
            except CarrackError as error:
                self._on_trouble(str(error))
            self._ended.wait(RETRY_SECONDS)

    def _fetch(self, engine: Engine) -> None:
        containers = engine.json("GET", "/containers/json", {"all": "1"}) or []
        self._running = tuple([row["Id"] for row in containers if row["State"] in ("running", "paused")])
        self._on_containers(containers)

    # -- what they use

    def _read_usage(self) -> None:
        while not self._ended.is_set():
            try:
                with closing(self._new_engine()) as engine:
                    while not self._ended.is_set():
                        self._fetch(engine)  # how long each has been up changes without an event
                        self._on_readings(dict(self._readings(engine)))
                        self._ended.wait(STATS_SECONDS)
            except CarrackError:
                self._ended.wait(RETRY_SECONDS)  # the other thread says why

    def _readings(self, engine: Engine) -> Iterator[tuple[str, Reading]]:
        query = {"stream": "0", "one-shot": "1"}
        for identity in self._running:
            try:
                sample = engine.json("GET", f"/containers/{percent_encode(identity)}/stats", query)
            except CarrackError:
                continue  # it ended meanwhile, or this engine has no statistics
            before, self._samples[identity] = self._samples.get(identity), sample
            if before is not None:
                sample = {**sample, "precpu_stats": before.get("cpu_stats") or {}}
            usage = Usage(identity, truncate=True)
            usage.sample = sample
            used, limit = usage.memory()
            processes = int((sample.get("pids_stats") or {}).get("current") or 0)
            cpu = usage.cpu_percent() if before is not None else 0.0
            yield identity, Reading(cpu, used, limit, processes, usage.network(), usage.block_io())


class LogReader:
    """Follows the log of one container until it is stopped; `on_lines` gets whole lines."""

    def __init__(self, new_engine: Callable[[], Engine], identity: str, on_lines: Callable[[str, list[str]], None]) -> None:
        self._new_engine = new_engine
        self._identity = identity
        self._on_lines = on_lines
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; it may take a moment."""
        self._ended.set()

    def is_alive(self) -> bool:
        """Whether the thread is still there."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Waits for the thread to end."""
        self._thread.join(JOIN_SECONDS)

    def _follow(self) -> None:
        path = f"/containers/{percent_encode(self._identity)}"
        try:
            with closing(self._new_engine()) as engine:
                framed = not engine.json("GET", f"{path}/json")["Config"]["Tty"]
                query = {"follow": "1", "stdout": "1", "stderr": "1", "tail": str(LOG_TAIL)}
                with engine.request("GET", f"{path}/logs", query) as response:
                    self._read(response, framed=framed)
        except CarrackError as error:
            self._on_lines(self._identity, [str(error)])

    def _read(self, response: Response, *, framed: bool) -> None:
        frames, waiting = FrameReader(), b""
        for data in pieces(response, self._ended):
            waiting += b"".join([piece for _, piece in frames.feed(data)]) if framed else data
            *lines, waiting = waiting.split(b"\n")
            if lines and not self._ended.is_set():
                self._on_lines(self._identity, [line.decode("utf-8", "replace").rstrip("\r") for line in lines])
        if waiting and not self._ended.is_set():
            self._on_lines(self._identity, [waiting.decode("utf-8", "replace")])


def pieces(response: Response, ended: threading.Event) -> Iterator[bytes]:
    """The answer as it comes, until it ends or `ended` is set."""
    while not ended.is_set():
        if not response.body.buffered:
            readable, _, _ = select([response.body.fileno()], [], [], _GLANCE_SECONDS)
            if not readable:
                continue
        data = response.body.read()
        if not data:
            return
        yield data


def arrivals(response: Response, ended: threading.Event) -> Iterator[None]:
    """Once for all the documents that came together."""
    reader = DocumentReader()
    for data in pieces(response, ended):
        if list(reader.feed(data)):
            yield None

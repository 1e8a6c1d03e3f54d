"""`carrack stats`: what containers use, once or live."""

from __future__ import annotations

import time
from select import select

from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import binary_size, human_size, short_id
from carrack.client.codec import DocumentReader
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.console import Output
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session
    from carrack.client.engine import Response

REFRESH_SECONDS = 0.5
FIRST_SAMPLE_SECONDS = 4.0
"""How long a container may take to numbers that can be shown; one that does not run may never send any."""
NO_VALUE = "--"
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


class Usage:
    """One container's line: the last numbers the daemon sent, if any yet."""

    def __init__(self, container: str, *, truncate: bool) -> None:
        self.container = container
        self.truncate = truncate
        self.sample: dict[str, Any] | None = None
        self.response: Response | None = None
        self.reader = DocumentReader()

    def cpu_percent(self) -> float:
        """CPU time since the sample before this one, in percent of one CPU."""
        assert self.sample is not None
        now, before = self.sample.get("cpu_stats") or {}, self.sample.get("precpu_stats") or {}
        spent = (now.get("cpu_usage") or {}).get("total_usage", 0) - (before.get("cpu_usage") or {}).get("total_usage", 0)
        passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
        cpus = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ())
        return spent / passed * cpus * 100.0 if spent > 0 and passed > 0 else 0.0

    def memory(self) -> tuple[int, int]:
        """(bytes used without the page cache that could go, limit)."""
        assert self.sample is not None
        memory = self.sample.get("memory_stats") or {}
        usage, stats = memory.get("usage") or 0, memory.get("stats") or {}
        inactive = stats.get("total_inactive_file")
        if inactive is None or inactive >= usage:
            inactive = stats.get("inactive_file") or 0
        return (usage - inactive if inactive < usage else usage), memory.get("limit") or 0

    def network(self) -> tuple[int, int]:
        """(bytes received, bytes sent) over all interfaces."""
        assert self.sample is not None
        interfaces = (self.sample.get("networks") or {}).values()
        return sum([one.get("rx_bytes", 0) for one in interfaces]), sum([one.get("tx_bytes", 0) for one in interfaces])

    def block_io(self) -> tuple[int, int]:
        """(bytes read, bytes written) on block devices."""
        assert self.sample is not None
        totals = {"r": 0, "w": 0}
        for entry in (self.sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
            operation = str(entry.get("op") or "")[:1].lower()
            if operation in totals:
                totals[operation] += entry.get("value", 0)
        return totals["r"], totals["w"]


def _memory_usage(usage: Usage) -> str:
    if usage.sample is None:
        return "-- / --"
    used, limit = usage.memory()
    return f"{binary_size(used)} / {binary_size(limit)}"


def _memory_percent(usage: Usage) -> str:
    if usage.sample is None:
        return NO_VALUE
    used, limit = usage.memory()
    return f"{used / limit * 100.0 if limit else 0.0:.2f}%"


def _pair(usage: Usage, numbers: tuple[int, int]) -> str:
    return f"{human_size(numbers[0], 3)} / {human_size(numbers[1], 3)}"


def _identity(usage: Usage) -> str:
    identity = (usage.sample or {}).get("id") or ""
    return short_id(identity) if usage.truncate else identity


NOUN = Noun(
    "*container.statsContext",
    {
        "Container": ("CONTAINER", lambda usage: usage.container),
        "Name": ("NAME", lambda usage: ((usage.sample or {}).get("name") or "")[1:] or NO_VALUE),
        "ID": ("CONTAINER ID", _identity),
        "CPUPerc": ("CPU %", lambda usage: NO_VALUE if usage.sample is None else f"{usage.cpu_percent():.2f}%"),
        "MemUsage": ("MEM USAGE / LIMIT", _memory_usage),
        "MemPerc": ("MEM %", _memory_percent),
        "NetIO": ("NET I/O", lambda usage: NO_VALUE if usage.sample is None else _pair(usage, usage.network())),
        "BlockIO": ("BLOCK I/O", lambda usage: NO_VALUE if usage.sample is None else _pair(usage, usage.block_io())),
        "PIDs": (
            "PIDS",
            lambda usage: NO_VALUE if usage.sample is None else str((usage.sample.get("pids_stats") or {}).get("current") or 0),
        ),
    },
)


class _Watch:
    """Follows the stats of a changing set of containers, each on a connection of its own."""

    def __init__(self, session: Session, parsed: Parsed) -> None:
        self.session = session
        self.stream = not parsed.flag("no-stream")
        self.truncate = not parsed.flag("no-trunc")
        self.show_all = parsed.flag("all")
        self.usages: list[Usage] = []
        self.events: Response | None = None
        self.event_reader = DocumentReader()

    def add(self, container: str) -> None:
        if any(usage.container == container for usage in self.usages):
            return
        usage = Usage(container, truncate=self.truncate)
        # a stream even for one look: its head comes at once, so that many containers are asked together
        usage.response = self.session.new_engine().request("GET", container_path(container, "/stats"), {"stream": "1"})
        self.usages.append(usage)

    def remove(self, container: str) -> None:
        for usage in [usage for usage in self.usages if usage.container == container]:
            if usage.response:
                usage.response.close()
            self.usages.remove(usage)

    def follow_events(self) -> None:
        query = {"filters": '{"type":{"container":true}}'}
        self.events = self.session.new_engine().request("GET", "/events", query)

    def step(self, timeout_seconds: float) -> None:
        """Takes what the daemon sends within the time."""
        sources: dict[int, Usage | None] = {
            usage.response.body.fileno(): usage for usage in self.usages if usage.response and not usage.response.body.ended
        }
        if self.events is not None:
            sources[self.events.body.fileno()] = None
        buffered = [fd for fd, usage in sources.items() if usage and usage.response and usage.response.body.buffered]
        readable, _, _ = (buffered, [], []) if buffered else select(list(sources), [], [], max(timeout_seconds, 0))
        for fd in readable:
            usage = sources[fd]
            if usage is None:
                self._read_events()
            else:
                self._read_sample(usage)

    def _read_sample(self, usage: Usage) -> None:
        assert usage.response is not None
        try:
            data = usage.response.body.read()
        except CarrackError:
            data = b""
        if not data:
            usage.response.close()
            usage.response = None
            return
        for sample in usage.reader.feed(data):
            # the daemon sends a sample without a time for a container that does not run
            usage.sample = sample

    def _read_events(self) -> None:
        assert self.events is not None
        data = self.events.body.read()
        if not data:
            raise CommandFailure("")
        for event in self.event_reader.feed(data):
            identity = ((event.get("Actor") or {}).get("ID") or "")[:12]
            action = event.get("Action")
            if action == "start" or (action == "create" and self.show_all):
                try:
                    self.add(identity)
                except CarrackError:
                    continue
            elif action == "die" and not self.show_all:
                self.remove(identity)

    @property
    def waiting(self) -> bool:
        """Whether some container has not sent its first numbers; for a single look, those with a sample before them."""
        return any(usage.response is not None and not self._shows(usage) for usage in self.usages)

    def _shows(self, usage: Usage) -> bool:
        sample = usage.sample
        if sample is None:
            return False
        runs = bool((sample.get("memory_stats") or {}).get("usage"))
        return self.stream or not runs or bool((sample.get("precpu_stats") or {}).get("system_cpu_usage"))


def _stats(session: Session, parsed: Parsed) -> None:
    watch = _Watch(session, parsed)
    if parsed.arguments:
        for name in parsed.arguments:
            watch.add(name)
    else:
        if watch.stream:
            watch.follow_events()
        query = {"all": "1"} if watch.show_all else {}
        for container in session.engine.json("GET", "/containers/json", query) or ():
            watch.add(container["Id"][:12])
    deadline = time.monotonic() + FIRST_SAMPLE_SECONDS
    while watch.waiting and time.monotonic() < deadline:
        watch.step(deadline - time.monotonic())
    template = parsed.text("format") or session.config.text("statsFormat")
    while True:
        _show(session.out, watch, template)
        if not watch.stream or (parsed.arguments and not watch.usages):
            return
        watch.step(REFRESH_SECONDS)


def _show(out: Output, watch: _Watch, template: str) -> None:
    if not watch.stream:
        print_rows(out, NOUN, watch.usages, template=template, columns=COLUMNS)
        return
    page = _Page()
    print_rows(page, NOUN, watch.usages, template=template, columns=COLUMNS)  # type: ignore[arg-type]
    lines = "".join(page.pieces).split("\n")
    out.write("\x1b[H" + "".join([f"{line} \x1b[K\n" for line in lines]) + "\x1b[J")
    out.flush()


class _Page:
    """Output kept to be drawn at once."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def line(self, text: str = "") -> None:
        self.pieces.append(f"{text}\n")


COMMANDS = (
    Command(
        "container stats",
        "[OPTIONS] [CONTAINER...]",
        "Watch what containers use",
        _stats,
        aliases="container stats, stats",
        flags="""
        -a, --all bool       Show all containers (default shows just running)
            --format string  Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
            --no-stream bool Print the first numbers and end
            --no-trunc bool  Print ids whole
        """,
    ),
)

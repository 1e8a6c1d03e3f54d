"""What containers use, sampled once a second for as long as somebody watches, however many watch the same one.

A sample is read from the kernel's files alone: no shim is asked, so one that does not answer delays nobody. A watcher that reads
slowly is given the newest reading when it comes for one; nothing is queued.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

from carrack.engine.container import Container
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.state import LIVE
from carrack.engine.threads import in_thread
from carrack.runtime.cgroups import Statistics, detect
from carrack.runtime.cgroups import open as open_cgroup

PERIOD_SECONDS = 1.0
_TICK_NANOSECONDS = 10**9 // os.sysconf("SC_CLK_TCK")
_PROCESSOR_FIELDS = 7
"""user, nice, system, idle, iowait, irq and softirq of /proc/stat, as Docker adds them up."""


@dataclass(frozen=True, slots=True)
class InterfaceUse:
    """What went through one interface of a container (proc_pid_net(5), dev)."""

    name: str
    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What a percentage is a percentage of."""

    system_cpu_nanoseconds: int
    online_cpus: int
    memory_bytes: int
    cgroup_version: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of one container; `used` None: it did not run."""

    read_at_nanoseconds: int = 0
    used: Statistics | None = None
    machine: Machine | None = None
    interfaces: tuple[InterfaceUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample, and the one before it when there was one."""

    container_id: str
    name: str
    sample: Sample
    before: Sample | None = None
    rendered: dict[bool, bytes] = field(default_factory=dict, compare=False)
    """The documents made of it so far: all watchers of a version share one."""


class Watching:
    """Samples containers that are watched. Everything runs on the event loop but the reading itself."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle
        self._feeds: dict[str, _Feed] = {}
        self._collector: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()

    async def read_once(self, ref: str) -> Reading:
        """One sample, at once. Raises NotFound."""
        container = self._life.rooms.table.get(ref)
        samples = await in_thread(_read_all, [self._source(container)])
        return Reading(container.id, container.name, samples[0])

    async def read_running(self) -> dict[str, Sample]:
        """One sample of every container that runs, by its id."""
        running = [container for container in self._life.rooms.table if container.state.status in LIVE]
        samples = await in_thread(_read_all, [self._source(container) for container in running])
        return {container.id: sample for container, sample in zip(running, samples, strict=True)}

    def watch(self, ref: str) -> Watcher:
        """Begin to watch; the caller closes the watcher (`aclose`). Raises NotFound."""
        container = self._life.rooms.table.get(ref)
        feed = self._feeds.setdefault(container.id, _Feed(container))
        watcher = Watcher(self, feed)
        feed.watchers.add(watcher)
        self._wanted.set()
        if self._collector is None or self._collector.done():
            self._collector = self._life.spawn(self._collect())
        return watcher

    async def read_pair(self, ref: str) -> Reading:
        """A sample with one before it, a period apart; of a container that does not run, the empty one. Raises NotFound."""
        if self._life.rooms.table.get(ref).state.status not in LIVE:
            return await self.read_once(ref)
        watcher = self.watch(ref)
        try:
            reading = None
            async for reading in watcher:
                if reading.before is not None or reading.sample.used is None:
                    return reading
        finally:
            await watcher.aclose()
        return reading or await self.read_once(ref)

    @property
    def watched(self) -> int:
        """How many containers are sampled now."""
        return len(self._feeds)

    def leave(self, watcher: Watcher) -> None:
        """A watcher has gone; with the last one of a container its sampling ends."""
        watcher.feed.watchers.discard(watcher)
        if not watcher.feed.watchers and self._feeds.get(watcher.feed.container.id) is watcher.feed:
            del self._feeds[watcher.feed.container.id]

    async def _collect(self) -> None:
        """One round per period, one at once for those who have just come; ends when nobody watches."""
        loop = asyncio.get_running_loop()
        while self._feeds:
            self._wanted.clear()
            now = loop.time()
            due = [feed for feed in self._feeds.values() if feed.due <= now]
            for feed in [feed for feed in due if self._life.rooms.table.find(feed.container.id) is None]:
                due.remove(feed)
                feed.end()
                self._feeds.pop(feed.container.id, None)
            if due:
                samples = await in_thread(_read_all, [self._source(feed.container) for feed in due])
                for feed, sample in zip(due, samples, strict=True):
                    feed.due = now + PERIOD_SECONDS
                    feed.take(sample)
            if not self._feeds:
                return
            try:
                next_due = min(feed.due for feed in self._feeds.values())
                await asyncio.wait_for(self._wanted.wait(), max(next_due - loop.time(), 0.0))
            except TimeoutError:
                pass

    def _source(self, container: Container) -> _Source:
        """What to read; decided on the loop, where the record does not change under us."""
        if container.state.status not in LIVE:
            return _Source("", 0)
        shares_host = container.host_config.network_mode == "host"
        return _Source(self._life.cgroup_path(container), 0 if shares_host else container.state.pid)


class _Feed:
    """One container's samples, for all who watch it."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.watchers: set[Watcher] = set()
        self.reading: Reading | None = None
        self.ended = False
        self.due = 0.0

    def take(self, sample: Sample) -> None:
        before = self.reading.sample if self.reading is not None and self.reading.sample.used is not None else None
        self.reading = Reading(self.container.id, self.container.name, sample, before if sample.used is not None else None)
        for watcher in self.watchers:
            watcher.arrived.set()

    def end(self) -> None:
        self.ended = True
        for watcher in self.watchers:
            watcher.arrived.set()


class Watcher:
    """An asynchronous iterator over one container's readings: the newest each time, the first at once. Ends with the container."""

    def __init__(self, watching: Watching, feed: _Feed) -> None:
        self._watching = watching
        self.feed = feed
        self.arrived = asyncio.Event()
        if feed.reading is not None:
            self.arrived.set()

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Reading:
        await self.arrived.wait()
        self.arrived.clear()
        if self.feed.ended or self.feed.reading is None:
            raise StopAsyncIteration
        return self.feed.reading

    async def aclose(self) -> None:
        """Stop watching. May be called more than once."""
        self._watching.leave(self)


# ── reading, in a pool thread ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Source:
    cgroup: str
    """Empty: the container does not run."""
    pid: int
    """A process in the container's network; 0: it has none of its own."""


def _read_all(sources: list[_Source]) -> list[Sample]:
    machine = _machine()
    return [_read(source, machine) for source in sources]


def _read(source: _Source, machine: Machine) -> Sample:
    if not source.cgroup:
        return Sample()
    used = open_cgroup(source.cgroup).statistics()
    return Sample(time.time_ns(), used, machine, _interfaces(source.pid) if source.pid else ())


def _machine() -> Machine:
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()[1 : 1 + _PROCESSOR_FIELDS]
    return Machine(
        system_cpu_nanoseconds=sum(int(each) for each in fields) * _TICK_NANOSECONDS,
        online_cpus=os.sysconf("SC_NPROCESSORS_ONLN"),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cgroup_version=detect().version,
    )


def _interfaces(pid: int) -> tuple[InterfaceUse, ...]:
    """Every interface but the loopback, as a process sees them; none when it has gone."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="utf-8", errors="replace") as file:
            return parse_interfaces(file.read())
    except OSError:
        return ()


def parse_interfaces(text: str) -> tuple[InterfaceUse, ...]:
    """The text of /proc/PID/net/dev: two lines of titles, then ``name: eight received, eight sent``."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        fields = [int(each) for each in numbers.split()]
        if name.strip() != "lo" and len(fields) >= 12:
            found.append(InterfaceUse(name.strip(), *fields[0:4], *fields[8:12]))
    return tuple(found)

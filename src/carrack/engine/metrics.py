"""Figures of the engine and of its containers, in Prometheus' text format 0.0.4, under Docker's names where Docker has one.

Containers' figures are read from the kernel's files at the moment of the scrape, as `stats` does: no shim is asked. They begin with
`carrack_container_`, and carry the container's id, name and image.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from carrack.engine.rooms import Rooms
from carrack.engine.state import Status
from carrack.engine.statistics import Sample, Watching
from carrack.engine.system import System
from carrack.http.request import Exchange

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Prometheus' own default, in seconds."""
_ACTIONS: tuple[tuple[str, re.Pattern[str], str, str], ...] = (
    ("POST", re.compile(r"/containers/create"), "container", "create"),
    ("POST", re.compile(r"/containers/[^/]+/start"), "container", "start"),
    ("GET", re.compile(r"/containers/[^/]+/changes"), "container", "changes"),
    ("DELETE", re.compile(r"/containers/[^/]+"), "container", "delete"),
    ("POST", re.compile(r"/commit"), "container", "commit"),
    ("POST", re.compile(r"/networks/create"), "network", "create"),
    ("POST", re.compile(r"/networks/[^/]+/connect"), "network", "connect"),
    ("DELETE", re.compile(r"/networks/[^/]+"), "network", "delete"),
    ("DELETE", re.compile(r"/images/.+"), "image", "delete"),
    ("POST", re.compile(r"/images/.+/push"), "image", "push"),
    ("POST", re.compile(r"/images/create"), "image", "pull"),
    ("POST", re.compile(r"/images/load"), "image", "load"),
)
"""Which requests Docker times, and under what name."""
_VERSION = re.compile(r"/v[0-9.]+(?=/)")
_STARTED = time.time()


@dataclass(slots=True)
class Histogram:
    """How long something took, in Prometheus' buckets."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration in."""
        self.counts[next((place for place, bound in enumerate(_BUCKETS) if seconds <= bound), len(_BUCKETS))] += 1
        self.seconds += seconds

    def lines(self, name: str, labels: Mapping[str, str]) -> Iterator[str]:
        """The lines of Prometheus' text format, bounds cumulative."""
        total = 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self.counts, strict=True):
            total += count
            yield _line(f"{name}_bucket", {**labels, "le": bound}, total)
        yield _line(f"{name}_sum", labels, self.seconds)
        yield _line(f"{name}_count", labels, total)


class Metrics:
    """What is counted while the daemon runs, and the page that shows it."""

    def __init__(self, rooms: Rooms, system: System, watching: Watching) -> None:
        self._rooms = rooms
        self._system = system
        self._watching = watching
        self._actions: dict[tuple[str, str], Histogram] = {}
        self._requests: Counter[tuple[str, int]] = Counter()
        self._request_seconds: dict[str, float] = {}

    def observe(self, exchange: Exchange) -> None:
        """Count one answer. Neither blocks nor raises."""
        method = exchange.request.method if exchange.request.method in _METHODS else "other"
        self._requests[method, exchange.status] += 1
        self._request_seconds[method] = self._request_seconds.get(method, 0.0) + exchange.seconds
        if exchange.status >= 400:
            return
        path = _VERSION.sub("", exchange.request.path, count=1)
        for wanted, pattern, family, action in _ACTIONS:
            if wanted == method and pattern.fullmatch(path):
                self._actions.setdefault((family, action), Histogram()).add(exchange.seconds)
                return

    async def page(self) -> str:
        """Every figure, as of now."""
        samples = await self._watching.read_running()
        return "".join(f"{line}\n" for line in (*self._engine(), *self._process(), *self._containers(samples)))

    def _engine(self) -> Iterator[str]:
        facts = self._system.info()
        info = {
            "version": facts.server_version, "commit": "", "architecture": facts.architecture, "graphdriver": facts.driver,
            "kernel": facts.kernel_version, "os": facts.operating_system, "os_type": facts.os_type,
            "os_version": facts.os_version, "daemon_id": facts.id,
        }  # fmt: skip
        yield from _family("engine_daemon_engine_info", "gauge", "The engine and the machine it is on.", [(info, 1)])
        yield from _family("engine_daemon_engine_cpus_cpus", "gauge", "Processors of the machine.", [({}, facts.ncpu)])
        yield from _family("engine_daemon_engine_memory_bytes", "gauge", "Memory of the machine.", [({}, facts.mem_total)])
        states = Counter(container.state.status for container in self._rooms.table)
        running = sum(states[status] for status in (Status.RUNNING, Status.RESTARTING))
        others = sum(states.values()) - running - states[Status.PAUSED]
        yield from _family(
            "engine_daemon_container_states_containers",
            "gauge",
            "Containers by state.",
            [({"state": "paused"}, states[Status.PAUSED]), ({"state": "running"}, running), ({"state": "stopped"}, others)],
        )
        yield from _family("engine_daemon_events_total", "counter", "Events told.", [({}, self._rooms.events.told)])
        yield from _family(
            "engine_daemon_events_subscribers_total", "gauge", "Listeners to events.", [({}, self._rooms.events.listener_count)]
        )
        health = Counter(container.state.health.status for container in self._rooms.table if container.state.health is not None)
        rows = [({"status": status}, health[status]) for status in ("starting", "healthy", "unhealthy")]
        yield from _family("carrack_container_health_containers", "gauge", "Containers with a health check, by its result.", rows)
        yield from _family("carrack_images", "gauge", "Images.", [({}, len(self._rooms.images.list(all=True)))])
        yield from _family("carrack_volumes", "gauge", "Volumes.", [({}, len(self._rooms.volumes.list()))])
        yield from _family("carrack_networks", "gauge", "Networks.", [({}, len(self._rooms.networks.list()))])
        for noun in ("container", "image", "network"):
            name = f"engine_daemon_{noun}_actions_seconds"
            yield f"# HELP {name} How long each kind of order took."
            yield f"# TYPE {name} histogram"
            for (family, action), histogram in sorted(self._actions.items()):
                if family == noun:
                    yield from histogram.lines(name, {"action": action})
        answers = [({"method": method, "code": str(code)}, count) for (method, code), count in sorted(self._requests.items())]
        yield from _family("carrack_api_requests_total", "counter", "Answers of the API.", answers)
        times = [({"method": method}, seconds) for method, seconds in sorted(self._request_seconds.items())]
        yield from _family("carrack_api_request_seconds_total", "counter", "Time from request to the end of the answer.", times)

    def _process(self) -> Iterator[str]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(_first_line("/proc/self/statm").split()[1])
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield from _family("process_cpu_seconds_total", "counter", "Processor time.", [({}, used.ru_utime + used.ru_stime)])
        yield from _family("process_resident_memory_bytes", "gauge", "Memory.", [({}, pages * os.sysconf("SC_PAGE_SIZE"))])
        yield from _family("process_open_fds", "gauge", "Open descriptors.", [({}, len(os.listdir("/proc/self/fd")))])
        yield from _family("process_max_fds", "gauge", "The limit of open descriptors.", [({}, limit)])
        yield from _family("process_start_time_seconds", "gauge", "When the daemon started.", [({}, _STARTED)])

    def _containers(self, samples: Mapping[str, Sample]) -> Iterator[str]:
        labels = {
            container.id: {"id": container.id, "name": container.name, "image": container.image_reference}
            for container in self._rooms.table
            if container.id in samples
        }
        running = [(labels[id], sample) for id, sample in samples.items() if id in labels and sample.used is not None]

        def family(name: str, kind: str, help: str, value: str, divisor: int = 1) -> Iterator[str]:
            rows = [(label, getattr(sample.used, value)) for label, sample in running]
            if divisor > 1:
                rows = [(label, figure / divisor) for label, figure in rows]
            return _family(f"carrack_container_{name}", kind, help, rows)

        yield from family("cpu_seconds_total", "counter", "Processor time.", "cpu_total_nanoseconds", 10**9)
        yield from family("cpu_user_seconds_total", "counter", "Processor time in user mode.", "cpu_user_nanoseconds", 10**9)
        yield from family("cpu_system_seconds_total", "counter", "Processor time in the kernel.", "cpu_kernel_nanoseconds", 10**9)
        yield from family("cpu_throttled_seconds_total", "counter", "Time held back by a limit.", "throttled_nanoseconds", 10**9)
        yield from family("memory_usage_bytes", "gauge", "Memory, file cache included.", "memory_usage_bytes")
        yield from family("memory_limit_bytes", "gauge", "Memory limit; 0: none.", "memory_limit_bytes")
        yield from family("memory_failures_total", "counter", "Times the limit was hit.", "memory_failures")
        yield from family("pids", "gauge", "Processes and threads.", "pids")
        network = [(label, interface) for label, sample in running for interface in sample.interfaces]
        for name, attribute in (("receive_bytes", "received_bytes"), ("transmit_bytes", "sent_bytes")):
            rows = [({**label, "interface": each.name}, getattr(each, attribute)) for label, each in network]
            yield from _family(f"carrack_container_network_{name}_total", "counter", "Bytes through the network.", rows)
        for operation in ("read", "write"):
            rows = [
                (label, sum(each.value for each in sample.used.io_service_bytes if each.operation.lower() == operation))
                for label, sample in running
                if sample.used is not None
            ]
            yield from _family(f"carrack_container_fs_{operation}_bytes_total", "counter", "Bytes of block devices.", rows)


_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"))


def _family(name: str, kind: str, help: str, rows: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        yield _line(name, labels, value)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    written = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{written}}} {value}" if written else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()

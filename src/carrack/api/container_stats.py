"""GET /containers/{id}/stats: what a container uses, in the document that `docker stats` and every dashboard compute with.

Version 1 and version 2 of cgroups give different fields, and Docker's document shows which of them the host has: so does this one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from carrack.api.json import encode
from carrack.api.moments import ZERO, rfc3339
from carrack.api.router import Route
from carrack.api.versions import at_least
from carrack.engine.statistics import InterfaceUse, Machine, Reading, Sample
from carrack.errors import InvalidParameter
from carrack.http import Reply, Request, Response, StreamResponse
from carrack.runtime.cgroups import Statistics

Document = dict[str, object]
_JSON = {"Content-Type": "application/json"}
_OTHER_BLOCK_LISTS = (
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
"""What only the retired CFQ scheduler counted."""


class Watcher(Protocol):
    """Readings as they come; ends with the container. Closed by who asked: `engine.statistics.Watcher`."""

    def __aiter__(self) -> AsyncIterator[Reading]: ...

    async def aclose(self) -> None:
        """Stop watching. Idempotent."""


class StatsBackend(Protocol):
    """What the engine offers: `engine.statistics.Watching`. Raises NotFound."""

    async def read_once(self, ref: str) -> Reading: ...
    async def read_pair(self, ref: str) -> Reading: ...
    def watch(self, ref: str) -> Watcher: ...


def routes(backend: StatsBackend) -> list[Route]:
    """The one route."""

    async def stats(request: Request) -> Reply:
        query, ref = request.query, request.params["id"]
        stream = query.flag("stream", True)
        one_shot = query.flag("one-shot") if at_least(request.version, "1.41") else False
        names_system = at_least(request.version, "1.52")
        if stream:
            if one_shot:
                raise InvalidParameter("cannot have stream=true and one-shot=true")
            return StreamResponse(200, Documents(backend.watch(ref), names_system=names_system), _JSON, endless=True)
        reading = await (backend.read_once(ref) if one_shot else backend.read_pair(ref))
        return Response(200, rendered(reading, names_system=names_system), _JSON)

    return [Route("GET", "/containers/{id}/stats", stats)]


class Documents:
    """A watcher's readings as bytes. A class, so that closing it before the first step ends the watching, too."""

    def __init__(self, watcher: Watcher, *, names_system: bool) -> None:
        self._watcher = watcher
        self._readings = aiter(watcher)
        self._names_system = names_system

    def __aiter__(self) -> Documents:
        return self

    async def __anext__(self) -> bytes:
        return rendered(await anext(self._readings), names_system=self._names_system)

    async def aclose(self) -> None:
        await self._watcher.aclose()


def rendered(reading: Reading, *, names_system: bool) -> bytes:
    """A reading as one line of JSON, made once for all who get it. `names_system`: with `os_type`, as since 1.52."""
    made = reading.rendered.get(names_system)
    if made is None:
        made = reading.rendered[names_system] = encode(document(reading, names_system=names_system))
    return made


def document(reading: Reading, *, names_system: bool = False) -> Document:
    """Docker's document of one reading; without a reading before it, and of what does not run, its zeros."""
    sample, before = reading.sample, reading.before or Sample()
    found: Document = {"id": reading.container_id, "name": f"/{reading.name}"}
    if names_system:
        found["os_type"] = "linux"
    found |= {
        "read": rfc3339(sample.read_at_nanoseconds),
        "cpu_stats": _processor(sample),
        "memory_stats": _memory(sample.used, sample.machine),
        "pids_stats": _processes(sample.used),
        "blkio_stats": _block_io(sample.used, sample.machine),
        "num_procs": 0,
        "storage_stats": {},
        "preread": rfc3339(before.read_at_nanoseconds) if reading.before is not None else ZERO,
        "precpu_stats": _processor(before),
    }
    if sample.interfaces:
        found["networks"] = {each.name: _interface(each) for each in sample.interfaces}
    return found


def _processor(sample: Sample) -> Document:
    used, machine = sample.used or Statistics(), sample.machine
    usage: Document = {"total_usage": used.cpu_total_nanoseconds}
    if used.cpu_each_nanoseconds:
        usage["percpu_usage"] = used.cpu_each_nanoseconds
    usage |= {"usage_in_kernelmode": used.cpu_kernel_nanoseconds, "usage_in_usermode": used.cpu_user_nanoseconds}
    found: Document = {"cpu_usage": usage}
    if machine is not None:
        found |= {"system_cpu_usage": machine.system_cpu_nanoseconds, "online_cpus": machine.online_cpus}
    found["throttling_data"] = {
        "periods": used.throttling_periods,
        "throttled_periods": used.throttled_periods,
        "throttled_time": used.throttled_nanoseconds,
    }
    return found


def _memory(used: Statistics | None, machine: Machine | None) -> Document:
    if used is None or machine is None:
        return {}
    limit = used.memory_limit_bytes
    if not 0 < limit < machine.memory_bytes:
        limit = machine.memory_bytes
    found: Document = {"usage": used.memory_usage_bytes}
    if machine.cgroup_version == 1:
        found["max_usage"] = used.memory_peak_bytes
    found["stats"] = used.memory
    if used.memory_failures and machine.cgroup_version == 1:
        found["failcnt"] = used.memory_failures
    return found | {"limit": limit}


def _processes(used: Statistics | None) -> Document:
    if used is None:
        return {}
    found: Document = {"current": used.pids}
    return found | ({"limit": used.pids_limit} if used.pids_limit else {})


def _block_io(used: Statistics | None, machine: Machine | None) -> Document:
    found: Document = {"io_service_bytes_recursive": None, "io_serviced_recursive": None}
    is_first = machine is not None and machine.cgroup_version == 1
    if used is not None:
        for name, entries in (("io_service_bytes_recursive", used.io_service_bytes), ("io_serviced_recursive", used.io_serviced)):
            found[name] = [
                {
                    "major": each.major,
                    "minor": each.minor,
                    "op": each.operation if is_first else each.operation.lower(),
                    "value": each.value,
                }
                for each in entries
            ]
    return found | dict.fromkeys(_OTHER_BLOCK_LISTS, [] if is_first and used is not None else None)


def _interface(use: InterfaceUse) -> Document:
    return {
        "rx_bytes": use.received_bytes,
        "rx_packets": use.received_packets,
        "rx_errors": use.received_errors,
        "rx_dropped": use.received_dropped,
        "tx_bytes": use.sent_bytes,
        "tx_packets": use.sent_packets,
        "tx_errors": use.sent_errors,
        "tx_dropped": use.sent_dropped,
    }

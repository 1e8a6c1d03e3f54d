"""What a cgroup has used: one reading of processor, memory, processes and block I/O, for `stats`, `events --stats` and `top`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from carrack.runtime.cgroups.directories import read_file

_NO_LIMIT = 1 << 60


class BlockIo(msgspec.Struct, frozen=True):
    """One counter of one device, in bytes or in operations."""

    major: int
    minor: int
    operation: str
    """``Read``, ``Write``, ``Sync``, ``Async``, ``Discard``, ``Total``."""
    value: int


class Statistics(msgspec.Struct, frozen=True):
    """One reading. Times in nanoseconds, sizes in bytes; a limit of 0 means none."""

    cpu_total_nanoseconds: int = 0
    cpu_user_nanoseconds: int = 0
    cpu_kernel_nanoseconds: int = 0
    cpu_each_nanoseconds: tuple[int, ...] = ()
    throttling_periods: int = 0
    throttled_periods: int = 0
    throttled_nanoseconds: int = 0
    memory_usage_bytes: int = 0
    memory_peak_bytes: int = 0
    memory_limit_bytes: int = 0
    memory_failures: int = 0
    memory: dict[str, int] = {}
    swap_usage_bytes: int = 0
    swap_limit_bytes: int = 0
    pids: int = 0
    pids_limit: int = 0
    io_service_bytes: tuple[BlockIo, ...] = ()
    io_serviced: tuple[BlockIo, ...] = ()


def _text(path: str) -> str:
    try:
        return read_file(path)
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _limit(path: str) -> int:
    number = _number(path)
    return 0 if number >= _NO_LIMIT else number


def _table(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def statistics_v1(directory: Callable[[str], str]) -> Statistics:
    """Read version 1's files; what a machine lacks stays 0."""
    cpuacct, cpu, memory, pids, blkio = (directory(name) for name in ("cpuacct", "cpu", "memory", "pids", "blkio"))
    times = _table(_text(f"{cpuacct}/cpuacct.stat"))
    throttling = _table(_text(f"{cpu}/cpu.stat"))
    tick = 10_000_000
    return Statistics(
        cpu_total_nanoseconds=_number(f"{cpuacct}/cpuacct.usage"),
        cpu_user_nanoseconds=_number(f"{cpuacct}/cpuacct.usage_user") or times.get("user", 0) * tick,
        cpu_kernel_nanoseconds=_number(f"{cpuacct}/cpuacct.usage_sys") or times.get("system", 0) * tick,
        cpu_each_nanoseconds=tuple(int(each) for each in _text(f"{cpuacct}/cpuacct.usage_percpu").split()),
        throttling_periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_nanoseconds=throttling.get("throttled_time", 0),
        memory_usage_bytes=_number(f"{memory}/memory.usage_in_bytes"),
        memory_peak_bytes=_number(f"{memory}/memory.max_usage_in_bytes"),
        memory_limit_bytes=_limit(f"{memory}/memory.limit_in_bytes"),
        memory_failures=_number(f"{memory}/memory.failcnt"),
        memory=_table(_text(f"{memory}/memory.stat")),
        swap_usage_bytes=_number(f"{memory}/memory.memsw.usage_in_bytes"),
        swap_limit_bytes=_limit(f"{memory}/memory.memsw.limit_in_bytes"),
        pids=_number(f"{pids}/pids.current"),
        pids_limit=_number(f"{pids}/pids.max"),
        io_service_bytes=_block_io_v1(_text(f"{blkio}/blkio.throttle.io_service_bytes_recursive")),
        io_serviced=_block_io_v1(_text(f"{blkio}/blkio.throttle.io_serviced_recursive")),
    )


def _block_io_v1(text: str) -> tuple[BlockIo, ...]:
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and ":" in fields[0]:
            major, _, minor = fields[0].partition(":")
            found.append(BlockIo(int(major), int(minor), fields[1], int(fields[2])))
    return tuple(found)


def statistics_v2(directory: str) -> Statistics:
    """Read version 2's files; what a machine lacks stays 0."""
    cpu = _table(_text(f"{directory}/cpu.stat"))
    service_bytes, serviced = _block_io_v2(_text(f"{directory}/io.stat"))
    return Statistics(
        cpu_total_nanoseconds=cpu.get("usage_usec", 0) * 1000,
        cpu_user_nanoseconds=cpu.get("user_usec", 0) * 1000,
        cpu_kernel_nanoseconds=cpu.get("system_usec", 0) * 1000,
        throttling_periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled_nanoseconds=cpu.get("throttled_usec", 0) * 1000,
        memory_usage_bytes=_number(f"{directory}/memory.current"),
        memory_peak_bytes=_number(f"{directory}/memory.peak"),
        memory_limit_bytes=_number(f"{directory}/memory.max"),
        memory_failures=_table(_text(f"{directory}/memory.events")).get("max", 0),
        memory=_table(_text(f"{directory}/memory.stat")),
        swap_usage_bytes=_number(f"{directory}/memory.swap.current"),
        swap_limit_bytes=_number(f"{directory}/memory.swap.max"),
        pids=_number(f"{directory}/pids.current"),
        pids_limit=_number(f"{directory}/pids.max"),
        io_service_bytes=service_bytes,
        io_serviced=serviced,
    )


def _block_io_v2(text: str) -> tuple[tuple[BlockIo, ...], tuple[BlockIo, ...]]:
    service_bytes: list[BlockIo] = []
    serviced: list[BlockIo] = []
    names = {
        "rbytes": (service_bytes, "Read"),
        "wbytes": (service_bytes, "Write"),
        "dbytes": (service_bytes, "Discard"),
        "rios": (serviced, "Read"),
        "wios": (serviced, "Write"),
        "dios": (serviced, "Discard"),
    }
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            name, _, value = pair.partition("=")
            if name in names and value.isdigit():
                target, operation = names[name]
                target.append(BlockIo(int(major), int(minor), operation, int(value)))
    return tuple(service_bytes), tuple(serviced)

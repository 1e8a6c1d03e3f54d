"""The stats document: what version 1 and version 2 of cgroups give, and what is left out where there is nothing to say."""

from __future__ import annotations

from typing import Any

from carrack.api.container_stats import document, rendered
from carrack.engine.statistics import InterfaceUse, Machine, Reading, Sample, parse_interfaces
from carrack.runtime.cgroups import Statistics
from carrack.runtime.cgroups.statistics import BlockIo

DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    1756      20    1    2    0     0          0         0     2048      22    3    4    0     0       0          0
"""
USED = Statistics(
    cpu_total_nanoseconds=300,
    cpu_each_nanoseconds=(100, 200),
    memory_usage_bytes=1000,
    memory_peak_bytes=2000,
    memory_failures=3,
    pids=4,
    io_service_bytes=(BlockIo(8, 0, "Read", 512),),
)


def reading(version: int, used: Statistics | None = USED) -> Reading:
    machine = Machine(system_cpu_nanoseconds=10_000, online_cpus=2, memory_bytes=1 << 30, cgroup_version=version)
    return Reading("c" * 64, "web", Sample(10**18, used, machine, parse_interfaces(DEV)))


def of(version: int) -> Any:
    return document(reading(version))


def test_every_interface_but_the_loopback_is_read() -> None:
    assert parse_interfaces(DEV) == (InterfaceUse("eth0", 1756, 20, 1, 2, 2048, 22, 3, 4),)
    assert of(1)["networks"]["eth0"]["tx_errors"] == 3


def test_version_1_shows_peaks_failures_and_its_own_operation_names() -> None:
    found = of(1)
    assert found["memory_stats"] == {"usage": 1000, "max_usage": 2000, "stats": {}, "failcnt": 3, "limit": 1 << 30}
    assert found["blkio_stats"]["io_service_bytes_recursive"] == [{"major": 8, "minor": 0, "op": "Read", "value": 512}]
    assert found["blkio_stats"]["sectors_recursive"] == []


def test_version_2_leaves_out_what_it_does_not_count() -> None:
    found = of(2)
    assert found["memory_stats"] == {"usage": 1000, "stats": {}, "limit": 1 << 30}
    assert found["blkio_stats"]["io_service_bytes_recursive"][0]["op"] == "read"
    assert found["blkio_stats"]["sectors_recursive"] is None


def test_an_unlimited_number_of_processes_is_not_named() -> None:
    assert of(1)["pids_stats"] == {"current": 4}


def test_watchers_of_one_version_share_one_rendering() -> None:
    one = reading(1)
    assert rendered(one, names_system=True) is rendered(one, names_system=True)
    assert b"os_type" in rendered(one, names_system=True)
    assert b"os_type" not in rendered(one, names_system=False)

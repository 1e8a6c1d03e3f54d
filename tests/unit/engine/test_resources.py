"""What a machine lacks is discarded from a request, with Docker's warning; what it has is left alone."""

import pytest

from carrack.engine import resources
from carrack.engine.config import HostConfig, Resources, ThrottleDevice, WeightDevice
from carrack.engine.resources import Machine
from carrack.errors import InvalidParameter
from carrack.runtime.cgroups.features import Features, found_among

NOTHING = Features(**dict.fromkeys(Features._fields, False))


@pytest.mark.parametrize(
    ("field", "value", "left", "warning"),
    [
        ("memory", 64 << 20, 0, "memory limit capabilities"),
        ("memory_swappiness", 10, None, "memory swappiness capabilities"),
        ("memory_reservation", 32 << 20, 0, "memory soft limit capabilities"),
        ("oom_kill_disable", True, None, "OomKillDisable discarded"),
        ("cpu_shares", 512, 0, "CPU shares"),
        ("cpu_quota", 50_000, 0, "CPU CFS scheduler"),
        ("cpuset_cpus", "0", "", "Cpuset discarded"),
        ("pids_limit", 10, None, "PIDs limit discarded"),
        ("blkio_weight", 300, 0, "Block I/O weight"),
        ("blkio_weight_device", [WeightDevice("/dev/x", 300)], None, "weight_device"),
        ("blkio_device_read_bps", [ThrottleDevice("/dev/x", 1)], None, "BPS read limit discarded"),
    ],
)
def test_a_limit_without_means_goes_with_a_warning(field: str, value: object, left: object, warning: str) -> None:
    asked = Resources(**{field: value})  # type: ignore[arg-type]
    told = resources.check(asked, Machine(2, features=NOTHING))
    assert [warning in each for each in told] == [True]
    assert getattr(asked, field) == left


def test_with_everything_there_nothing_is_said_or_taken() -> None:
    asked = Resources(memory=64 << 20, memory_swappiness=10, cpu_shares=512, pids_limit=10, blkio_weight=300, cpuset_mems="0")
    assert resources.check(asked, Machine(2)) == []
    assert (asked.memory, asked.memory_swappiness, asked.pids_limit) == (64 << 20, 10, 10)


@pytest.mark.parametrize(
    ("nodes", "asked", "fits"), [("0", "0", True), ("0-1,3", "0-1", True), ("0-1,3", "2", False), ("0", "1", False)]
)
def test_memory_nodes_are_those_of_the_machine(nodes: str, asked: str, fits: bool) -> None:
    if fits:
        assert resources.check(Resources(cpuset_mems=asked), Machine(2, nodes)) == []
    else:
        with pytest.raises(InvalidParameter, match="Requested memory nodes are not available"):
            resources.check(Resources(cpuset_mems=asked), Machine(2, nodes))


def test_an_update_must_fit_what_the_container_has() -> None:
    with pytest.raises(InvalidParameter, match="CPU Period cannot be updated as NanoCPUs"):
        resources.check_change(HostConfig(nano_cpus=10**9), Resources(cpu_period=50_000))
    with pytest.raises(InvalidParameter, match="Memory limit should be smaller than already set memoryswap limit"):
        resources.check_change(HostConfig(memory_swap=10 << 20), Resources(memory=20 << 20))
    resources.check_change(HostConfig(memory_swap=10 << 20), Resources(memory=20 << 20, memory_swap=40 << 20))


def test_the_files_of_a_cgroup_tell_its_features() -> None:
    second = found_among({"memory.max", "memory.low", "cpu.max", "cpu.weight", "pids.max", "io.max"}, 2)
    assert (second.memory, second.cpu_quota, second.block_throttle, second.pids) == (True, True, True, True)
    assert (second.swappiness, second.oom_kill_disable, second.cpu_realtime, second.block_weight) == (False, False, False, False)
    first = found_among({"memory.limit_in_bytes", "blkio.bfq.weight", "cpu.rt_runtime_us"}, 1)
    assert (first.memory, first.block_weight, first.cpu_realtime, first.swap) == (True, True, True, False)

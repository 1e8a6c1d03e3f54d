"""resources → cgroup files, both versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.errors import InvalidParameter, SystemFailure
from carrack.oci.runtime_spec import (
    BlockIOLimits,
    CpuLimits,
    DeviceRule,
    MemoryLimits,
    PidsLimit,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from carrack.runtime.cgroups import devices, layout, limits
from carrack.runtime.cgroups.layout import Hierarchy

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"


def files(resources: Resources, version: int) -> dict[str, str]:
    return {write.file: write.value for write in limits.writes_of(resources, version)}


def test_a_hybrid_machine_is_of_version_1() -> None:
    found = layout.parse(V1)
    assert found.version == 1
    assert found.unified == "/sys/fs/cgroup/unified"
    assert found.hierarchies[0] == Hierarchy(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct")
    assert found.mountpoint("name=systemd") == "/sys/fs/cgroup/systemd"


def test_a_unified_machine_is_of_version_2() -> None:
    assert layout.parse(V2) == layout.Layout(2, (), "/sys/fs/cgroup")


def test_a_machine_without_cgroups_is_told() -> None:
    with pytest.raises(SystemFailure, match="no cgroup mount found"):
        layout.parse("22 27 0:21 / /proc rw - proc proc rw\n")


def test_memory_and_swap_in_both_versions() -> None:
    asked = Resources(memory=MemoryLimits(limit=1000, swap=3000, reservation=500))
    assert files(asked, 1) == {
        "memory.limit_in_bytes": "1000",
        "memory.memsw.limit_in_bytes": "3000",
        "memory.soft_limit_in_bytes": "500",
    }
    assert files(asked, 2) == {"memory.max": "1000", "memory.swap.max": "2000", "memory.low": "500"}


def test_unlimited_is_said_as_each_version_says_it() -> None:
    asked = Resources(memory=MemoryLimits(limit=-1, swap=-1), pids=PidsLimit(-1))
    assert files(asked, 1) == {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1", "pids.max": "max"}
    assert files(asked, 2) == {"memory.max": "max", "memory.swap.max": "max", "pids.max": "max"}


@pytest.mark.parametrize("version", [1, 2])
def test_swap_below_memory_is_refused(version: int) -> None:
    with pytest.raises(InvalidParameter, match=r"memory\+swap limit should be greater than or equal to memory limit"):
        limits.writes_of(Resources(memory=MemoryLimits(limit=2000, swap=1000)), version)


def test_processor_time_in_both_versions() -> None:
    asked = Resources(cpu=CpuLimits(shares=1024, quota=50000, period=100000, cpus="0-1"))
    assert files(asked, 1) == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpuset.cpus": "0-1",
    }
    assert files(asked, 2) == {"cpu.weight": "100", "cpu.max": "50000 100000", "cpuset.cpus": "0-1"}


def test_throttling_names_the_device() -> None:
    asked = Resources(block_io=BlockIOLimits(throttle_read_bps_device=(ThrottleDevice(8, 0, 1048576),)))
    assert files(asked, 1) == {"blkio.throttle.read_bps_device": "8:0 1048576"}
    assert files(asked, 2) == {"io.max": "8:0 rbps=1048576"}


def test_a_unified_file_name_with_a_slash_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no slashes"):
        limits.writes_of(Resources(unified={"../x.y": "1"}), 2)


@given(st.integers(min_value=2, max_value=262144))
def test_every_share_has_a_weight_in_range(shares: int) -> None:
    assert 1 <= limits.shares_to_weight(shares) <= 10000


@pytest.mark.parametrize(("shares", "weight"), [(0, 0), (1, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262144, 10000)])
def test_the_usual_share_is_the_usual_weight(shares: int, weight: int) -> None:
    assert limits.shares_to_weight(shares) == weight


@pytest.mark.parametrize(
    ("memory", "swap"),
    [
        (MemoryLimits(limit=-1), "max"),
        (MemoryLimits(limit=-1, swap=1000), "1000"),
        (MemoryLimits(limit=1000, swap=-1), "max"),
        (MemoryLimits(limit=1000, swap=1000), "0"),
        (MemoryLimits(limit=1000, swap=1500), "500"),
        (MemoryLimits(limit=1000), None),
    ],
)
def test_swap_of_version_2_is_counted_apart(memory: MemoryLimits, swap: str | None) -> None:
    assert files(Resources(memory=memory), 2).get("memory.swap.max") == swap


def test_a_devices_limit_of_nothing_is_none() -> None:
    block = BlockIOLimits(throttle_read_bps_device=(ThrottleDevice(8, 0, 0),), weight_device=(WeightDevice(8, 0, 0),))
    assert files(Resources(block_io=block), 1) == {
        "blkio.throttle.read_bps_device": "8:0 0",
        "blkio.bfq.weight_device|blkio.weight_device": "8:0 default",
    }
    assert files(Resources(block_io=block), 2) == {"io.max": "8:0 rbps=max", "io.bfq.weight": "8:0 default"}


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


# GHSA-g54h-m393-cpwq
def test_devices_are_denied_before_any_is_allowed() -> None:
    rules = limits.devices_of(Resources(devices=(DeviceRule(allow=True, type="c", major=10, minor=200, access="rwm"),)))
    assert rules[0] == (False, "a *:* rwm")
    assert (True, "c 10:200 rwm") in rules


def test_a_privileged_container_gets_every_device_and_no_further_rule() -> None:
    assert limits.devices_of(Resources(devices=(DeviceRule(allow=True, access="rwm"),)))[-1] == (True, "a *:* rwm")


def test_a_device_rule_with_an_odd_access_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="access"):
        limits.devices_of(Resources(devices=(DeviceRule(allow=True, access="xyz"),)))


def run(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """The few BPF instructions that a device program uses, carried out."""
    context = {0: kind | access << 16, 4: major, 8: minor}
    registers = [0] * 11
    at = 0
    while True:
        code, where, offset, value = (
            program[at * 8],
            program[at * 8 + 1],
            int.from_bytes(program[at * 8 + 2 : at * 8 + 4], "little", signed=True),
            int.from_bytes(program[at * 8 + 4 : at * 8 + 8], "little"),
        )
        to, source = where & 15, where >> 4
        at += 1
        match code:
            case 0x61:
                registers[to] = context[offset]
            case 0x54:
                registers[to] &= value
            case 0x74:
                registers[to] >>= value
            case 0xB4:
                registers[to] = value
            case 0xBC:
                registers[to] = registers[source]
            case 0x56:
                at += offset if registers[to] != value else 0
            case 0x16:
                at += offset if registers[to] == value else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"instruction {code:#x}")


ACCESS = {"m": 1, "r": 2, "w": 4}
rule_texts = st.builds(
    "{} {}:{} {}".format,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["*", "1", "5"]),
    st.sampled_from(["*", "3", "7"]),
    st.sampled_from(["r", "w", "m", "rw", "rwm"]),
)


def judged(rules: tuple[tuple[bool, str], ...], kind: int, access: int, major: int, minor: int) -> int:
    """What the rules mean, in the simplest words."""
    verdict = 0
    for allow, text in rules:
        wanted_kind, numbers, letters = text.split(" ")
        wanted_major, wanted_minor = numbers.split(":")
        mask = sum(ACCESS[letter] for letter in letters)
        if wanted_kind != "a" and kind != {"b": 1, "c": 2}[wanted_kind]:
            continue
        if wanted_major not in ("*", str(major)) or wanted_minor not in ("*", str(minor)):
            continue
        if (access & ~mask == 0) if allow else access & mask:
            verdict = int(allow)
    return verdict


@given(
    st.lists(st.tuples(st.booleans(), rule_texts), max_size=6).map(tuple),
    st.sampled_from([1, 2]),
    st.integers(min_value=1, max_value=7),
    st.sampled_from([1, 5, 9]),
    st.sampled_from([3, 7, 9]),
)
def test_the_device_program_judges_as_the_rules_do(
    rules: tuple[tuple[bool, str], ...], kind: int, access: int, major: int, minor: int
) -> None:
    assert run(devices.program(rules), kind, access, major, minor) == judged(rules, kind, access, major, minor)

"""Every limit of `run` and `update`, read back from the kernel's own files inside the container; and how bad ones are refused."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeEngine
from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.waiting import until

V1 = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
ROOT = "/sys/fs/cgroup"


def values(cli: CommandLine, files: dict[str, str], *flags: str) -> dict[str, str]:
    """What control files hold inside a container with these flags; by the name given to each file."""
    script = "; ".join(f'echo "{name}=$(echo $(cat {ROOT}/{file}))"' for name, file in files.items())
    rows = cli.shell(script, *flags).ok().splitlines()
    return dict(row.split("=", 1) for row in rows if "=" in row)


def file_of(v1: str, v2: str) -> str:
    return v1 if V1 else v2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A block device of our own whose scheduler weighs its users."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    device = run(["losetup", "--find", "--show", str(image)]).ok()
    try:
        (Path("/sys/block") / device.removeprefix("/dev/") / "queue/scheduler").write_text("bfq")
        yield device
    finally:
        run(["losetup", "--detach", device])


def numbers_of(device: str) -> str:
    return (Path("/sys/block") / device.removeprefix("/dev/") / "dev").read_text().strip()


@pytest.mark.observes(
    "docker run --device-read-bps",
    "docker run --device-write-bps",
    "docker run --device-read-iops",
    "docker run --device-write-iops",
)
def test_the_speed_of_a_device_is_the_kernels_throttle(docker_cli: CommandLine, disk: str) -> None:
    flags: tuple[str, ...] = ("--device-read-bps", f"{disk}:1mb", "--device-write-bps", f"{disk}:2mb")
    flags += ("--device-read-iops", f"{disk}:30", "--device-write-iops", f"{disk}:40")
    number = numbers_of(disk)
    if V1:
        files = {kind: f"blkio/blkio.throttle.{kind}_device" for kind in ("read_bps", "write_bps", "read_iops", "write_iops")}
        seen = values(docker_cli, files, *flags)
        wanted = {"read_bps": 1 << 20, "write_bps": 2 << 20, "read_iops": 30, "write_iops": 40}
        assert seen == {kind: f"{number} {value}" for kind, value in wanted.items()}
    else:
        seen = values(docker_cli, {"max": "io.max"}, *flags)
        assert seen == {"max": f"{number} rbps={1 << 20} wbps={2 << 20} riops=30 wiops=40"}


@pytest.mark.peer_lacks("it looks for blkio.weight, which Linux no longer has; blkio.bfq.weight it does not know")
@pytest.mark.observes("docker run --blkio-weight", "docker run --blkio-weight-device")
def test_the_weight_of_block_io_is_the_schedulers(docker_cli: CommandLine, disk: str) -> None:
    flags = ("--blkio-weight", "300", "--blkio-weight-device", f"{disk}:500")
    files = {"all": file_of("blkio/blkio.bfq.weight", "io.bfq.weight")}
    if V1:
        files["device"] = "blkio/blkio.bfq.weight_device"
    seen = " ".join(values(docker_cli, files, *flags).values())
    assert "300" in seen
    assert f"{numbers_of(disk)} 500" in seen or not V1


@pytest.mark.observes("docker run --cpuset-mems")
def test_cpuset_mems_binds_to_a_memory_node(docker_cli: CommandLine) -> None:
    assert docker_cli.shell("grep Mems_allowed_list /proc/self/status", "--cpuset-mems", "0").ok().split()[1] == "0"


@pytest.mark.skipif(not V1, reason="version 2 has no such switches")
@pytest.mark.observes("docker run --memory-swappiness", "docker run --oom-kill-disable", "docker run --memory-swap")
def test_swappiness_the_oom_killer_and_swap_are_the_memory_cgroups(docker_cli: CommandLine) -> None:
    flags = ("--memory", "64m", "--memory-swap", "96m", "--memory-swappiness", "17", "--oom-kill-disable")
    files = {"swappiness": "memory/memory.swappiness", "oom": "memory/memory.oom_control"}
    seen = values(docker_cli, files | {"swap": "memory/memory.memsw.limit_in_bytes"}, *flags)
    assert seen == {"swappiness": "17", "oom": seen["oom"], "swap": str(96 << 20)}
    assert seen["oom"].startswith("oom_kill_disable 1 ")


@pytest.mark.skipif(V1, reason="version 1 has these")
def test_what_version_2_has_not_is_discarded_with_a_warning(engine: Engine) -> None:
    host = {"Memory": 64 << 20, "MemorySwappiness": 17, "OomKillDisable": True}
    warnings = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": host}).json["Warnings"]
    assert any("Memory swappiness discarded" in warning for warning in warnings)
    assert any("OomKillDisable discarded" in warning for warning in warnings)


@pytest.mark.skipif(not V1, reason="version 2 has no real-time shares")
@pytest.mark.peer_lacks("its runc leaves the share of the parent to who starts it")
@pytest.mark.observes(
    "docker run --cpu-rt-period", "docker run --cpu-rt-runtime", "docker update --cpu-rt-period", "docker update --cpu-rt-runtime"
)
def test_a_real_time_share_is_the_schedulers(make_engine: MakeEngine) -> None:
    engine = make_engine("--cpu-rt-runtime", "20000", "--cpu-rt-period", "1000000")
    cli = CommandLine(engine, [docker_program()])
    flags = ("--cpu-rt-period", "1000000", "--cpu-rt-runtime", "10000")
    container = cli.ok("run", "-d", *flags, "busybox", "sleep", "1000")
    pid = cli.ok("inspect", "-f", "{{.State.Pid}}", container)
    run(["chrt", "-f", "-p", "50", pid]).ok()  # refused to a process of a cgroup without a share
    read = ("exec", container, "cat", f"{ROOT}/cpu/cpu.rt_runtime_us", f"{ROOT}/cpu/cpu.rt_period_us")
    assert cli.ok(*read).split() == ["10000", "1000000"]
    cli.ok("update", "--cpu-rt-period", "500000", "--cpu-rt-runtime", "5000", container)
    assert cli.ok(*read).split() == ["5000", "500000"]


@pytest.mark.observes(
    "docker update --memory",
    "docker update --memory-swap",
    "docker update --memory-reservation",
    "docker update --cpu-shares",
    "docker update --cpu-period",
    "docker update --cpu-quota",
    "docker update --cpuset-cpus",
    "docker update --cpuset-mems",
    "docker update --pids-limit",
)
def test_update_changes_the_limits_of_a_running_container(docker_cli: CommandLine) -> None:
    flags = ("--memory", "64m", "--cpu-shares", "512", "--pids-limit", "100")
    docker_cli.ok("run", "-d", "--name", "live", *flags, "busybox", "sleep", "1000")
    changes: tuple[str, ...] = ("--memory", "128m", "--memory-swap", "256m", "--memory-reservation", "32m", "--pids-limit", "50")
    changes += ("--cpu-shares", "256", "--cpu-period", "50000", "--cpu-quota", "25000", "--cpuset-cpus", "0", "--cpuset-mems", "0")
    docker_cli.ok("update", *changes, "live")
    if V1:
        wanted = {
            "memory/memory.limit_in_bytes": str(128 << 20),
            "memory/memory.memsw.limit_in_bytes": str(256 << 20),
            "memory/memory.soft_limit_in_bytes": str(32 << 20),
            "pids/pids.max": "50",
            "cpu/cpu.shares": "256",
            "cpu/cpu.cfs_period_us": "50000",
            "cpu/cpu.cfs_quota_us": "25000",
            "cpuset/cpuset.cpus": "0",
            "cpuset/cpuset.mems": "0",
        }
    else:
        wanted = {
            "memory.max": str(128 << 20),
            "memory.swap.max": str(128 << 20),
            "memory.low": str(32 << 20),
            "pids.max": "50",
            "cpu.weight": "35",
            "cpu.max": "25000 50000",
            "cpuset.cpus": "0",
            "cpuset.mems": "0",
        }
    script = "; ".join(f"cat {ROOT}/{file}" for file in wanted)
    assert docker_cli.ok("exec", "live", "sh", "-c", script).splitlines() == list(wanted.values())


@pytest.mark.observes("docker update --pids-limit", "docker update --cpus", "docker update --restart")
def test_update_lifts_the_limit_of_processes_and_sets_cpus_and_the_policy(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "-d", "--name", "live", "--pids-limit", "100", "busybox", "sleep", "1000")
    docker_cli.ok("update", "--pids-limit", "-1", "--cpus", "0.5", "--restart", "on-failure:3", "live")
    files = [file_of("pids/pids.max", "pids.max"), file_of("cpu/cpu.cfs_quota_us", "cpu.max")]
    seen = docker_cli.ok("exec", "live", "sh", "-c", "; ".join(f"cat {ROOT}/{file}" for file in files)).splitlines()
    assert seen[0] == "max"
    assert seen[1].split()[0] == "50000"
    assert docker_cli.ok("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "live") == "on-failure"


@pytest.mark.peer_lacks("it does not know blkio.bfq.weight")
@pytest.mark.observes("docker update --blkio-weight")
def test_update_changes_the_weight_of_block_io(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "-d", "--name", "live", "busybox", "sleep", "1000")
    docker_cli.ok("update", "--blkio-weight", "700", "live")
    file = file_of("blkio/blkio.bfq.weight", "io.bfq.weight")
    assert "700" in docker_cli.ok("exec", "live", "cat", f"{ROOT}/{file}")


@pytest.mark.peer_lacks("API 1.55")
@pytest.mark.observes("POST /containers/{id}/update")
def test_limits_of_devices_change_stay_where_nothing_is_said_and_end_with_an_empty_list(engine: Engine, disk: str) -> None:
    fast, slow = ([{"Path": disk, "Rate": rate << 20}] for rate in (2, 1))
    host = {"BlkioDeviceReadBps": fast, "BlkioDeviceWriteBps": fast}
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host}
    container = engine.api("POST", "/containers/create", body).json["Id"]
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    cli, number = CommandLine(engine, [docker_program()]), numbers_of(disk)

    def limits() -> str:
        files = ("blkio/blkio.throttle.read_bps_device", "blkio/blkio.throttle.write_bps_device") if V1 else ("io.max",)
        return " ".join(cli.ok("exec", container, "cat", f"{ROOT}/{file}") for file in files)

    def expected(read: int, write: int) -> str:
        rows = [f"{number} {rate << 20}" for rate in (read, write) if rate]
        max_ = [f"{name}={rate << 20 if rate else 'max'}" for name, rate in (("rbps", read), ("wbps", write))]
        return " ".join(rows).strip() if V1 else f"{number} {' '.join(max_)} riops=max wiops=max" if read or write else ""

    assert limits().strip() == expected(2, 2)
    assert engine.api("POST", f"/containers/{container}/update", {"BlkioDeviceReadBps": slow}).status == 200
    assert limits().strip() == expected(1, 2)
    assert engine.api("POST", f"/containers/{container}/update", {"BlkioDeviceReadBps": [], "PidsLimit": 50}).status == 200
    assert limits().strip() == expected(0, 2)
    assert engine.api("POST", f"/containers/{container}/update", {"BlkioDeviceWriteBps": []}).status == 200
    assert limits().strip() == ""
    shown = engine.api("GET", f"/containers/{container}/json").json["HostConfig"]
    assert (shown["BlkioDeviceReadBps"], shown["BlkioDeviceWriteBps"], shown["PidsLimit"]) == (None, None, 50)


@pytest.mark.observes("POST /containers/{id}/update")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--memory", "4m"), "Minimum memory limit allowed is 6MB"),
        (("--memory", "512m"), "Memory limit should be smaller than already set memoryswap limit"),
        (("--cpu-quota", "5"), "CPU cfs quota can not be less than 1ms"),
        (("--cpu-period", "20000"), "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"),
        (("--cpuset-cpus", "99"), "Requested CPUs are not available - requested 99"),
        (("--cpuset-mems", "99"), "Requested memory nodes are not available - requested 99"),
        (("--blkio-weight", "5"), "Range of blkio weight is from 10 to 1000"),
        (("--restart", "sometimes"), "invalid restart policy"),
    ],
)
def test_an_update_that_cannot_be_is_refused_and_changes_nothing(
    docker_cli: CommandLine, flags: tuple[str, str], message: str
) -> None:
    if docker_cli.engine.kind == "dockerd" and flags[0] == "--blkio-weight":
        pytest.skip("dockerd 20.10 discards a weight here")
    docker_cli.ok("run", "-d", "--name", "live", "--memory", "64m", "--cpus", "0.5", "busybox", "sleep", "1000")
    before = docker_cli.ok("inspect", "-f", "{{json .HostConfig}}", "live")
    refused = docker_cli("update", *flags, "live")
    assert refused.code == 1
    assert message in refused.stderr
    assert docker_cli.ok("inspect", "-f", "{{json .HostConfig}}", "live") == before
    file = file_of("memory/memory.limit_in_bytes", "memory.max")
    assert docker_cli.ok("exec", "live", "cat", f"{ROOT}/{file}") == str(64 << 20)


@pytest.mark.observes("docker run --kernel-memory")
def test_a_limit_of_kernel_memory_is_told_to_be_of_the_past(engine: Engine) -> None:
    wish: dict[str, Any] = {"Image": "busybox", "HostConfig": {"KernelMemory": 50 << 20}}
    answer = engine.api("POST", "/v1.41/containers/create", wish)
    assert answer.status == 201
    assert any("kernel memory limit is deprecated" in warning for warning in answer.json["Warnings"])
    wish["HostConfig"]["KernelMemory"] = 4096
    refused = engine.api("POST", "/v1.41/containers/create", wish)
    assert (refused.status, refused.message) == (400, "Minimum kernel memory limit allowed is 6MB")


@pytest.mark.observes(
    "docker run --isolation", "docker run --io-maxbandwidth", "docker run --io-maxiops", "docker run --cpu-percent"
)
@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Isolation": "hyperv"}, "invalid isolation: \"hyperv\" - linux only supports 'default'"),
        ({"IOMaximumBandwidth": 5}, "invalid QoS settings: linux does not support configuration of maximum bandwidth"),
        ({"IOMaximumIOps": 5}, "invalid QoS settings: linux does not support configuration of maximum IOPs"),
        ({"OomScoreAdj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
        ({"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        (
            {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000},
            "cpu real-time runtime cannot be higher than cpu real-time period"
            if V1
            else "Your kernel does not support CPU real-time scheduler",
        ),
        ({"CpusetMems": "x"}, "Invalid value x for cpuset mems: invalid format: x"),
    ],
    ids=lambda value: "".join(value)[:18],
)
def test_what_linux_has_not_is_refused_as_docker_does(engine: Engine, host: dict[str, Any], message: str) -> None:
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert answer.status == 400 or engine.kind == "dockerd"
    # 20.10 begins some of these with a capital
    assert answer.message.lower() == message.lower()


@pytest.mark.observes("docker run --cpu-percent", "docker run --cpu-count")
def test_what_only_windows_counts_is_discarded_with_a_warning(engine: Engine) -> None:
    host = {"CpuPercent": 10, "CpuCount": 2}
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert answer.status == 201
    assert "linux does not support CPU percent. Percent discarded." in answer.json["Warnings"]


@pytest.mark.observes("POST /containers/create")
def test_a_container_may_have_no_network_at_all(engine: Engine) -> None:
    wish = {"Image": "busybox", "Cmd": ["ls", "/sys/class/net"], "NetworkDisabled": True}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    engine.api("POST", f"/containers/{container}/start")
    until(lambda: engine.api("GET", f"/containers/{container}/json").json["State"]["Status"] == "exited", "the listing")
    logged = subprocess.run(
        [docker_program(), "logs", container], env=engine.env(), capture_output=True, text=True, check=True
    ).stdout
    assert logged.split() == ["lo"]

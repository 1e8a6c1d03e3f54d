"""The flags of `docker build`, each seen to have its effect, by the docker command line and by `carrack`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine
from tests.rig.leaks import CGROUP_ROOT

pytestmark = pytest.mark.both_clients

LIMITS = """FROM busybox
RUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_period_us \\
    /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems 2>/dev/null \\
    || { cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.weight; cat /sys/fs/cgroup/cpu.max | tr ' ' '\\n'; }
RUN cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.swap.max
RUN grep some.host /etc/hosts | tr '\\t' ' '; ulimit -n; df -k /dev/shm | tail -1 | awk '{print "shm", $2}'; ls /sys/class/net
"""


@pytest.fixture(autouse=True)
def classic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")


def folder(tmp_path: Path, dockerfile: str, name: str = "Dockerfile") -> str:
    (tmp_path / name).write_text(dockerfile)
    return str(tmp_path)


def output(cli: CommandLine, *words: str) -> str:
    done = cli("build", *words, timeout_seconds=90)
    assert done.code == 0, str(done)
    return done.stdout + done.stderr


@pytest.mark.observes(
    "docker build --memory", "docker build --memory-swap", "docker build --cpu-shares", "docker build --cpu-period",
    "docker build --cpu-quota", "docker build --cpuset-cpus", "docker build --cpuset-mems", "docker build --cgroup-parent",
    "docker build --add-host", "docker build --ulimit", "docker build --shm-size", "docker build --network",
)  # fmt: skip
def test_what_steps_may_use_and_see(cli: CommandLine, tmp_path: Path) -> None:
    words = "--memory 64m --memory-swap 64m --cpu-shares 512 --cpu-period 50000 --cpu-quota 25000 --cpuset-cpus 0 --cpuset-mems 0"
    parent = f"ct-under-{os.getpid()}"
    words += f" --cgroup-parent /{parent} --add-host some.host:192.0.2.9 --ulimit nofile=777:777 --shm-size 1m --network none"
    shown = output(cli, "--no-cache", *words.split(), folder(tmp_path, LIMITS))
    made = [path for path in (CGROUP_ROOT / parent, *CGROUP_ROOT.glob(f"*/{parent}")) if path.is_dir()]
    for cgroup in made:  # it was made for the steps, and is the user's
        cgroup.rmdir()
    assert made
    for value in (str(64 << 20), "50000", "25000", "192.0.2.9 some.host", "777", "shm 1024"):
        assert value in shown, value
    assert "eth0" not in shown


@pytest.mark.observes(
    "docker build --file", "docker build --iidfile", "docker build --rm", "docker build --force-rm", "docker build --quiet",
    "docker build --compress", "docker build --disable-content-trust",
)  # fmt: skip
def test_another_file_an_id_file_and_no_container_left(cli: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "context"
    place.mkdir()
    context = folder(place, "FROM busybox\nRUN echo other > /o\n", "Other.dockerfile")
    id_file = tmp_path / "id"
    words = ["-f", f"{context}/Other.dockerfile", "--iidfile", str(id_file), "--rm", "--force-rm", "--compress"]
    shown = cli.ok("build", "-q", *words, "--disable-content-trust", context)
    assert shown.strip() == id_file.read_text().strip()
    assert cli.ok("run", "--rm", shown.strip(), "cat", "/o") == "other"
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.observes("docker build --platform")
def test_a_platform_that_is_not_there_is_refused(cli: CommandLine, engine: Engine, tmp_path: Path) -> None:
    machine = json.loads(cli.ok("image", "inspect", "busybox"))[0]["Architecture"]
    output(cli, "--platform", f"linux/{machine}", "-t", "here:1", folder(tmp_path, "FROM busybox\nRUN true\n"))
    assert json.loads(cli.ok("image", "inspect", "here:1"))[0]["Architecture"] == machine


@pytest.mark.observes("docker build --pull")
def test_pull_asks_the_registry_even_for_what_is_here(cli: CommandLine, tmp_path: Path) -> None:
    cli.ok("tag", "busybox", "localhost:1/nobody/answers:1")
    context = folder(tmp_path, "FROM localhost:1/nobody/answers:1\n")
    output(cli, context)
    assert cli("build", "--pull", context).code != 0


@pytest.mark.peer_lacks("words differ by release")
@pytest.mark.observes("docker build --squash", "docker build --isolation", "docker build --security-opt")
def test_what_this_daemon_does_not_do_is_refused_by_name(cli: CommandLine, tmp_path: Path) -> None:
    context = folder(tmp_path, "FROM busybox\n")
    for words, said in (
        (["--squash"], "experimental"),
        (["--isolation", "hyperv"], "isolation"),
        (["--security-opt", "seccomp=unconfined"], "does not support setting security options on build"),
    ):
        refused = cli("build", *words, context)
        assert refused.code != 0
        assert said in refused.stderr, str(refused)
    output(cli, "--isolation", "default", context)


@pytest.mark.peer_lacks("the peer's prune knows fewer words")
@pytest.mark.observes("docker builder prune --keep-storage")
def test_a_prune_keeps_as_much_as_was_said(cli: CommandLine, engine: Engine, tmp_path: Path) -> None:
    cli.ok("builder", "prune", "-af")
    for number in range(3):
        output(cli, folder(tmp_path, f"FROM busybox\nRUN head -c 1000000 /dev/zero > /f{number}\n"))
    cli.ok("image", "prune", "-f")
    cli.ok("builder", "prune", "-f", "--keep-storage", "1500000")
    kept = sum(row["Size"] for row in engine.api("GET", "/system/df").json["BuildCache"])
    assert 900_000 < kept <= 1_500_000

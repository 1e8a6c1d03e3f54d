"""carrack-oci's `checkpoint` and `restore`, with a real CRIU, on bundles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.commands import run
from tests.rig.criu import criu_path
from tests.rig.waiting import until

from .conftest import SOURCES, Box, furnish
from .test_carrack_oci import Runtime

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"


class Counter(Runtime):
    """A container `c` that counts into a file outside, through a pipe that lives as long as the test."""

    def __init__(self, box: Box, place: Path) -> None:
        super().__init__(box, place)
        self.count = place / "count"
        with self.count.open("w") as file:
            self._cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        self.words = [sys.executable, "-m", "carrack.runtime", "--root", str(place / "state")]

    def oci(self, *words: str, code: int = 0) -> None:
        """A command whose container, if any, writes into the pipe."""
        assert self._cat.stdin is not None
        done = subprocess.run(
            [*self.words, "--log", str(self.place / "log"), *words],
            cwd=self.bundle,
            env={**os.environ, "PYTHONPATH": str(SOURCES), "PATH": criu_path()},
            stdin=subprocess.DEVNULL,
            stdout=self._cat.stdin,
            stderr=self._cat.stdin,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (self.place / "log").read_text()

    def beyond(self, number: int) -> int:
        """Wait until it has counted further; the last number."""
        until(lambda: self.numbers()[-1:] > [number], f"it to count beyond {number}")
        return self.numbers()[-1]

    def numbers(self) -> list[int]:
        return [int(line) for line in self.count.read_text().split("\n")[:-1] if line.isdigit()]

    def close(self) -> None:
        self.call("delete", "--force", "c", code=None)
        assert self._cat.stdin is not None
        self._cat.stdin.close()
        self._cat.wait(timeout=10)


@pytest.fixture
def counter(box: Box, tmp_path: Path) -> Iterator[Counter]:
    made = Counter(box, tmp_path)
    made.write(box.spec("sh", "-c", COUNT))
    made.oci("run", "--detach", "c")
    made.beyond(2)
    yield made
    made.close()


def test_a_container_is_written_out_forgotten_and_goes_on(counter: Counter, tmp_path: Path) -> None:
    counter.oci("checkpoint", "--image-path", str(tmp_path / "images"), "--work-path", str(tmp_path / "work"), "c")
    assert (tmp_path / "work/dump.log").exists()
    assert not (tmp_path / "images/dump.log").exists()
    assert "does not exist" in counter.call("state", "c", code=1).stderr
    before = counter.numbers()[-1]
    words = ["restore", "--detach", "--image-path", str(tmp_path / "images"), "--pid-file", str(tmp_path / "pid"), "c"]
    counter.oci(*words)
    counter.beyond(before + 2)
    assert counter.numbers() == list(range(1, counter.numbers()[-1] + 1))
    state = json.loads(counter.call("state", "c").stdout)
    assert (state["status"], state["pid"]) == ("running", int((tmp_path / "pid").read_text()))
    assert counter.box.cgroup in Path(f"/proc/{state['pid']}/cgroup").read_text()
    assert counter.call("exec", "c", "sh", "-c", "echo $((1+1))").stdout == "2\n"
    counter.call("kill", "c", "KILL")
    until(lambda: json.loads(counter.call("state", "c").stdout)["status"] == "stopped", "it to end")
    counter.call("delete", "c")


def test_left_running_it_goes_on_and_cannot_be_twice(counter: Counter, tmp_path: Path) -> None:
    counter.oci("checkpoint", "--leave-running", "--file-locks", "c")  # runc's place: ./checkpoint
    counter.beyond(counter.numbers()[-1] + 2)
    assert (counter.bundle / "checkpoint/inventory.img").exists()
    counter.oci("restore", "--detach", "c", code=1)
    assert "container with given ID already exists" in (tmp_path / "log").read_text()


def test_what_cannot_be_is_told_and_leaves_nothing(counter: Counter, tmp_path: Path) -> None:
    counter.call("pause", "c")
    counter.oci("checkpoint", "c", code=1)
    assert "cannot be checkpointed in paused state" in (tmp_path / "log").read_text()
    counter.call("resume", "c")
    counter.oci("restore", "--detach", "--image-path", str(tmp_path / "none"), "other", code=1)
    assert "holds no checkpoint" in (tmp_path / "log").read_text()
    counter.call("state", "other", code=1)
    assert sorted(os.listdir(tmp_path / "state")) == ["c"]
    counter.oci("checkpoint", "--pre-dump", "c", code=1)
    assert "flag provided but not defined: -pre-dump" in (tmp_path / "log").read_text()


@pytest.mark.only_full("podman takes its time")
def test_podman_checkpoints_exports_and_imports(box: Box, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    furnish(rootfs)
    runtime = Path(sys.executable).with_name("carrack-oci")
    short = tempfile.mkdtemp(prefix="ck-", dir="/tmp")  # podman wants at most 50 characters
    places = ["--root", str(tmp_path / "root"), "--runroot", short, "--storage-driver", "vfs"]
    base = ["podman", *places, "--runtime", str(runtime), "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

    def podman(*words: str) -> str:
        return run([*base, *words], env={**os.environ, "PATH": criu_path()}, timeout_seconds=120).ok()

    def numbers() -> list[int]:
        return [int(line) for line in podman("logs", "counter").split("\n") if line.isdigit()]

    run(["tar", "-C", str(rootfs), "-cf", str(tmp_path / "image.tar"), "."]).ok()
    podman("import", "-q", str(tmp_path / "image.tar"), "box:1")
    try:
        podman("run", "-d", "--name", "counter", "--network", "none", "box:1", "/bin/sh", "-c", COUNT)
        until(lambda: len(numbers()) > 2, "it to count")
        podman("container", "checkpoint", "counter")
        last = numbers()[-1]
        podman("container", "restore", "counter")
        until(lambda: numbers()[-1] > last, "it to go on")
        podman("container", "checkpoint", "-e", str(tmp_path / "moved.tar.gz"), "counter")
        last = numbers()[-1]
        podman("rm", "counter")
        podman("container", "restore", "-i", str(tmp_path / "moved.tar.gz"))
        until(lambda: numbers()[-1:] > [last], "it to go on from the file")
    finally:
        podman("rm", "-f", "-t", "0", "-a")
        shutil.rmtree(short, ignore_errors=True)

"""A program at work on strangers' files sees them, itself, and nothing else of the host."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from carrack.errors import Cancelled
from carrack.shim import messages as m
from carrack.shim.workers import Job, run_job

pytestmark = pytest.mark.root


def run(zygote_socket: str, directory: Path, script: str) -> tuple[int, str]:
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    reader, writer = os.pipe()
    try:
        job = m.RunConfined(("/bin/sh", "-c", script), ("PATH=/usr/bin:/bin", "SAID=it"))
        done = run_job(zygote_socket, job, (directory_fd, writer, writer))
    finally:
        os.close(writer)
        os.close(directory_fd)
    with os.fdopen(reader) as output:
        return done.exit_code, output.read()


def test_it_works_in_its_directory_and_its_status_comes_back(zygote_socket: str, tmp_path: Path) -> None:
    code, output = run(zygote_socket, tmp_path, "pwd; echo $SAID; echo made > file; exit 3")
    assert (code, output.split()) == (3, ["/workspace", "it"])
    assert (tmp_path / "file").read_text() == "made\n"


@pytest.mark.parametrize("place", ["/root", "/home", "/work", "/var/lib", "/run", "/proc/1", "/sys/kernel", "/etc/shadow"])
def test_the_hosts_own_places_are_not_there(zygote_socket: str, tmp_path: Path, place: str) -> None:
    assert run(zygote_socket, tmp_path, f"test -e {place}")[0] == 1


@pytest.mark.parametrize("place", ["/usr/x", "/etc/x", "/x", "/etc/passwd"])
def test_nothing_but_its_directory_can_be_written(zygote_socket: str, tmp_path: Path, place: str) -> None:
    assert run(zygote_socket, tmp_path, f"echo x >> {place}")[0] != 0


def test_it_holds_no_privilege(zygote_socket: str, tmp_path: Path) -> None:
    (tmp_path / "locked").touch()
    os.chown(tmp_path / "locked", 1234, 1234)
    (tmp_path / "locked").chmod(0o600)
    assert run(zygote_socket, tmp_path, "cat locked")[0] == 1
    assert run(zygote_socket, tmp_path, "mknod dev c 1 3")[0] == 1


def test_what_it_left_running_ends_with_it(zygote_socket: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    assert run(zygote_socket, tmp_path, "exec 9>held; sleep 600 >/dev/null 2>&1 & echo")[0] == 0
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # nobody holds the other end
    os.close(reader)


def test_it_ends_when_its_order_is_cancelled(zygote_socket: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    directory_fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    with open(os.devnull, "wb") as null:
        order = m.RunConfined(("/bin/sh", "-c", "echo y >held; exec 9>held; sleep 600"), ("PATH=/usr/bin:/bin",))
        job = Job(zygote_socket, order, (directory_fd, null.fileno(), null.fileno()))
    os.close(directory_fd)
    os.set_blocking(reader, True)
    while not os.read(reader, 1):
        pass
    timer = threading.Timer(0, job.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        job.result()
    timer.join()
    while os.read(reader, 1):
        pass
    os.close(reader)

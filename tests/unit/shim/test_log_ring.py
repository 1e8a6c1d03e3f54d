"""mode=non-blocking: whatever the writer of the log does, the container's output is taken at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path

import pytest

from carrack.kernel.loop import Loop
from carrack.shim.framing import STDOUT
from carrack.shim.logs.reader import read_rendered
from carrack.shim.logs.record import LogRequest, Rendering
from carrack.shim.logs.ring import RingLog
from carrack.shim.messages import LogPlan

LINE = b"x" * 1023 + b"\n"


@pytest.fixture
def plan(tmp_path: Path) -> LogPlan:
    return LogPlan("local", str(tmp_path / "container.log"), max_size_bytes=0, non_blocking_buffer_bytes=100_000)


@pytest.fixture
def ring(plan: LogPlan) -> Iterator[RingLog]:
    log = RingLog(Loop(), plan)
    yield log
    end(log)


def write(log: RingLog, content: bytes) -> None:
    buffer = mmap(-1, 64 * 1024)
    buffer[: len(content)] = content
    log.write(STDOUT, buffer, len(content), time.time_ns())


def end(log: RingLog) -> None:
    log.close()
    try:
        os.waitpid(log.child, 0)
    except ChildProcessError:
        pass  # it was faster


def kept(plan: LogPlan) -> bytes:
    return b"".join(read_rendered(plan, LogRequest(), Rendering(framed=False)))


def test_what_was_written_is_on_disk_after_the_flush(plan: LogPlan, ring: RingLog) -> None:
    for number in range(100):
        write(ring, b"line %d\n" % number)
    write(ring, b"no end")
    ring.flush(time.time_ns())
    assert kept(plan) == b"".join(b"line %d\n" % number for number in range(100)) + b"no end"
    assert ring.lost_bytes == 0


def test_a_writer_that_stands_still_holds_nobody_up_and_costs_what_the_ring_does_not_hold(plan: LogPlan, ring: RingLog) -> None:
    os.kill(ring.child, signal.SIGSTOP)
    begun = time.monotonic()
    for _ in range(2000):
        write(ring, LINE)
    assert time.monotonic() - begun < 1
    assert ring.lost_bytes > 1_000_000
    os.kill(ring.child, signal.SIGCONT)
    ring.flush(time.time_ns())
    content = kept(plan)
    assert content == LINE * (len(content) // len(LINE))
    assert len(content) + ring.lost_bytes == 2000 * len(LINE)


def test_a_follower_is_told_and_handed_the_next_file(tmp_path: Path) -> None:
    plan = LogPlan(
        "local", str(tmp_path / "c.log"), max_size_bytes=5000, max_files=3, compress=False, non_blocking_buffer_bytes=100_000
    )
    told: list[str] = []

    class Follower:
        def appended(self) -> None:
            told.append("appended")

        def rotated(self, file_fd: int) -> None:
            os.close(file_fd)
            told.append("rotated")

    log = RingLog(Loop(), plan)
    follower = Follower()
    os.close(log.follow(follower))
    for _ in range(10):
        write(log, LINE)
    log.flush(time.time_ns())
    log.leave(follower)
    end(log)
    assert {"appended", "rotated"} <= set(told)

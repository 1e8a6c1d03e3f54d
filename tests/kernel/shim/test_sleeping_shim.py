"""A shim to which nothing happens is asleep, and one whose maker is killed leaves nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from carrack.shim import messages as m
from tests.kernel.shim.harness import Harness, pair

pytestmark = pytest.mark.root

IDLE_KILOBYTES = 1000
"""About 700 are measured; one that is awake has 2500."""


def own_kilobytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty:"))


def test_the_shim_of_an_idle_container_has_little_memory_of_its_own(harness: Harness) -> None:
    neighbours = [harness.container(("/bin/sleep", "1000")) for _ in range(3)]
    for each in neighbours:
        each.start()
    assert own_kilobytes(neighbours[1].shim_pid) < IDLE_KILOBYTES


def test_a_client_that_waits_and_goes_leaves_the_shim_able_to_tell_the_exit(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("read x; exit 3", open_stdin=True, waiting=[(m.Wait(), theirs)])
    container.start()
    ours.close()
    client, handed = pair()
    container.ask(m.Attach(container.next_sequence(), stdin=True), handed)
    client.send(b"\n")
    assert container.wait_exit().exit_code == 3


def test_a_maker_that_is_killed_takes_the_start_with_it(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.create()
    children = Path(f"/proc/{container.shim_pid}/task/{container.shim_pid}/children").read_text().split()
    (maker,) = {int(each) for each in children} - {container.pid}
    os.kill(maker, signal.SIGKILL)
    failed = container.expect(m.StartFailed)
    assert "died" in failed.message
    assert not Path(container.socket_path).exists()

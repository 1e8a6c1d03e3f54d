"""Nothing that a client, an exec or an order brought stays open after it, in any process."""

from __future__ import annotations

import os

import pytest

from carrack.shim import messages as m
from tests.kernel.shim.harness import Container, Harness, pair, read_all, read_until
from tests.rig.waiting import until

pytestmark = pytest.mark.root


def held(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def nothing_more_than(before: int, pid: int) -> None:
    """A hang-up is noticed a moment after it happened; five rounds that leak one descriptor each never get there."""
    until(lambda: held(pid) <= before or None, f"{pid} to hold {before} descriptors")


@pytest.fixture
def sleeper(harness: Harness) -> Container:
    container = harness.container("echo up; exec sleep 1000", open_stdin=True)
    container.start()
    follow_once(container)
    return container


def follow_once(container: Container) -> None:
    """Returns when the shim has dropped the follower: an order after its hang-up is answered after it."""
    ours, theirs = pair()
    container.ask(m.FollowLogs(container.next_sequence()), theirs)
    read_until(ours, b"up\n")
    ours.close()
    settle(container)


def settle(container: Container) -> None:
    for _ in range(3):
        number = container.next_sequence()
        assert container.ask(m.Signal(number, 0)) == m.Done(number)


def test_a_zygote_holds_nothing_of_the_shims_it_forked(harness: Harness) -> None:
    before = held(harness.zygote.pid)
    for _ in range(5):
        container = harness.container("true")
        container.start()
        container.wait_exit()
        container.forget()
    nothing_more_than(before, harness.zygote.pid)


def test_execs_leave_nothing_open_in_the_shim(sleeper: Container) -> None:
    before = held(sleeper.shim_pid)
    for _ in range(5):
        ours, theirs = pair()
        sleeper.exec("true", theirs, stdin=True)
        read_all(ours)
        assert isinstance(sleeper.receive(), m.ExecExited)
    settle(sleeper)
    nothing_more_than(before, sleeper.shim_pid)


def test_clients_leave_nothing_open_in_the_shim(sleeper: Container) -> None:
    before = held(sleeper.shim_pid)
    for _ in range(5):
        ours, theirs = pair()
        sleeper.ask(m.Attach(sleeper.next_sequence(), stdin=True, stdout=True), theirs)
        ours.close()
        waiter, waiting = pair()
        sleeper.ask(m.Wait(sleeper.next_sequence()), waiting)
        waiter.close()
        follow_once(sleeper)
    nothing_more_than(before, sleeper.shim_pid)


def test_daemons_that_come_and_go_leave_nothing_open_in_the_shim(sleeper: Container) -> None:
    before = held(sleeper.shim_pid)
    for _ in range(5):
        sleeper.reconnect()
    settle(sleeper)
    nothing_more_than(before, sleeper.shim_pid)


def test_orders_that_are_refused_leave_nothing_open_in_the_shim(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"), driver="none")
    container.start()
    settle(container)
    before = held(container.shim_pid)
    for number in range(5):
        _, theirs = pair()
        assert isinstance(container.ask(m.FollowLogs(number), theirs), m.Refused)
        _, theirs = pair()
        assert isinstance(container.ask(m.Attach(number, replay_logs=True), theirs), m.Refused)
    settle(container)
    assert held(container.shim_pid) == before

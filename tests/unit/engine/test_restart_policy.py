"""Who begins again, and when: Docker's policies."""

import time

import pytest

from carrack.engine import restart_policy
from carrack.engine.config import ContainerConfig, HostConfig, RestartPolicy
from carrack.engine.container import Container


def container(policy: str, *, code: int = 0, retries: int = 0, count: int = 0, stopped: bool = False) -> Container:
    made = Container("a", "n", 1, ContainerConfig(), HostConfig(restart_policy=RestartPolicy(policy, retries)), "sha256:0", "x")
    made.state.exit_code, made.restart_count, made.stopped_by_user = code, count, stopped
    return made


@pytest.mark.parametrize(
    ("ended", "again"),
    [
        (container("no", code=1), False),
        (container("always"), True),
        (container("always", stopped=True), False),
        (container("unless-stopped"), True),
        (container("unless-stopped", stopped=True), False),
        (container("on-failure"), False),
        (container("on-failure", code=3), True),
        (container("on-failure", code=3, retries=2, count=1), True),
        (container("on-failure", code=3, retries=2, count=2), False),
    ],
)
def test_who_begins_again_after_an_end(ended: Container, again: bool) -> None:
    assert restart_policy.wants(ended) is again


@pytest.mark.parametrize(
    ("standing", "begins"),
    [
        (container("always", stopped=True), True),
        (container("unless-stopped"), True),
        (container("unless-stopped", stopped=True), False),
        (container("on-failure", code=1), False),
        (container("no"), False),
    ],
)
def test_who_begins_with_the_daemon(standing: Container, begins: bool) -> None:
    assert restart_policy.begins_with_the_daemon(standing) is begins


def test_the_wait_doubles_up_to_a_minute_and_begins_anew_after_a_steady_run() -> None:
    falls = container("always")
    waits = []
    for _ in range(12):
        restart_policy.plan(falls, ran_seconds=0.1)
        waits.append(falls.restart_delay_seconds)
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-2:] == [60.0, 60.0]
    restart_policy.plan(falls, ran_seconds=10.0)
    assert falls.restart_delay_seconds == 0.1


@pytest.mark.parametrize(("ahead_seconds", "least", "most"), [(-100, 0.0, 0.0), (5, 4.0, 5.0), (86_400, 60.0, 60.0)])
def test_a_clock_that_was_set_back_or_forth_costs_a_minute_at_most(ahead_seconds: int, least: float, most: float) -> None:
    waiting = container("always")
    waiting.restart_at_nanoseconds = time.time_ns() + ahead_seconds * 10**9
    assert least <= restart_policy.remaining_seconds(waiting) <= most

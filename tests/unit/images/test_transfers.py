"""A transfer and those who watch it: everyone is told all that matters, and it ends with the last who leaves."""

import threading
from collections.abc import Iterator

import pytest

from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, Unavailable
from carrack.images.progress import Progress
from carrack.images.transfer import Tell, Transfers, Work

DONE = [Progress("Pulling", id="a"), Progress("Downloading", "a", 3, 3), Progress("Pull complete", id="a")]


def work(begin: threading.Event, told: threading.Event, go_on: threading.Event) -> Work:
    def pull(tell: Tell, cancel: Cancellation) -> None:
        begin.wait()
        tell(DONE[0])
        for done in (1, 2, 3):
            tell(Progress("Downloading", "a", done, 3))
        told.set()
        go_on.wait()
        cancel.check()
        tell(DONE[2])

    return pull


@pytest.fixture
def gates() -> Iterator[tuple[threading.Event, threading.Event, threading.Event]]:
    made = (threading.Event(), threading.Event(), threading.Event())
    yield made
    for gate in made:
        gate.set()


def test_who_joins_late_is_told_each_step_and_how_far_it_is_now(
    gates: tuple[threading.Event, threading.Event, threading.Event],
) -> None:
    transfers = Transfers()
    begin, told, go_on = gates
    early = transfers.watch("image", work(*gates))
    begin.set()
    told.wait()
    late = transfers.watch("image", work(*gates))
    go_on.set()
    assert list(late) == DONE
    assert list(early) == DONE


def test_one_who_keeps_up_sees_every_step_of_the_way() -> None:
    steps = [Progress("Downloading", "a", done, 3) for done in (1, 2, 3)]
    seen = threading.Semaphore(0)

    def pull(tell: Tell, cancel: Cancellation) -> None:
        for step in steps:
            tell(step)
            seen.acquire()

    found = []
    for line in Transfers().watch("image", pull):
        found.append(line)
        seen.release()
    assert found == steps


def test_the_last_who_leaves_cancels_it_and_a_failure_is_told_to_everyone() -> None:
    left, ended = threading.Event(), threading.Event()

    def wait_for_cancel(_tell: Tell, cancel: Cancellation) -> None:
        left.wait()
        try:
            cancel.check()
        except Cancelled:
            ended.set()
            raise

    watching = Transfers().watch("image", wait_for_cancel)
    watching.close()
    left.set()
    assert ended.wait(20)

    def fail(_tell: Tell, _cancel: Cancellation) -> None:
        raise Unavailable("no registry")

    with pytest.raises(Unavailable, match="no registry"):
        list(Transfers().watch("image", fail))

"""The shim's event loop."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from carrack.kernel.loop import READ, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def readable() -> Iterator[int]:
    reader, writer = os.pipe()
    os.write(writer, b"x")
    yield reader
    os.close(reader)
    os.close(writer)


def test_timers_run_in_their_order(loop: Loop) -> None:
    ran: list[str] = []
    loop.call_later(0.02, loop.stop)
    loop.call_later(0.01, lambda: ran.append("second"))
    loop.call_soon(lambda: ran.append("first"))
    loop.run()
    assert ran == ["first", "second"]


def test_a_cancelled_timer_does_not_run(loop: Loop) -> None:
    loop.call_later(0, lambda: pytest.fail("it ran")).cancel()
    loop.call_later(0.01, loop.stop)
    loop.run()


def test_a_loop_stopped_before_it_runs_returns_at_once(loop: Loop) -> None:
    loop.stop()
    loop.run()


def test_a_callback_that_fails_is_told_and_loses_its_descriptor(
    loop: Loop, readable: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> None:
        raise ValueError("spoiled")

    loop.watch(readable, READ, fail)
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert capfd.readouterr().err.count("ValueError: spoiled") == 1


def test_a_vital_callback_that_fails_ends_the_loop(loop: Loop, readable: int) -> None:
    def fail(_: int) -> None:
        raise ValueError("spoiled")

    loop.watch(readable, READ, fail, vital=True)
    with pytest.raises(ValueError, match="spoiled"):
        loop.run()


def test_what_is_forgotten_in_the_same_round_is_not_called(loop: Loop, readable: int) -> None:
    again = os.dup(readable)
    called: list[int] = []

    def first(fd: int, other: int) -> None:
        called.append(fd)
        loop.forget(other)
        loop.stop()

    loop.watch(readable, READ, lambda _: first(readable, again))
    loop.watch(again, READ, lambda _: first(again, readable))
    loop.run()
    os.close(again)
    assert len(called) == 1

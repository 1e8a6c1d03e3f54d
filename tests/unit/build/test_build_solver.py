"""The solver on toy vertices: order, parallel work, shared work, failures, cancellation. No container, no file."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from carrack.build.cache_key import Key
from carrack.build.graph import ImageOp, Input, RunOp, Selection, Shown, Vertex
from carrack.build.progress import Event, Tell, VertexCompleted, VertexLog, VertexMiss, VertexStarted
from carrack.build.solver import Result, Solver, VertexFailed
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, InvalidParameter

BASE = Vertex(ImageOp("base", None), (), Shown("base"))


def step(name: str, *inputs: Vertex, no_cache: bool = False) -> Vertex:
    shown = Shown(name, no_cache=no_cache)
    return Vertex(RunOp((name,), ()), tuple(Input(each, label=each.shown.name) for each in inputs or (BASE,)), shown)


@dataclass
class Toys:
    """A workshop whose work is what a test says."""

    act: Callable[[Vertex, Tell, Cancellation], None] = lambda vertex, tell, cancel: None
    known: dict[str, Result] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def is_source(self, vertex: Vertex) -> bool:
        return isinstance(vertex.op, ImageOp)

    def source(self, vertex: Vertex, tell: Tell, cancel: Cancellation) -> tuple[Result, bool]:
        return Result(), True

    def content_of(self, vertex: Vertex, result: Result, selection: Selection | None, cancel: Cancellation) -> str:
        return result.content

    def find(self, vertex: Vertex, key: Key) -> Result | None:
        return self.known.get(key.digest)

    def why(self, vertex: Vertex, key: Key) -> str:
        return "because"

    def work(self, vertex: Vertex, key: Key, inputs: Sequence[Result], tell: Tell, cancel: Cancellation) -> Result:
        self.act(vertex, tell, cancel)
        self.done.append(vertex.shown.name)
        result = Result(content=vertex.shown.name, key=key.digest)
        self.known[key.digest] = result
        return result


class Ears:
    """What a build was told, and waiting for a kind of it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._loop = asyncio.get_running_loop()
        self._came: dict[type, asyncio.Event] = {}

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._loop.call_soon_threadsafe(self._of(type(event)).set)

    async def until(self, kind: type) -> None:
        await asyncio.wait_for(self._of(kind).wait(), 20)

    def _of(self, kind: type) -> asyncio.Event:
        return self._came.setdefault(kind, asyncio.Event())


@pytest.fixture
def solver() -> Iterator[Solver]:
    solver = Solver()
    yield solver
    solver.close()


def solve(solver: Solver, toys: Toys, *targets: Vertex) -> tuple[dict[str, Result], list[Event]]:
    events: list[Event] = []
    return asyncio.run(solver.solve(targets, toys, events.append, Cancellation())), events


def test_a_step_waits_for_its_inputs_and_is_done_once(solver: Solver) -> None:
    toys = Toys()
    first = step("first")
    left, right = step("left", first), step("right", first)
    results, _ = solve(solver, toys, step("top", left, right))
    assert toys.done[0] == "first"
    assert sorted(toys.done[1:3]) == ["left", "right"]
    assert toys.done[3] == "top"
    assert len(results) == 5


def test_independent_steps_run_at_the_same_time(solver: Solver) -> None:
    together = threading.Barrier(4)

    def act(vertex: Vertex, tell: Tell, cancel: Cancellation) -> None:
        together.wait(20)

    toys = Toys(act)
    solve(solver, toys, *(step(name) for name in "abcd"))
    assert sorted(toys.done) == ["a", "b", "c", "d"]


def test_what_is_known_is_not_done_again(solver: Solver) -> None:
    toys = Toys()
    solve(solver, toys, step("a"))
    _, events = solve(solver, toys, step("a"))
    assert toys.done == ["a"]
    assert [event.cached for event in events if isinstance(event, VertexCompleted)] == [True, True]


def test_a_miss_is_explained(solver: Solver) -> None:
    _, events = solve(solver, Toys(), step("a"))
    assert [event.reason for event in events if isinstance(event, VertexMiss)] == ["because"]


def test_a_step_that_must_be_done_anew_is(solver: Solver) -> None:
    toys = Toys()
    solve(solver, toys, step("a"))
    solve(solver, toys, step("a", no_cache=True))
    assert toys.done == ["a", "a"]


def test_a_failure_names_its_step_and_takes_the_others_back(solver: Solver) -> None:
    taken_back = threading.Event()
    begun = threading.Event()

    def act(vertex: Vertex, tell: Tell, cancel: Cancellation) -> None:
        if vertex.shown.name == "bad":
            begun.wait(20)
            raise InvalidParameter("no good")
        begun.set()
        cancel.wait(20)
        taken_back.set()
        cancel.check()

    with pytest.raises(VertexFailed, match="no good") as failed:
        solve(solver, Toys(act), step("long"), step("bad"))
    assert failed.value.vertex.shown.name == "bad"
    assert taken_back.is_set()


def test_two_builds_share_work_and_both_hear_its_output(solver: Solver) -> None:
    go, heard = threading.Event(), threading.Event()
    toys = Toys()

    def act(vertex: Vertex, tell: Tell, cancel: Cancellation) -> None:
        tell(VertexLog(vertex.digest, 1, b"early"))
        heard.set()
        go.wait(20)
        tell(VertexLog(vertex.digest, 1, b"late"))

    toys.act = act

    async def both() -> list[list[bytes]]:
        told = [Ears(), Ears()]
        first = asyncio.ensure_future(solver.solve([step("a")], toys, told[0], Cancellation()))
        await asyncio.to_thread(heard.wait, 20)
        second = asyncio.ensure_future(solver.solve([step("a")], toys, told[1], Cancellation()))
        await told[1].until(VertexLog)
        go.set()
        await asyncio.gather(first, second)
        return [[event.data for event in each.events if isinstance(event, VertexLog)] for each in told]

    assert asyncio.run(both()) == [[b"early", b"late"], [b"early", b"late"]]
    assert toys.done == ["a"]


def test_work_goes_on_for_the_one_who_stays(solver: Solver) -> None:
    heard, go = threading.Event(), threading.Event()
    seen: list[bool] = []

    def act(vertex: Vertex, tell: Tell, cancel: Cancellation) -> None:
        tell(VertexLog(vertex.digest, 1, b"at work"))
        heard.set()
        go.wait(20)
        seen.append(cancel.cancelled)

    toys = Toys(act)

    async def both() -> None:
        first = asyncio.ensure_future(solver.solve([step("a")], toys, lambda event: None, Cancellation()))
        await asyncio.to_thread(heard.wait, 20)
        ears = Ears()
        second = asyncio.ensure_future(solver.solve([step("a")], toys, ears, Cancellation()))
        await ears.until(VertexLog)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        go.set()
        await second

    asyncio.run(both())
    assert seen == [False]


def test_the_last_one_who_leaves_ends_the_work(solver: Solver) -> None:
    heard, ended = threading.Event(), threading.Event()

    def act(vertex: Vertex, tell: Tell, cancel: Cancellation) -> None:
        heard.set()
        cancel.wait(20)
        ended.set()
        raise Cancelled("taken back")

    async def leave() -> None:
        build = asyncio.ensure_future(solver.solve([step("a")], Toys(act), lambda event: None, Cancellation()))
        await asyncio.to_thread(heard.wait, 20)
        build.cancel()
        await asyncio.gather(build, return_exceptions=True)
        assert ended.is_set()  # nothing runs once the build has returned

    asyncio.run(leave())


def test_a_step_is_told_before_it_is_done(solver: Solver) -> None:
    _, events = solve(solver, Toys(), step("a"))
    order = [type(event) for event in events if getattr(event, "vertex", "") == step("a").digest]
    assert order == [VertexStarted, VertexMiss, VertexCompleted]


def test_what_is_read_of_an_input_is_looked_at_while_others_are_under_way(solver: Solver) -> None:
    """Four stages side by side, and a COPY of each: the files of the first are summed up while the last still works."""
    looked = threading.Event()

    def act(vertex: Vertex, tell: Tell, cancel: Cancellation) -> None:
        assert vertex.shown.name != "slow" or looked.wait(20), "nothing was looked at meanwhile"

    class Looking(Toys):
        def content_of(self, vertex: Vertex, result: Result, selection: Selection | None, cancel: Cancellation) -> str:
            if selection is not None:
                looked.set()
            return result.content

    slow, fast = step("slow"), step("fast")
    inputs = (Input(fast, Selection("/file")), Input(slow, label="below"))
    copy = Vertex(RunOp(("copy",), ()), inputs, Shown("copy"))
    results, _ = solve(solver, Looking(act), copy)
    assert results[copy.digest].content == "copy"

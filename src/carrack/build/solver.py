"""The solver: vertices to results, in parallel, each only when something needs it.

For a vertex, first its inputs, then its key (what it does and the content of what it reads), then the cache, and only then the
work. It knows nothing of containers or files: a `Workshop` says what an input's content is and carries operations out, blocking, in
the solver's threads. Builds that come to the same key at the same time share one piece of work, which is taken back when the last
of them has gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msgspec.structs import replace

from carrack.build.cache_key import Key, key_of
from carrack.build.graph import Input, Selection, Vertex
from carrack.build.ports import Tree
from carrack.build.progress import (
    Event,
    Tell,
    VertexCompleted,
    VertexLog,
    VertexMiss,
    VertexStarted,
    VertexStatus,
)
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, CarrackError
from carrack.oci.digest import Digest

T = TypeVar("T")
STEPS = 16
"""How many steps run at the same time."""
LOOKS = 8
"""How many threads find out keys."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a vertex came to: a stack of layers (`chain_id`, None for an empty one), or a `tree` that is no stack."""

    chain_id: Digest | None = None
    tree: Tree | None = None
    content: str = ""
    """Names a tree's content; "": unknown, it has to be looked at."""
    key: str = ""
    """Of the record that holds it."""
    created: int = 0
    """When it was made, nanoseconds of the epoch; 0: unknown."""


class Workshop(Protocol):
    """What one build brings along for carrying out its vertices. Every method blocks."""

    def is_source(self, vertex: Vertex) -> bool:
        """Whether the vertex is found by itself, without key and cache."""

    def source(self, vertex: Vertex, tell: Tell, cancel: Cancellation) -> tuple[Result, bool]:
        """A source's result, and whether it was there already."""

    def content_of(self, vertex: Vertex, result: Result, selection: Selection | None, cancel: Cancellation) -> str:
        """The content of what a vertex reads of an input; at once without a selection."""

    def find(self, vertex: Vertex, key: Key) -> Result | None:
        """The result of an earlier step of that key."""

    def why(self, vertex: Vertex, key: Key) -> str:
        """Why there is none."""

    def work(self, vertex: Vertex, key: Key, inputs: Sequence[Result], tell: Tell, cancel: Cancellation) -> Result:
        """Carry an operation out and keep what it made under the key."""


class VertexFailed(CarrackError):
    """A vertex could not be carried out."""

    def __init__(self, vertex: Vertex, cause: CarrackError) -> None:
        super().__init__(cause.message)
        self.vertex = vertex
        self.cause = cause


class Solver:
    """The threads and the shared work of one daemon."""

    def __init__(self) -> None:
        self._steps = ThreadPoolExecutor(STEPS, thread_name_prefix="build-step")
        self._looks = ThreadPoolExecutor(LOOKS, thread_name_prefix="build-look")
        self._shared = _SharedWork()

    async def solve(self, targets: Sequence[Vertex], workshop: Workshop, tell: Tell, cancel: Cancellation) -> dict[str, Result]:
        """The results of the targets and of all they rest on, by the vertices' digests.

        Raises VertexFailed for the first that fails, the rest taken back by then, and Cancelled.
        """
        own = Cancellation()  # a failure takes back what is under way, without the build itself being cancelled
        with cancel.calling(own.cancel):
            job = _Job(self, workshop, tell, own)
            try:
                await asyncio.gather(*(job.result(vertex) for vertex in targets))
            except BaseException:
                await job.take_back()
                raise
            return job.results()

    async def step(self, function: Callable[[], T]) -> T:
        """Run a long piece of work in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._steps, function)

    async def look(self, function: Callable[[], T]) -> T:
        """Run a short one."""
        return await asyncio.get_running_loop().run_in_executor(self._looks, function)

    async def share(self, key: str, vertex: Vertex, tell: Tell, work: Callable[[Tell, Cancellation], Result]) -> Result:
        """Have work of a key done once, whoever else wants it now."""
        return await self._shared.run(key, vertex.digest, tell, lambda told, cancel: self.step(lambda: work(told, cancel)))

    def close(self) -> None:
        """Let the threads go once they are idle."""
        self._steps.shutdown(wait=False)
        self._looks.shutdown(wait=False)


class _Job:
    """One build's way through its graph."""

    def __init__(self, solver: Solver, workshop: Workshop, tell: Tell, cancel: Cancellation) -> None:
        self._solver = solver
        self._workshop = workshop
        self._tell = tell
        self._cancel = cancel
        self._tasks: dict[str, asyncio.Task[Result]] = {}

    async def result(self, vertex: Vertex) -> Result:
        task = self._tasks.get(vertex.digest)
        if task is None:
            task = self._tasks[vertex.digest] = asyncio.create_task(self._solve(vertex))
        return await asyncio.shield(task)

    def results(self) -> dict[str, Result]:
        return {digest: task.result() for digest, task in self._tasks.items() if task.done() and not task.exception()}

    async def take_back(self) -> None:
        """End everything that is under way, and wait until it has ended."""
        self._cancel.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _solve(self, vertex: Vertex) -> Result:
        found = await asyncio.gather(*(self._input(vertex, each) for each in vertex.inputs))
        inputs = [result for result, _ in found]
        self._cancel.check()
        started = VertexStarted(
            vertex.digest,
            vertex.shown.name,
            time.time_ns(),
            tuple(each.vertex.digest for each in vertex.inputs),
            vertex.shown.stage,
        )
        self._tell(started)
        try:
            contents = [_given(content) for _, content in found]
            result, cached = await self._carry_out(vertex, inputs, contents)
        except Cancelled:
            self._tell(VertexCompleted(vertex.digest, time.time_ns(), error="cancelled"))
            raise
        except CarrackError as error:
            self._tell(VertexCompleted(vertex.digest, time.time_ns(), error=error.message))
            raise error if isinstance(error, VertexFailed) else VertexFailed(vertex, error) from error
        self._tell(VertexCompleted(vertex.digest, time.time_ns(), cached=cached, result=str(result.chain_id or "")))
        return result

    async def _input(self, vertex: Vertex, wanted: Input) -> tuple[Result, str | CarrackError]:
        """An input's result, and the content of what a vertex reads of it: found out while its other inputs are still under way."""
        result = await self.result(wanted.vertex)
        try:
            if wanted.selection is None:
                return result, self._workshop.content_of(vertex, result, None, self._cancel)
            read = wanted.selection
            return result, await self._solver.look(lambda: self._workshop.content_of(vertex, result, read, self._cancel))
        except CarrackError as error:
            return result, error  # the failure of the vertex that reads, once its turn has come

    async def _carry_out(self, vertex: Vertex, inputs: Sequence[Result], contents: Sequence[str]) -> tuple[Result, bool]:
        workshop, cancel = self._workshop, self._cancel
        if workshop.is_source(vertex):
            return await self._solver.step(lambda: workshop.source(vertex, self._tell, cancel))
        key, found = await self._solver.look(lambda: self._look_up(vertex, contents))
        if found is not None:
            return found, True
        if not vertex.shown.no_cache:
            reason = await self._solver.look(lambda: workshop.why(vertex, key))
            self._tell(VertexMiss(vertex.digest, reason))
        shared_as = key.digest if not vertex.shown.no_cache else f"{key.digest} {id(self)}"
        result = await self._solver.share(
            shared_as, vertex, self._tell, lambda tell, stop: workshop.work(vertex, key, inputs, tell, stop)
        )
        return result, False

    def _look_up(self, vertex: Vertex, contents: Sequence[str]) -> tuple[Key, Result | None]:
        key = key_of(vertex.op, [(each.label, content) for each, content in zip(vertex.inputs, contents, strict=True)])
        return key, None if vertex.shown.no_cache else self._workshop.find(vertex, key)


def _given(content: str | CarrackError) -> str:
    if isinstance(content, CarrackError):
        raise content
    return content


class _Shared:
    """A piece of work under way, those who want it, and what it has told so far."""

    def __init__(self) -> None:
        self.cancel = Cancellation()
        self.task: asyncio.Task[Result] | None = None
        self.users = 0
        self._told: list[Event] = []
        self._listeners: list[tuple[str, Tell]] = []

    def listen(self, vertex: str, tell: Tell) -> None:
        for event in self._told:
            tell(_of(event, vertex))
        self._listeners = [*self._listeners, (vertex, tell)]

    def tell(self, event: Event) -> None:
        self._told.append(event)
        for vertex, tell in self._listeners:
            tell(_of(event, vertex))


class _SharedWork:
    """What runs now, by key. Lives on the event loop."""

    def __init__(self) -> None:
        self._running: dict[str, _Shared] = {}

    async def run(self, key: str, vertex: str, tell: Tell, work: Callable[[Tell, Cancellation], Awaitable[Result]]) -> Result:
        shared = self._running.get(key)
        if shared is None:
            shared = self._running[key] = _Shared()
            shared.listen(vertex, tell)
            shared.task = asyncio.ensure_future(_awaited(work(shared.tell, shared.cancel)))
            shared.task.add_done_callback(lambda _: self._forget(key, shared))
        else:
            shared.listen(vertex, tell)
        shared.users += 1
        task = shared.task
        assert task is not None
        try:
            return await asyncio.shield(task)
        finally:
            shared.users -= 1
            if not shared.users and not task.done():
                self._forget(key, shared)  # whoever comes now begins anew
                shared.cancel.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _forget(self, key: str, shared: _Shared) -> None:
        if self._running.get(key) is shared:
            del self._running[key]


async def _awaited(work: Awaitable[Result]) -> Result:
    return await work


def _of(event: Event, vertex: str) -> Event:
    """The event as one of another build's vertex: the same key may have another definition there."""
    if isinstance(event, (VertexStatus, VertexLog, VertexCompleted, VertexMiss, VertexStarted)):
        return replace(event, vertex=vertex)
    return event

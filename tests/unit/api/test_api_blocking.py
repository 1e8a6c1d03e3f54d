"""The crossing between the loop and threads: order, errors, and an early end on either side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from carrack.api.blocking import BlockingReader, in_steps, in_thread
from carrack.errors import InvalidParameter


def test_steps_come_in_order_and_run_in_threads() -> None:
    threads = set()

    def count() -> Iterator[int]:
        for number in range(3):
            threads.add(threading.get_ident())
            yield number

    async def main() -> list[int]:
        return [item async for item in in_steps(count())]

    assert asyncio.run(main()) == [0, 1, 2]
    assert threading.get_ident() not in threads


def test_what_a_step_raises_is_raised_on_the_loop() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise InvalidParameter("no")

    async def main() -> None:
        async for _ in in_steps(fail()):
            pass

    with pytest.raises(InvalidParameter, match="no"):
        asyncio.run(main())


def test_a_reader_that_leaves_closes_the_iterator() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    async def main() -> None:
        steps = in_steps(endless())
        assert await anext(steps) == 1
        await steps.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert closed.is_set()


def test_a_reader_that_is_cancelled_within_a_step_closes_the_iterator_after_it() -> None:
    inside, go, closed = threading.Event(), threading.Event(), asyncio.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def slow() -> Iterator[int]:
            try:
                inside.set()
                assert go.wait(20)
                yield 1
            finally:
                loop.call_soon_threadsafe(closed.set)

        async def read() -> None:
            async for _ in in_steps(slow()):
                pass

        reading = asyncio.create_task(read())
        await in_thread(inside.wait, 20)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not closed.is_set()
        go.set()
        await asyncio.wait_for(closed.wait(), 20)

    asyncio.run(main())


def test_a_body_is_read_in_a_thread_piece_by_piece() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(0)
        yield b"two"

    async def main() -> list[bytes]:
        return await in_thread(list, BlockingReader(body()))

    assert asyncio.run(main()) == [b"one", b"two"]


def test_what_a_body_raises_is_raised_in_the_thread() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise InvalidParameter("unexpected EOF")

    async def main() -> None:
        await in_thread(list, BlockingReader(body()))

    with pytest.raises(InvalidParameter, match="unexpected EOF"):
        asyncio.run(main())


def test_streams_of_slow_clients_leave_the_pool_free() -> None:
    go = threading.Event()

    def wait() -> Iterator[bool]:
        yield go.wait(20)

    async def main() -> list[bool]:
        steps = [in_steps(wait()) for _ in range(40)]
        first = [asyncio.ensure_future(anext(step)) for step in steps]
        await asyncio.sleep(0)
        await in_thread(go.set)
        return await asyncio.gather(*first)

    assert all(asyncio.run(main()))

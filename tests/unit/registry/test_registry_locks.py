"""The locks between processes on one store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carrack.oci.digest import Digest
from carrack.registry.storage import locks as locks_module
from carrack.registry.storage.locks import Locks


def test_whoever_wants_a_repository_for_itself_is_not_kept_out_by_those_who_share_it(tmp_path: Path) -> None:
    locks = Locks(str(tmp_path))
    done, shared = threading.Event(), threading.Semaphore(0)

    def share() -> None:
        pause = threading.Event()
        while not done.is_set():
            with locks.repository("a", exclusive=False):
                shared.release()
                pause.wait(0.005)  # long enough for the other sharers' turns to overlap

    threads = [threading.Thread(target=share) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        assert shared.acquire(timeout=10)
    entered = threading.Event()

    def take() -> None:
        with locks.repository("a", exclusive=True):
            entered.set()

    taker = threading.Thread(target=take)
    taker.start()
    was_in_time = entered.wait(5)
    done.set()
    for thread in (*threads, taker):
        thread.join()
    assert was_in_time


def test_two_repositories_are_taken_in_one_order_and_a_shared_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two mounts in opposite directions, or one between names that share a file, would wait behind a push for ever."""
    taken: list[str] = []

    @contextmanager
    def record(path: str, _operation: int, _turnstile: str = "") -> Iterator[None]:
        taken.append(path)
        yield

    monkeypatch.setattr(locks_module, "_held", record)
    locks = Locks(str(tmp_path))
    orders = []
    for pair in (("a", "b"), ("b", "a")):
        with locks.two_repositories(*pair):
            orders.append(tuple(taken))
        taken.clear()
    assert orders[0] == orders[1]
    assert len(orders[0]) == 2
    by_file: dict[str, str] = {}
    for name in map(str, range(10_000)):
        with locks.repository(name, exclusive=False):
            twin = by_file.setdefault(taken.pop(), name)
        if twin != name:
            break
    with locks.two_repositories(name, twin):
        assert len(taken) == 1


def test_an_exclusive_holder_is_alone(tmp_path: Path) -> None:
    locks, inside = Locks(str(tmp_path)), threading.Event()
    digest = Digest.of(b"x")

    def enter() -> None:
        with locks.content(digest, exclusive=False):
            inside.set()

    with locks.content(digest, exclusive=True):
        thread = threading.Thread(target=enter)
        thread.start()
        assert not inside.wait(0.05)
    assert inside.wait(10)
    thread.join()

"""The locks between processes on one store."""

from __future__ import annotations

import threading
from pathlib import Path

from carrack.oci.digest import Digest
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

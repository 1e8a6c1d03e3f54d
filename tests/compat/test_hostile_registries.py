"""Registries that hold their clients up: whoever asks them waits, and nobody else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.rig.engine import Engine

CLIENTS = 8
"""With three orders each, more than the daemon has threads for short work."""


@pytest.fixture
def silent() -> Iterator[str]:
    """A registry that takes every connection and says nothing."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.close()


@pytest.mark.peer_lacks("it is our number of threads")
@pytest.mark.observes("POST /auth", "GET /distribution/{name}/json", "GET /images/search", "POST /images/create")
def test_a_registry_that_does_not_answer_holds_up_who_asked_it_and_nobody_else(engine: Engine, silent: str) -> None:
    login = {"serveraddress": silent, "username": "a", "password": "b"}
    orders: list[tuple[str, str, object]] = [
        ("POST", "/auth", login),
        ("GET", f"/distribution/{silent}/a/json", None),
        ("GET", f"/images/search?term={silent}/a", None),
        ("POST", f"/images/create?fromImage={silent}/a&tag=1", None),
    ]
    begun = threading.Barrier(CLIENTS * len(orders) + 1)

    def ask(method: str, target: str, body: object) -> None:
        begun.wait()
        with suppress(OSError):
            engine.api(method, target, body, timeout_seconds=4)

    askers = [threading.Thread(target=ask, args=order) for order in orders * CLIENTS]
    for asker in askers:
        asker.start()
    begun.wait()
    with suppress(OSError):  # so that theirs are under way
        engine.api("GET", f"/distribution/{silent}/b/json", timeout_seconds=0.3)
    made = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]}, timeout_seconds=3)
    assert made.status == 201
    for asker in askers:
        asker.join()

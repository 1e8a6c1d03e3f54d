"""Clients that ask and never read: what they cost is bounded, and nobody else notices them."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine
from tests.rig.waiting import until

CLIENTS = 50
MOST_BYTES = 100_000_000
REQUESTS = (
    "GET /containers/noisy/logs?follow=1&stdout=1 HTTP/1.1",
    "GET /containers/noisy/stats HTTP/1.1",
    "GET /events HTTP/1.1",
    "POST /containers/noisy/attach?stream=1&stdout=1 HTTP/1.1",
    "GET /containers/noisy/archive?path=/bin HTTP/1.1",
)


@contextmanager
def stalled(engine: Engine) -> Iterator[None]:
    """As many clients as the issue names, of every kind, that send a request and read nothing."""
    clients = []
    for number in range(CLIENTS):
        client = socket.socket(socket.AF_UNIX)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(str(engine.socket))
        client.sendall(f"{REQUESTS[number % len(REQUESTS)]}\r\nHost: docker\r\n\r\n".encode())
        clients.append(client)
    try:
        yield
    finally:
        for client in clients:
            client.close()


def held_bytes(engine: Engine) -> int:
    """The memory of the daemon and all its helpers."""
    total = 0
    for pid in engine.own_processes():
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


@pytest.mark.observes("GET /containers/{id}/logs", "GET /containers/{id}/stats", "GET /events", "POST /containers/{id}/attach")
def test_stalled_clients_are_bounded_and_unnoticed(cli: CommandLine, request: pytest.FixtureRequest) -> None:
    if cli.engine.kind == "dockerd":
        pytest.skip("about what Carrack keeps in memory")
    flags = ("--log-opt", "max-size=1m", "--log-opt", "max-file=2", "--cpus", "0.3")
    cli.ok("run", "-d", "--name", "noisy", *flags, "busybox", "sh", "-c", "yes a line of some length that goes on and on")
    until(lambda: len(cli.ok("logs", "--tail", "5", "noisy")) > 50, "it to make noise")
    before = held_bytes(cli.engine)
    ends = time.monotonic() + (60 if request.config.getoption("--full") else 6)
    slowest = 0.0
    with stalled(cli.engine):
        while time.monotonic() < ends:
            begun = time.monotonic()
            cli.ok("run", "--rm", "busybox", "true")
            assert len(cli.ok("logs", "--tail", "5", "noisy").splitlines()) == 5
            slowest = max(slowest, time.monotonic() - begun)
        assert held_bytes(cli.engine) - before < MOST_BYTES
    assert slowest < 5  # of a busy test machine; a client that waits for another waits for ever
    until(lambda: held_bytes(cli.engine) - before < MOST_BYTES // 3, "their memory to come back")

"""Clients that ask and never read: what they cost is bounded, and nobody else notices them."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def descriptors(engine: Engine) -> int:
    """How many the daemon and all its helpers hold."""
    total = 0
    for pid in engine.own_processes():
        with suppress(OSError):
            total += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return total


@pytest.mark.observes("POST /containers/{id}/attach", "POST /exec/{id}/start", "POST /exec/{id}/resize")
def test_clients_that_go_in_the_middle_leave_nothing_behind(cli: CommandLine) -> None:
    """CVE-2022-23471, CVE-2022-31030: a terminal that is resized or written to when its client has gone."""
    engine = cli.engine
    cli.ok("run", "-dit", "--name", "stays", "busybox", "sh", "-c", "while :; do echo x; sleep 0.05; done")
    cli.ok("exec", "stays", "true")
    before, held = descriptors(engine), held_bytes(engine)
    for number in range(60):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(engine.socket))
            if number % 2:
                client.sendall(
                    b"POST /containers/stays/attach?stream=1&stdin=1&stdout=1&logs=1 HTTP/1.1\r\nHost: d\r\n\r\nhalf a li"
                )
            else:
                wanted = {"Cmd": ["cat"], "Tty": True, "AttachStdin": True, "AttachStdout": True}
                path = f"/exec/{engine.api('POST', '/containers/stays/exec', wanted).json['Id']}"
                kind = "Content-Type: application/json\r\nContent-Length: 12"
                client.sendall(f'POST {path}/start HTTP/1.1\r\nHost: d\r\n{kind}\r\n\r\n{{"Tty":true}}'.encode())
                client.recv(1)
                engine.api("POST", f"{path}/resize?h=9&w=9")
        engine.api("POST", "/containers/stays/resize?h=9&w=9")
    cli.ok("exec", "stays", "killall", "-9", "cat")  # an exec outlives its client, as with Docker
    until(lambda: descriptors(engine) <= before + 8, "their descriptors to be closed", timeout_seconds=10)
    assert held_bytes(engine) - held < 20_000_000
    assert cli.ok("exec", "stays", "echo", "well") == "well"

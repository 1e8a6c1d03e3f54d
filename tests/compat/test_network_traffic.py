"""Traffic that goes on: while containers join and leave networks, while carrackd restarts, and while it is dead."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self
from urllib.request import urlopen

import pytest

from tests.conftest import EnginePool
from tests.rig.engine import CommandLine, docker_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("its name server and its port proxies are the daemon's own")
_ECHO = "nc -ll -p 90 -e cat & echo served > /index.html; exec httpd -f -p 80 -h /"
_LOOKUPS = """
i=0
while [ ! -e /stop ]; do
    nslookup web 127.0.0.11 >/dev/null 2>&1 || echo "web at $i" >> /failed
    [ $i -lt 200 ] && { nslookup first-$i 127.0.0.11 >/dev/null 2>&1 || echo "first-$i" >> /failed; }
    i=$((i + 1))
    echo $i > /asked
done
touch /done
exec sleep 1000
"""
"""Names that were asked before, and 200 that are asked for the first time, one in each round."""


class Caller:
    """Opens one new connection after the other and counts what failed."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._ask()
                self.answered += 1
            except Exception as error:  # the root of a thread: whatever it is, it is a failure  # noqa: BLE001
                self.failures.append(f"{time.monotonic():.3f} {type(error).__name__}: {error}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def fetch(url: str) -> None:
    with urlopen(url, timeout=20) as answer:
        assert answer.read() == b"served\n"


@pytest.fixture
def own(engine_pool: EnginePool, engine_kind: str) -> Iterator[CommandLine]:
    engine = engine_pool.build(engine_kind)
    try:
        engine_pool.start(engine)
        yield CommandLine(engine, [docker_program()])
    finally:
        engine.close()


@contextmanager
def echoing(port: int) -> Iterator[Callable[[], None]]:
    """A connection that stays open; what it yields sends a word through and back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as established:

        def there_and_back() -> None:
            established.sendall(b"word\n")
            assert established.recv(100) == b"word\n"

        yield there_and_back


@pytest.mark.observes("docker run --publish", "docker run --network", "docker run --network-alias")
def test_no_connection_and_no_look_up_fails_while_the_daemon_restarts_or_is_dead(own: CommandLine, free_port: FreePort) -> None:
    port, echo = free_port(), free_port()
    own.ok("network", "create", "mine")
    own.ok("run", "-d", "--name", "web", "--network", "mine", "-p", f"{port}:80", "-p", f"{echo}:90", "busybox", "sh", "-c", _ECHO)
    aliases = [word for number in range(200) for word in ("--network-alias", f"first-{number}")]
    own.ok("run", "-d", "--name", "named", "--network", "mine", *aliases, "busybox", "sleep", "1000")
    until(lambda: answers(f"http://127.0.0.1:{port}/"), "the server to listen")
    until(lambda: answers(f"http://[::1]:{port}/"), "the relay to serve")
    own.ok("run", "-d", "--name", "asker", "--network", "mine", "busybox", "sh", "-c", _LOOKUPS)
    until(lambda: asked(own) > 5, "look-ups")
    with (
        Caller(lambda: fetch(f"http://127.0.0.1:{port}/")) as by4,
        Caller(lambda: fetch(f"http://[::1]:{port}/")) as by6,
        echoing(echo) as there_and_back,
        Caller(there_and_back) as established,
    ):
        callers = (by4, by6, established)
        for end in (own.engine.stop, own.engine.kill, own.engine.stop):
            end()
            gone_on(own, callers)
            own.engine.start()
            gone_on(own, callers)
    assert [failure for caller in callers for failure in caller.failures] == []
    own.ok("exec", "asker", "touch", "/stop")
    until(lambda: own("exec", "asker", "test", "-e", "/done").code == 0, "the last look-up")
    assert own("exec", "asker", "cat", "/failed").text == ""


def answers(url: str) -> bool:
    try:
        fetch(url)
    except (OSError, AssertionError):
        return False
    return True


def asked(cli: CommandLine) -> int:
    """How many rounds of look-ups there were; told by the file, for the daemon may be away."""
    if cli.engine.process is None:
        return -1
    said = cli("exec", "asker", "cat", "/asked").text
    return int(said or 0)


def gone_on(cli: CommandLine, callers: tuple[Caller, ...]) -> None:
    """Wait until everybody has got twenty answers more."""
    before = [caller.answered for caller in callers]
    until(
        lambda: all(caller.answered >= count + 20 or caller.failures for caller, count in zip(callers, before, strict=True)),
        "answers",
    )
    if cli.engine.process is not None:
        rounds = asked(cli)
        until(lambda: asked(cli) > rounds + 3, "look-ups")


@pytest.mark.observes("docker network connect", "docker network disconnect")
def test_a_container_joins_and_leaves_other_networks_without_harm_to_its_traffic(own: CommandLine, free_port: FreePort) -> None:
    port, echo = free_port(), free_port()
    for name in ("mine", "other", "third"):
        own.ok("network", "create", name)
    own.ok("run", "-d", "--name", "web", "--network", "mine", "-p", f"{port}:80", "-p", f"{echo}:90", "busybox", "sh", "-c", _ECHO)
    own.ok("run", "-d", "--name", "peer", "--network", "other", "busybox", "sleep", "1000")
    until(lambda: answers(f"http://127.0.0.1:{port}/"), "the server to listen")
    with (
        Caller(lambda: fetch(f"http://127.0.0.1:{port}/")) as by4,
        Caller(lambda: fetch(f"http://[::1]:{port}/")) as by6,
        echoing(echo) as there_and_back,
        Caller(there_and_back) as established,
    ):
        for _ in range(3):
            own.ok("network", "connect", "--alias", "front", "other", "web")
            assert own("exec", "peer", "ping", "-c", "1", "-W", "5", "front").code == 0
            own.ok("network", "connect", "third", "web")
            own.ok("network", "disconnect", "other", "web")
            assert own("exec", "peer", "ping", "-c", "1", "-W", "1", "front").code != 0
            own.ok("network", "disconnect", "third", "web")
    assert by4.failures + by6.failures + established.failures == []
    assert min(by4.answered, by6.answered, established.answered) > 20

"""Eight clients do whatever they like while daemon, zygote, shims, workers and names processes are killed under them. Ten minutes
with --full."""

import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.carrackd import Carrackd
from tests.rig.commands import run
from tests.rig.engine import carrack_program
from tests.rig.leaks import settled
from tests.rig.soak import Client, totals
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("these are our processes")

CLIENTS, SHORT_SECONDS, FULL_SECONDS = 8, 5, 600
SERVANTS = ("carrack-zygote", "carrack-shim", "carrack-worker", "carrack-names")


@pytest.mark.timeout(1800)
def test_whoever_is_killed_nothing_acknowledged_is_lost_and_nothing_stays(
    make_engine: MakeEngine, request: pytest.FixtureRequest, registry: str
) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    seed = int(os.environ.get("CARRACK_SOAK_SEED", "1"))
    chance = random.Random(seed)
    for body in ({"Image": "busybox", "Cmd": ["true"]},):  # what an engine makes once: its cgroup, its bridge
        made = engine.api("POST", "/containers/create?name=first", body)
        assert engine.api("POST", f"/containers/{made.json['Id']}/start").status == 204
        assert engine.api("DELETE", "/containers/first?force=1").status == 204
    traces = engine.traces()
    stop = threading.Event()
    clients = [Client(engine, number, seed, registry, stop) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    ends = time.monotonic() + (FULL_SECONDS if request.config.getoption("--full") else SHORT_SECONDS)
    while time.monotonic() < ends:
        stop.wait(chance.uniform(0.5, 3))
        _kill_something(engine, chance)
    stop.set()
    for client in clients:
        client.join(90)
        assert not client.is_alive(), f"{client.name} waits for an answer"
    engine.kill()
    engine.start()
    print(totals(clients))
    lost = [line for client in clients for line in client.account()]
    assert not lost, lost
    engine.sweep(frozenset(row["Id"] for row in engine.api("GET", "/images/json").json if "busybox:latest" in row["RepoTags"]))
    left = settled(set(), look=lambda: _left(engine, traces))
    assert not left, sorted(left)
    assert os.listdir(engine.data_root / "containers") == []
    assert os.listdir(engine.data_root / "volumes") == []
    assert os.listdir(engine.exec_root / "shims") == []
    places = ["--data-root", str(engine.data_root), "--exec-root", str(engine.exec_root), "--instance", engine.token]
    until(
        lambda: not run([carrack_program(), "system", "fsck", "--json", *places], env=engine.env()).stdout,
        "fsck to find nothing",
    )


def _kill_something(engine: Carrackd, chance: random.Random) -> None:
    """Half of the time the daemon, else one of those that serve it."""
    if chance.random() < 0.5:
        engine.kill()
        engine.start()
        return
    wanted = chance.choice(SERVANTS)
    found = [pid for pid in sorted(engine.own_processes()) if wanted in _title(pid)]
    if found:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)


def _left(engine: Carrackd, before: set[str]) -> set[str]:
    """What is there and was not; without the daemon and the zygote, which others have replaced, and who answers names."""
    found = engine.traces() - before
    assert engine.process is not None
    serving = [f"process {pid}" for pid in engine.own_processes() if any(each in _title(pid) for each in SERVANTS[::3])]
    return found - {f"process {engine.process.pid}", *serving}


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text() + Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""

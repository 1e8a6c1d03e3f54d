"""Create, start, exec, kill, remove, over and over: nothing is left, and nobody grows. 2000 times with --full."""

import os
import time
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.carrackd import Carrackd
from tests.rig.engine import Engine
from tests.rig.leaks import settled
from tests.rig.waiting import until

SHORT, FULL = (30, 60), (1000, 2000)
"""Cycles to warm up, and cycles to measure. Only after a thousand is everything as large as it gets: 500 execs that ended are
remembered, and Python's table of interned strings, which `pathlib` adds to with each name, has doubled for once (0.9 MB)."""
GROWTH_KILOBYTES = 1000
"""What daemon and zygote together may grow after the warm-up: caches of the allocator, no more."""


@pytest.mark.peer_lacks("it is ours that is counted")
@pytest.mark.timeout(1800)
def test_nothing_is_left_of_many_containers_and_memory_stays(make_engine: MakeEngine, request: pytest.FixtureRequest) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    warm_up, count = FULL if request.config.getoption("--full") else SHORT
    for number in range(warm_up):
        _cycle(engine, number)
    traces, before = engine.traces(), _sizes(engine)
    for number in range(count):
        _cycle(engine, number)
    left = settled(traces, look=engine.traces)
    assert not left, f"processes, mounts, cgroups or links are left: {sorted(left)}"
    allowed = {**before, "kilobytes": before["kilobytes"] + GROWTH_KILOBYTES}
    after = _settled_sizes(engine, allowed)
    assert all(after[what] <= most for what, most in allowed.items()), (before, after)
    assert os.listdir(engine.data_root / "containers") == []
    assert os.listdir(engine.exec_root / "shims") == []


def _cycle(engine: Engine, number: int) -> None:
    """One container's life, in turn with a terminal, a volume, limits, a network of none."""
    kinds: list[dict[str, object]] = [{}, {"Binds": ["/data"]}, {"Memory": 64 << 20, "PidsLimit": 50}]
    kinds.append({"NetworkMode": "none", "ReadonlyRootfs": True})
    host = kinds[number % len(kinds)]
    wish = {"Image": "busybox", "Cmd": ["sleep", "1000"], "Tty": number % 5 == 0, "HostConfig": host}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    session = engine.api("POST", f"/containers/{container}/exec", {"Cmd": ["true"]}).json["Id"]
    assert engine.api("POST", f"/exec/{session}/start", {"Detach": True}).status == 200
    until(lambda: not engine.api("GET", f"/exec/{session}/json").json["Running"], "the exec to end")
    assert engine.api("POST", f"/containers/{container}/kill").status == 204
    assert engine.api("DELETE", f"/containers/{container}?v=1&force=1").status == 204


def _settled_sizes(engine: Carrackd, allowed: dict[str, int]) -> dict[str, int]:
    """The sizes once they are within bounds, or the last that were seen: what just ends counts for a moment longer."""
    deadline = time.monotonic() + 20
    while True:
        found = _sizes(engine)
        if all(found[what] <= most for what, most in allowed.items()) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _sizes(engine: Carrackd) -> dict[str, int]:
    """Of the daemon and all that serves it: open descriptors, kilobytes of memory, and namespaces beside the host's.

    All anonymous memory, shared or not: a shim that is just about to leave shares the zygote's, whose part (PSS) halves meanwhile.
    """
    found = {"descriptors": 0, "kilobytes": 0}
    spaces: set[str] = set()
    for pid in engine.own_processes():
        try:
            found["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            spaces |= {os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "net", "ipc", "uts", "pid", "user")}
        except OSError:
            continue  # it has ended
        found["kilobytes"] += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return {**found, "namespaces": len(spaces)}

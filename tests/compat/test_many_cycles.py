"""Create, start, exec, kill, remove, over and over: nothing is left, and nobody grows. 2000 times with --full."""

import os
import re
import statistics
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.carrackd import Carrackd
from tests.rig.engine import Engine
from tests.rig.leaks import settled
from tests.rig.waiting import until

WARM_UP, SHORT, FULL = 30, 60, 2000
QUARTER_KILOBYTES, WHOLE_KILOBYTES = 200, 4000
"""What daemon and zygote together may grow in a quarter of the cycles, and in all of them.

The allocators take memory by the megabyte, so a quarter in which a step falls says nothing: of the four the middle counts. What a
leak loses, it loses in each.
"""


@pytest.mark.peer_lacks("it is ours that is counted")
@pytest.mark.timeout(1800)
def test_nothing_is_left_of_many_containers_and_memory_stays(make_engine: MakeEngine, request: pytest.FixtureRequest) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    for number in range(WARM_UP):
        _cycle(engine, number)
    traces, opened, spaces, sizes = engine.traces(), _descriptors(engine), _namespaces(engine), [_kilobytes(engine)]
    for quarter in range(4):
        count = (FULL if request.config.getoption("--full") else SHORT) // 4
        for number in range(quarter * count, quarter * count + count):
            _cycle(engine, number)
        until(lambda: _descriptors(engine) <= opened, f"no more descriptors; more are {_descriptors(engine) - opened}")
        sizes.append(_kilobytes(engine))
    left = settled(traces, look=engine.traces)
    assert not left, f"processes, mounts, cgroups or links are left: {sorted(left)}"
    assert _namespaces(engine) <= spaces
    growths = [after - earlier for earlier, after in pairwise(sizes)]
    assert statistics.median(growths) <= QUARTER_KILOBYTES, sizes
    assert sizes[-1] <= sizes[0] + WHOLE_KILOBYTES, sizes
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


def _descriptors(engine: Carrackd) -> Counter[str]:
    """What daemon and zygote have open, by path or kind."""
    found: Counter[str] = Counter()
    for pid in engine.own_processes():
        folder = Path(f"/proc/{pid}/fd")
        with suppress(OSError):  # it has ended
            for name in os.listdir(folder):
                with suppress(FileNotFoundError):  # the look's own
                    found[re.sub(r"\[\d+\]", "", os.readlink(folder / name))] += 1
    return found


def _kilobytes(engine: Carrackd) -> int:
    """All anonymous memory, shared or not (PSS halves while a shim that is about to leave shares the zygote's)."""
    found = 0
    for pid in engine.own_processes():
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            found += next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    return found


def _namespaces(engine: Carrackd) -> set[str]:
    found: set[str] = set()
    for pid in engine.own_processes():
        with suppress(OSError):
            found |= {os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "net", "ipc", "uts", "pid", "user")}
    return found

"""How builds end that do not end well: the client leaves, the build is cancelled, the daemon is killed. Nothing stays behind."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import MakeEngine
from tests.rig.builds import BuildStream, build, context, printed, try_build
from tests.rig.commands import run
from tests.rig.engine import Engine, carrack_program
from tests.rig.leaks import CGROUP_ROOT
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("these tests look into the folders of carrackd")

SLOW = "FROM busybox\nRUN echo made > /first\nRUN echo at-$((6*7)); sleep 600\n"


def step_groups(engine: Engine) -> list[str]:
    """The cgroups of running steps."""
    return [str(path) for path in CGROUP_ROOT.glob(f"pids/carrack-{engine.token}/*") if path.is_dir() and len(path.name) == 64]


def leftovers(engine: Engine) -> list[str]:
    """What a build must not leave: folders of steps and contexts, half-made layers, cgroups, mounts, sockets."""
    root = engine.data_root
    found = [str(path) for path in (root / "containers").iterdir()]
    found += [str(path) for path in (root / "layers").glob("new-*")]
    found += [str(path) for path in (root / "build").glob("context-*")]
    found += [str(path) for path in (engine.exec_root / "shims").glob("*.sock")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(engine.folder) in line]
    return found + step_groups(engine)


Begin = Callable[..., BuildStream]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begins builds, and closes their streams at the end."""
    with ExitStack() as stack:
        yield lambda *args, **query: stack.enter_context(BuildStream(*args, **query))


@pytest.fixture
def own(make_engine: MakeEngine) -> Engine:
    return make_engine()


@pytest.mark.observes("POST /build")
def test_a_client_that_leaves_takes_its_build_with_it(own: Engine, begin: Begin) -> None:
    stream = begin(own, SLOW)
    stream.until("at-42")
    assert step_groups(own)
    stream.close()
    until(lambda: not leftovers(own), "the step to be gone")
    again = build(own, "FROM busybox\nRUN echo made > /first\nRUN cat /first\n")
    assert printed(again) == ["made"]
    assert again.cached == 1


@pytest.mark.observes("POST /build/cancel")
def test_a_build_is_cancelled_by_its_id(own: Engine, begin: Begin) -> None:
    stream = begin(own, SLOW, buildid="mine")
    stream.until("at-42")
    assert own.api("POST", "/build/cancel?id=mine").status == 200
    assert "cancelled" in stream.rest()
    until(lambda: not leftovers(own), "the step to be gone")
    stream.close()
    assert own.api("POST", "/build/cancel").status == 400


def test_two_builds_share_a_step_and_one_may_leave(own: Engine, begin: Begin) -> None:
    dockerfile = "FROM busybox\nRUN mkfifo /pipe; echo waiting-$((6*7)); sleep 1; echo done\n"
    first, second = begin(own, dockerfile), begin(own, dockerfile)
    first.until("waiting-42")
    second.until("waiting-42")
    assert len(step_groups(own)) == 1
    first.close()
    assert "Successfully built" in second.rest()
    second.close()


STAGES = {
    "while a step runs": (SLOW, "at-42"),
    "while stages run side by side": (
        "FROM busybox AS a\nRUN echo at-$((6*7)); sleep 600\nFROM busybox\nRUN sleep 600\nCOPY --from=a /x /x\n",
        "at-42",
    ),
    "between two steps": ("FROM busybox\nRUN echo one > /1\nRUN echo two > /2; echo at-$((6*7))\nRUN sleep 600\n", "at-42"),
}


@pytest.mark.parametrize("moment", STAGES)
def test_a_killed_daemon_leaves_nothing_and_the_next_build_is_right(own: Engine, begin: Begin, moment: str) -> None:
    dockerfile, words = STAGES[moment]
    stream = begin(own, dockerfile, {"f": "x" * 100_000})
    stream.until(words)
    own.kill()
    stream.close()
    until(lambda: not step_groups(own), "the steps to end with their daemon")
    own.start()
    assert leftovers(own) == []
    built = build(own, "FROM busybox\nRUN echo made > /first\nRUN cat /first; ls /pipe /1 2>/dev/null | wc -l\n")
    assert printed(built) == ["made", "0"]


MANY = """FROM busybox AS one
RUN i=0; while [ $i -lt 300 ]; do echo $i > /one-$i; i=$((i+1)); done
FROM busybox AS two
RUN --mount=type=cache,target=/keep echo x >> /keep/f; head -c 3000000 /dev/zero > /two
FROM busybox
COPY . /context
ADD archive.tar /unpacked/
COPY --link --from=one /one-7 /linked/
COPY --from=two /two /two
RUN cat /linked/one-7 > /seven; rm /two
"""


def test_a_daemon_that_is_killed_at_any_instant_of_a_build_leaves_nothing(own: Engine, pytestconfig: pytest.Config) -> None:
    """At random instants from a fixed seed: each begins where the last one was cut off, so that every step is cut at some time."""
    chance = random.Random(5)
    files: dict[str, str | bytes] = {f"d{number % 7}/f{number}": str(number) * 50 for number in range(300)} | {
        "archive.tar": context("FROM x\n")
    }
    for turn in range(20 if pytestconfig.getoption("--full") else 2):
        dockerfile = MANY + f"RUN echo {turn} > /turn\n"
        body = Thread(target=_lost, args=(own, dockerfile, files))
        body.start()
        body.join(chance.uniform(0, 1.2))
        own.kill()
        body.join()
        until(lambda: not step_groups(own), "the steps to end with their daemon")
        own.start()
        assert leftovers(own) == [], f"turn {turn}"
        until(lambda: not fsck(own), f"nothing to be strange in turn {turn}, and the trash to be taken out")
    built = build(own, MANY + "RUN cat /seven /context/d1/f1; ls /unpacked; test -e /two || echo gone\n", files)
    assert printed(built)[-4:] == ["7", "1" * 50 + "Dockerfile", "gone"][-4:]


def _lost(engine: Engine, dockerfile: str, files: dict[str, str | bytes]) -> None:
    """A build whose daemon may go away under it."""
    with suppress(OSError, HTTPException, AssertionError, ValueError):
        try_build(engine, dockerfile, files)


def fsck(engine: Engine) -> str:
    """What `carrack system fsck` finds, of layers, builds, contexts and blobs."""
    places = ["--data-root", str(engine.data_root), "--exec-root", str(engine.exec_root), "--instance", engine.token]
    return run([carrack_program(), "system", "fsck", "--json", *places], env=engine.env()).stdout


def test_the_cache_survives_a_restart(own: Engine) -> None:
    dockerfile = "FROM busybox\nCOPY f /f\nRUN date > /when\n"
    first = build(own, dockerfile, {"f": "x"})
    own.stop()
    own.start()
    second = build(own, dockerfile, {"f": "x"})
    assert (second.cached, second.image) == (2, first.image)
    own.kill()
    own.start()
    assert build(own, dockerfile, {"f": "x"}).image == first.image


@pytest.mark.observes("POST /build/prune", "docker builder prune")
def test_a_prune_removes_what_no_image_holds(own: Engine) -> None:
    built = build(own, "FROM busybox\nRUN head -c 300000 /dev/zero > /a\n")
    own.api("DELETE", f"/images/{built.image}?force=1")
    usage = own.api("GET", "/system/df").json["BuildCache"]
    assert [(row["Size"], row["Shared"], row["InUse"]) for row in usage] == [(300000, False, False)]
    pruned = own.api("POST", "/build/prune").json
    assert pruned["SpaceReclaimed"] >= 300000
    assert len(pruned["CachesDeleted"]) == 1
    assert own.api("GET", "/system/df").json["BuildCache"] == []
    until(lambda: len(os.listdir(own.data_root / "layers")) == 1, "the layer to be gone")


def test_a_prune_takes_nothing_from_a_running_build(own: Engine, begin: Begin) -> None:
    stream = begin(own, "FROM busybox\nRUN echo kept > /k\nRUN echo at-$((6*7)); sleep 1; cat /k\n")
    stream.until("at-42")
    own.api("POST", "/build/prune?all=1")
    assert "kept" in stream.rest()
    stream.close()

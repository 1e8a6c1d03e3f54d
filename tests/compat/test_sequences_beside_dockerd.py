"""Calls of a container's life in any order, legal or not: answered as dockerd answers them, with the same states and events.

A seed is a sequence. Both engines make each step at the same time, and the next comes when their states agree.
"""

import json
import random
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.conftest import EnginePool
from tests.rig.beside import VERSION, Pair, empty, plain
from tests.rig.engine import ROOT, Engine
from tests.rig.waiting import until

IN_SHORT, IN_FULL = range(3), range(3, 60)
PROGRAMS = {
    "sleeps": ["sleep", "1000"],
    "obeys": ["sh", "-c", "trap 'exit 7' TERM; trap 'exit 9' USR1; while :; do sleep 0.05; done"],
    "ends": ["true"],
    "fails": ["sh", "-c", "exit 3"],
    "is not there": ["/nope"],
}
LATER_WORDS = (
    (re.compile(r"[Yy]ou cannot remove an? \w+ container"), "container is"),
    (re.compile(r"The linux daemon does not support signal \d+"), "does not support signal"),
    (re.compile(r"[Ii]nvalid signal: "), "invalid signal: "),
    (re.compile(r"cannot kill container: \w+: No such container"), "does not support signal"),
    (re.compile(r"is not connected to the network"), "is not connected to network"),
    (re.compile(r"endpoint \w+ not found"), "no such container"),
)
"""What dockerd 20.10 says, and what Carrack says instead: a later Docker's words, or the first of two things that are wrong."""


class Step(NamedTuple):
    """One call."""

    method: str
    target: str
    body: Any = None


class Answer(NamedTuple):
    """What came of it."""

    status: int
    text: str


@pytest.fixture(scope="module")
def pair(engine_pool: EnginePool) -> Iterator[Pair]:
    """Both engines, each on its own."""
    if not (ROOT / ".peer/usr/sbin/dockerd").exists():
        subprocess.run([ROOT / "scripts/peer"], check=True, stdout=subprocess.DEVNULL)
    ours, theirs = engine_pool.build("carrackd"), engine_pool.build("dockerd")
    try:
        engine_pool.start(ours)
        engine_pool.start(theirs)
        yield Pair(ours, theirs)
    finally:
        ours.close()
        theirs.close()


@pytest.mark.xdist_group("beside-dockerd")
@pytest.mark.observes(
    "POST /containers/{id}/start",
    "POST /containers/{id}/stop",
    "POST /containers/{id}/restart",
    "POST /containers/{id}/kill",
    "POST /containers/{id}/pause",
    "POST /containers/{id}/unpause",
    "POST /containers/{id}/rename",
    "DELETE /containers/{id}",
)
@pytest.mark.parametrize("seed", IN_SHORT)
def test_a_life_in_any_order_goes_as_with_dockerd(pair: Pair, seed: int) -> None:
    _live(pair, seed, 14)


@pytest.mark.only_full("sixty longer lives")
@pytest.mark.parametrize("seed", IN_FULL)
def test_a_longer_life_goes_as_with_dockerd(pair: Pair, seed: int) -> None:
    _live(pair, seed, 25)


def _live(pair: Pair, seed: int, length: int) -> None:
    pair.both(empty)
    pair.both(lambda engine: engine.api("POST", "/networks/create", {"Name": "net"}))
    since, told = time.time(), list[str]()
    for step in _sequence(random.Random(seed), length):
        told.append(f"{step.method} {step.target} {step.body or ''}")
        ours, theirs = pair.both(lambda engine, step=step: _make(engine, step))  # type: ignore[misc]
        assert _alike(ours, theirs), "\n".join([*told, f"carrackd: {ours}", f"dockerd: {theirs}"])
        _agree(pair, told)
    window = f"since={since:.6f}&until={time.time():.6f}"
    mine, others = pair.both(lambda engine: _events(engine, window))
    assert mine == others, "\n".join(told)


def _sequence(rng: random.Random, length: int) -> Iterator[Step]:
    for name in ("one", "two"):
        yield _create(rng, name)
    for _ in range(length):
        name = rng.choices(("one", "two", "three"), (6, 4, 1))[0]
        yield _create(rng, name) if rng.random() < 0.12 else _any(rng, name)


def _create(rng: random.Random, name: str) -> Step:
    body: dict[str, Any] = {"Image": "busybox", "Cmd": PROGRAMS[rng.choice(list(PROGRAMS))], "HostConfig": {}}
    body |= {"Tty": True} if rng.random() < 0.3 else {}
    body |= {"StopSignal": "SIGUSR1"} if rng.random() < 0.2 else {}
    return Step("POST", f"/containers/create?name={name}", body)


def _any(rng: random.Random, name: str) -> Step:
    it = f"/containers/{name}"
    signal = rng.choice(("", "TERM", "9", "USR1", "0", "99", "FOO", "SIGRTMIN%2B3", "CONT"))
    command = rng.choice((["true"], ["sh", "-c", "exit 4"], ["/nope"]))
    steps = (
        (6, Step("POST", f"{it}/start")),
        (3, Step("POST", f"{it}/stop?t=1")),
        (2, Step("POST", f"{it}/restart?t=1")),
        (4, Step("POST", f"{it}/kill?signal={signal}")),
        (3, Step("POST", f"{it}/pause")),
        (3, Step("POST", f"{it}/unpause")),
        (2, Step("POST", f"{it}/rename?name={rng.choice(('one', 'two', 'three', '-x', ''))}")),
        (2, Step("DELETE", f"{it}?v=1&force={rng.choice((0, 0, 1))}{rng.choice(('', '', '&link=1'))}")),
        (3, Step("EXEC", it, {"Cmd": command, "User": rng.choice(("", "app")), "WorkingDir": rng.choice(("", "/tmp"))})),
        (1, Step("GET", f"{it}/top?ps_args=-o%20pid")),
        (1, Step("HEAD", f"{it}/archive?path={rng.choice(('/etc/passwd', '/nope', '/'))}")),
        (1, Step("POST", f"/commit?container={name}&repo=made&pause={rng.choice((0, 1))}", {})),
        (1, Step("POST", f"{it}/update", rng.choice(({"PidsLimit": 50}, {"Memory": 1}, {"RestartPolicy": {"Name": "no"}})))),
        (1, Step("POST", f"/networks/{rng.choice(('net', 'bridge'))}/connect", {"Container": name})),
        (1, Step("POST", f"/networks/{rng.choice(('net', 'bridge'))}/disconnect", {"Container": name, "Force": True})),
        (1, Step("POST", f"{it}/resize?h=10&w=20")),
    )
    return rng.choices([step for _, step in steps], [weight for weight, _ in steps])[0]


def _make(engine: Engine, step: Step) -> Answer:
    if step.method == "EXEC":
        return _execute(engine, step)
    done = engine.api(step.method, f"/v{VERSION}{step.target}", step.body)
    refused = done.status >= 400 and step.method != "HEAD"
    return Answer(done.status, plain(done.body.decode(), engine) if refused else "")


def _execute(engine: Engine, step: Step) -> Answer:
    made = engine.api("POST", f"/v{VERSION}{step.target}/exec", step.body)
    if made.status != 201:
        return Answer(made.status, plain(made.body.decode(), engine))
    place = f"/v{VERSION}/exec/{made.json['Id']}"
    begun = engine.api("POST", f"{place}/start", {"Detach": True})
    if begun.status != 200:
        return Answer(begun.status, plain(begun.body.decode(), engine))
    until(lambda: not engine.api("GET", f"{place}/json").json["Running"], "the exec to end")
    return Answer(200, str(engine.api("GET", f"{place}/json").json["ExitCode"]))


def _alike(ours: Answer, theirs: Answer) -> bool:
    """The same status, or that of a caller's mistake where dockerd has its own failure (docs/differences.md); the same words."""
    if ours == theirs:
        return True
    if ours.status != theirs.status and not (400 <= ours.status < 500 and theirs.status in {404, 500}):
        return False
    if ours.text == theirs.text:
        return True
    return any(pattern.search(theirs.text) and words in ours.text for pattern, words in LATER_WORDS)


def _agree(pair: Pair, told: list[str]) -> None:
    """Wait until both are in the same states, and stay there for as long as the slower one may need for what a signal began."""
    looks: list[tuple[list[str], list[str]]] = []

    def settled() -> bool:
        looks.append(pair.both(_states))
        last = looks[-4:]
        return len(last) == 4 and all(ours == theirs == last[0][0] for ours, theirs in last)

    try:
        until(settled, "the same states", timeout_seconds=5)
    except AssertionError as error:
        raise AssertionError("\n".join([*told, "carrackd:", *looks[-1][0], "dockerd:", *looks[-1][1]])) from error


def _states(engine: Engine) -> list[str]:
    found = []
    for row in engine.api("GET", f"/v{VERSION}/containers/json?all=1").json:
        shown = engine.api("GET", f"/v{VERSION}/containers/{row['Id']}/json")
        if shown.status == 200:
            state = shown.json["State"]
            kept = {key: state[key] for key in ("Status", "Running", "Paused", "Restarting", "OOMKilled", "ExitCode")}
            begun = [not state[key].startswith("0001") for key in ("StartedAt", "FinishedAt")]
            networks = sorted(shown.json["NetworkSettings"]["Networks"])
            found.append(f"{shown.json['Name']} {kept} {begun} {networks} {plain(state['Error'], engine)}")
    return sorted(found)


def _events(engine: Engine, window: str) -> list[str]:
    filters = quote(json.dumps({"type": ["container"]}))
    lines = engine.api("GET", f"/v{VERSION}/events?{window}&filters={filters}").body.decode().splitlines()
    told = [(event["Action"], event["Actor"]["Attributes"]) for event in map(json.loads, lines)]
    return sorted(f"{action} {about.get('name')} {about.get('exitCode')} {about.get('signal')}" for action, about in told)

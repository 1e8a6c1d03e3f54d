"""Thousands of requests made from the daemon's own description: no failure of ours, no hang, nothing left, as lean as before."""

import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from carrack.api.not_yet import NOT_YET
from carrack.api.openapi import plain
from tests.conftest import Images, MakeEngine
from tests.rig.engine import Engine
from tests.rig.fuzzing import PROGRAM, Fuzzer, Hit, Shot, fire
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("an OpenAPI description of itself")

SHORT, FULL = 1400, 10_000
WARM = 600
ROUND = 200
"""After so many requests what they took away is put back."""
AT_ONCE = 4
PROXY = ("--http-proxy", "http://127.0.0.1:9", "--https-proxy", "http://127.0.0.1:9")
"""Nothing of this test reaches a network."""
MISSING = {(method, plain(pattern)) for method, pattern in NOT_YET}
GROWTH_BYTES = 16 << 20
LEAST_DONE = 30
"""Of all operations at least so many must have been done, or the requests test nothing but refusals."""
LATE = 3
"""Descriptors that a daemon opens once and late: to the process that answers names, for one."""


def furnish(engine: Engine, archive: bytes) -> None:
    """The objects whose names the requests know."""
    engine.api("POST", "/images/load?quiet=1", archive, headers={"Content-Type": "application/x-tar"})
    for name in ("data", "other"):
        engine.api("POST", "/volumes/create", {"Name": name})
    engine.api("POST", "/networks/create", {"Name": "mine"})
    for name in ("web", "job"):
        engine.api("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sh", "-c", PROGRAM]})
    engine.api("POST", "/containers/web/start")


def judge(shot: Shot, hit: Hit) -> str:
    """What is wrong with an answer; empty: nothing."""
    if hit.status == 501 and (shot.method, shot.path) in MISSING:
        return ""
    if hit.status >= 500 and hit.status != 503:
        return f"{hit.status} {hit.body[:300]!r}"
    if hit.status == 503 and not any(word in hit.body.lower() for word in (b"swarm", b"connection refused", b"need criu")):
        return f"503 {hit.body[:300]!r}"
    if hit.status >= 400 and shot.method != "HEAD" and b"raw-stream" not in hit.head.encode():
        try:
            message = json.loads(hit.body)["message"]
        except (ValueError, KeyError, TypeError):
            return f"{hit.status} without a message: {hit.body[:200]!r}"
        if not message or "internal error" in message or "Traceback" in message:
            return f"{hit.status} {message!r}"
    return ""


def resident_bytes(engine: Engine) -> int:
    assert engine.process is not None
    return int(Path(f"/proc/{engine.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(engine: Engine) -> Counter[str]:
    """The daemon's descriptors by what they are, but for the database: each of its threads opens it once, and keeps it."""
    assert engine.process is not None
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{engine.process.pid}/fd").iterdir():
        try:
            found[re.sub(r"\d+", "N", os.readlink(entry))] += 1
        except OSError:
            continue
    return Counter({name: count for name, count in found.items() if "state.db" not in name})


@pytest.mark.timeout(1800)
def test_no_request_breaks_the_daemon(make_engine: MakeEngine, images: Images, pytestconfig: pytest.Config) -> None:
    engine = make_engine(*PROXY)
    description = engine.api("GET", "/openapi.json").json
    count = FULL if pytestconfig.getoption("--full") else SHORT
    fuzzer = Fuzzer(description, seed=int(os.environ.get("FUZZ_SEED", "1")))
    wrong: list[str] = []
    seen: Counter[tuple[str, str, int]] = Counter()

    def try_one(shot: Shot) -> None:
        try:
            hit = fire(engine.socket, shot)
            seen[shot.method, shot.path, hit.status // 100] += 1
            fault = judge(shot, hit)
        except TimeoutError:
            fault = "no answer within 30 seconds"
        except (OSError, IndexError, ValueError) as error:
            fault = f"no answer: {error!r}"
        if fault:
            wrong.append(f"{shot}\n    {fault}")

    def fire_round(size: int) -> None:
        furnish(engine, images.base_archive)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(try_one, [fuzzer.shot() for _ in range(size)]))

    for _ in range(WARM // ROUND):  # what is made at the first use, threads for one, is made now
        fire_round(ROUND)
    engine.sweep()
    memory, files = resident_bytes(engine), open_files(engine)
    for _ in range((count - WARM) // ROUND):
        fire_round(ROUND)
    assert engine.process is not None
    assert engine.process.poll() is None, engine.log_tail()
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:20])
    done = {(method, path) for method, path, hundreds in seen if hundreds in (1, 2, 3)}
    assert len(done) > LEAST_DONE, f"only these ever succeeded: {sorted(done)}"
    engine.sweep()
    assert engine.api("GET", "/containers/json?all=1").json == []
    assert engine.api("GET", "/info").json["NEventsListener"] == 0
    with suppress(AssertionError):
        until(lambda: not open_files(engine) - files, "what was opened to be closed")
    left = open_files(engine) - files
    assert left.total() <= LATE, f"left open: {left}"
    grown = resident_bytes(engine) - memory
    assert grown < GROWTH_BYTES, f"the daemon grew by {grown >> 20} MB"

"""Carrack's daemon and dockerd given the same orders: what each answers, without what no two engines have alike.

dockerd is 20.10, so a text is compared without what later releases put around it: capitals at its beginning, the words that tell at
which step a start failed.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tests.rig.commands import run
from tests.rig.engine import Engine, docker_program

VERSION = "1.41"
"""The newest API of that dockerd: newer ones would have Carrack do what it cannot."""

T = TypeVar("T")

_LATER = (
    (re.compile(r"failed to create task for container: |error during container init: "), ""),
    (re.compile(r"failed to set up container networking: "), ""),
    (re.compile(r"invalid endpoint settings:\s+"), ""),
    (re.compile(r"(?<=: )mount \S+ \(via \S+\), flags: \w+: "), ""),
    (re.compile(r"(Error response from daemon: |\"message\":\")(\w)"), lambda found: found[1] + found[2].lower()),
    (re.compile(r"\bContainer (?=[0-9a-f]{64}|ID)"), "container "),
)
_UNLIKE = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "SHORT"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b(?:10\.1[34]\d\.\d+\.|172\.\d+\.\d+\.)\d+"), "ADDRESS"),
    (re.compile(r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b"), "TIME"),
    (re.compile(r"on endpoint \S+ \(ID\)"), "on endpoint NAME (ID)"),
    (re.compile(r"# Written by carrackd.*\n"), ""),
)


@dataclass(frozen=True, slots=True)
class Said:
    """How one command line ended."""

    line: str
    code: int
    stdout: str
    stderr: str


class Pair:
    """Both engines, each asked in a thread of its own: what one does takes no time of the other's."""

    def __init__(self, ours: Engine, theirs: Engine) -> None:
        self.engines = (ours, theirs)

    def both(self, ask: Callable[[Engine], T]) -> tuple[T, T]:
        """(Carrack's, dockerd's) answer."""
        with ThreadPoolExecutor(2) as pool:
            ours, theirs = pool.map(ask, self.engines)
        return ours, theirs

    def lines(self, blocks: Sequence[str]) -> tuple[list[list[Said]], list[list[Said]]]:
        """What came of each block of command lines; between two blocks an engine is emptied."""
        return self.both(lambda engine: [_play(engine, block) for block in blocks])


def plain(text: str, engine: Engine) -> str:
    """A text without what is this engine's alone, and without what is newer than 20.10."""
    text = text.replace(str(engine.folder), "FOLDER").replace(engine.token, "TOKEN")
    for pattern, instead in (*_UNLIKE, *_LATER):
        text = pattern.sub(instead, text)
    return text


def empty(engine: Engine) -> None:
    """Take away containers, volumes and networks; images stay."""
    for row in engine.api("GET", "/containers/json?all=1").json:
        engine.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")
    for row in engine.api("GET", "/volumes").json.get("Volumes") or []:
        engine.api("DELETE", f"/volumes/{row['Name']}?force=1")
    for row in engine.api("GET", "/networks").json:
        if row["Name"] not in {"bridge", "host", "none"}:
            engine.api("DELETE", f"/networks/{row['Id']}")


def _play(engine: Engine, block: str) -> list[Said]:
    """Each line is what follows `docker`; ``<<<`` gives it an input, ``$D`` is a folder of the engine's."""
    said = []
    environment = {**engine.env(), "DOCKER_API_VERSION": VERSION}
    for line in block.splitlines():
        words, _, given = line.replace("$D", str(engine.folder)).partition(" <<< ")
        done = run([docker_program(), *shlex.split(words)], stdin=given and shlex.split(given)[0] + "\n", env=environment)
        said.append(Said(line, done.code, plain(done.stdout, engine), plain(done.stderr, engine)))
    empty(engine)
    return said

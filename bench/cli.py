"""The two command lines side by side, in one run, on the same daemons: a table in Markdown.

Every round runs one command through `docker` and through `carrack`, in alternating order and after an idle gap, on dockerd and on
carrackd. The last line sets the whole of Carrack against the whole of Docker: `carrack run --rm` on carrackd, `docker run --rm` on
dockerd.

    .venv/bin/python -m bench.cli > table.md                # as root; progress goes to standard error
    .venv/bin/python -m bench.cli --rounds 3                # a look
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.engine import milliseconds
from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar
from tests.rig.carrackd import Carrackd
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program

GAP_SECONDS = 0.3
CONTAINERS = 10
PS_TARGET_MILLISECONDS = 15.0
RUN_TARGET_RATIO = 0.35
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("--version",),
    ("ps",),
    ("ps", "-a", "--format", "{{.Names}} {{json .Labels}}"),
    ("images",),
    ("inspect", "idle0"),
    ("logs", "idle0"),
    ("network", "ls"),
    ("volume", "ls"),
    ("version",),
    ("info",),
    ("exec", "idle0", "true"),
    ("create", "--name", "made", "busybox"),
    ("run", "--rm", "busybox", "true"),
)


@dataclass(slots=True)
class Row:
    """One command on one engine: the milliseconds of each client."""

    engine: str
    command: str
    times: dict[str, list[float]] = field(default_factory=lambda: {"docker": [], "carrack": []})

    def median(self, client: str) -> float:
        return statistics.median(self.times[client])

    def cell(self, client: str) -> str:
        values = self.times[client]
        return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"

    def line(self) -> str:
        ratio = self.median("carrack") / self.median("docker")
        return f"| {self.engine} | `{self.command}` | {self.cell('docker')} | {self.cell('carrack')} | {ratio:.2f} |"


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    """An engine with busybox and a few idle containers."""
    recipe = Recipe((tar(busybox_entries()),), ("busybox:latest",), {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, ("busybox",))
    try:
        engine.start()
        engine.api("POST", "/images/load?quiet=1", docker_archive(recipe), headers={"Content-Type": "application/x-tar"})
        cli = CommandLine(engine, [*engine.host_prefix(), docker_program()])
        for number in range(CONTAINERS):
            cli.ok("run", "-d", "--name", f"idle{number}", "-l", f"n={number}", "busybox", "sh", "-c", "echo up; exec sleep 100000")
        yield engine
    finally:
        engine.close()


def measure(engine: Engine, rounds: int) -> list[Row]:
    """Every command through both clients."""
    clients = {
        "docker": CommandLine(engine, [docker_program()]),
        "carrack": CommandLine(engine, [carrack_program()]),
    }
    rows = []
    for words in COMMANDS:
        row = Row(engine.kind, " ".join(words))
        for number in range(rounds + 1):
            for name in ("docker", "carrack") if number % 2 else ("carrack", "docker"):
                time.sleep(GAP_SECONDS)
                taken = milliseconds(clients[name], *words)
                if words[0] == "create":
                    engine.api("DELETE", "/containers/made")
                if number:  # the first round only warms caches
                    row.times[name].append(taken)
        print(row.line(), file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def table(rows: list[Row]) -> str:
    """The page."""
    machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    lines = [
        f"{machine}; milliseconds of wall time, median (lowest-highest)\n",
        "| engine | command | docker | carrack | ratio |",
        "|---|---|---|---|---|",
        *(row.line() for row in rows),
    ]
    found = {(row.engine, row.command): row for row in rows}
    ps = found["carrackd", "ps"].median("carrack")
    whole = found["carrackd", "run --rm busybox true"].median("carrack") / found["dockerd", "run --rm busybox true"].median(
        "docker"
    )
    kept = met(whole <= RUN_TARGET_RATIO)
    verdicts = [
        f"`carrack ps`: {ps:.1f} ms; at most {PS_TARGET_MILLISECONDS:g} wanted: {met(ps <= PS_TARGET_MILLISECONDS)}.",
        f"`carrack run --rm` on carrackd: {whole:.2f} of `docker run --rm` on dockerd; {RUN_TARGET_RATIO:g} wanted: {kept}.",
    ]
    return "\n".join([*lines, "", *verdicts]) + "\n"


def met(reached: bool) -> str:
    return "met" if reached else "missed"


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="samples of each command (default %(default)s)")
    options = parser.parse_args()
    rows: list[Row] = []
    for engine in (Dockerd("benchd"), Carrackd("benchc", bip="10.219.7.1/24")):
        with running(engine):
            rows += measure(engine, options.rounds)
    print(table(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

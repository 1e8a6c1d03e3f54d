"""What many containers and much output cost, on Carrack and on a real dockerd in one run: a table of ratios in Markdown.

Streams (attached output, `logs`, `cp`), lists of many containers, and a daemon's restart beside containers that run. Each measure
is taken on one engine and then on the other, in alternating order. As `bench.engine`, it needs root and the peer dockerd.

    .venv/bin/python -m bench.load > table.md           # about five minutes
    .venv/bin/python -m bench.load --scale 0.2 --rounds 1
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.engine import Measure, Samples, describe, in_turn, milliseconds, progress, table
from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar
from tests.rig.carrackd import Carrackd
from tests.rig.commands import run
from tests.rig.dockerd import Dockerd
from tests.rig.engine import ROOT, CommandLine, Engine, docker_program
from tests.rig.waiting import until

LINE = "x" * 79
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    megabytes: int
    files: int
    stopped: int
    running: int
    restarting: int

    @classmethod
    def scaled(cls, scale: float) -> "Sizes":
        return cls(*(max(4, int(number * scale)) for number in (256, 5000, 500, 50, 50)))


def many(cli: CommandLine, count: int, *words: str, prefix: str) -> list[str]:
    """Containers made or started several at a time."""
    names = [f"{prefix}{number}" for number in range(count)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda name: cli.ok(words[0], "--name", name, *words[1:]), names):
            pass
    return names


def remove(cli: CommandLine, names: list[str]) -> None:
    for start in range(0, len(names), 50):
        cli.ok("rm", "-f", *names[start : start + 50])


def measures(
    sizes: Sizes, rounds: int
) -> Iterator[tuple[Measure, Callable[[CommandLine], object], Callable[[CommandLine], object]]]:
    """Each measure, what makes ready for it and what clears away after."""

    def nothing(cli: CommandLine) -> None:
        pass

    output = f"yes {LINE} | head -c {sizes.megabytes}m"
    text = ("busybox", "sh", "-c", output)
    yield (
        Measure(f"`run --rm` that prints {sizes.megabytes} MB", "ms", lambda cli: milliseconds(cli, "run", "--rm", *text), rounds),
        nothing,
        nothing,
    )
    small = (*text[:3], f"yes {LINE} | head -c {max(1, sizes.megabytes // 8)}m")
    yield (
        Measure(f"`logs` of {max(1, sizes.megabytes // 8)} MB", "ms", lambda cli: milliseconds(cli, "logs", "said"), rounds),
        lambda cli: (cli.ok("run", "-d", "--name", "said", *small), cli.ok("wait", "said")),
        lambda cli: cli.ok("rm", "said"),
    )
    yield (
        Measure(f"`run -d` and `logs -f` of {sizes.megabytes} MB", "ms", lambda cli: _follow(cli, text), rounds),
        nothing,
        nothing,
    )
    files = f"mkdir /tree && cd /tree && for i in $(seq {sizes.files}); do echo $i > $i; done"
    yield (
        Measure(f"`cp` of {sizes.files} files out", "ms", lambda cli: _copy(cli, "tree:/tree", "-"), rounds),
        lambda cli: (cli.ok("run", "-d", "--name", "tree", "busybox", "sh", "-c", files), cli.ok("wait", "tree")),
        lambda cli: cli.ok("rm", "tree"),
    )
    stopped: list[str] = []
    yield (
        Measure(f"`ps -a` of {sizes.stopped} containers", "ms", lambda cli: milliseconds(cli, "ps", "-a"), rounds),
        lambda cli: stopped.extend(many(cli, sizes.stopped, "create", "busybox", prefix="stopped")),
        lambda cli: remove(cli, [f"stopped{number}" for number in range(sizes.stopped)]),
    )
    running = [f"running{number}" for number in range(sizes.running)]
    yield (
        Measure(
            f"`stats --no-stream` of {sizes.running} containers",
            "ms",
            lambda cli: milliseconds(cli, "stats", "--no-stream"),
            rounds,
        ),
        lambda cli: many(cli, sizes.running, "run", "-d", "busybox", "sleep", "100000", prefix="running"),
        nothing,
    )
    yield (
        Measure(f"daemon's restart beside {sizes.running} running containers", "ms", restart, rounds),
        nothing,
        lambda cli: remove(cli, running),
    )
    yield (
        Measure(f"`rm -f` of {sizes.running} running containers", "ms", lambda cli: milliseconds(cli, "rm", "-f", *running), 1),
        lambda cli: many(cli, sizes.running, "run", "-d", "busybox", "sleep", "100000", prefix="running"),
        nothing,
    )


def _run(cli: CommandLine, *words: str) -> None:
    subprocess.run([*cli.program, *words], env=cli.engine.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def _follow(cli: CommandLine, text: tuple[str, ...]) -> float:
    began = time.perf_counter()
    cli.ok("run", "-d", "--name", "says", *text)
    _run(cli, "logs", "-f", "says")
    taken = (time.perf_counter() - began) * 1000
    cli.ok("rm", "-f", "says")
    return taken


def _copy(cli: CommandLine, source: str, target: str) -> float:
    began = time.perf_counter()
    _run(cli, "cp", source, target)
    return (time.perf_counter() - began) * 1000


def restart(cli: CommandLine) -> float:
    """Milliseconds from the new daemon's exec until it lists every container that runs as running."""
    engine = cli.engine
    count = len(engine.api("GET", "/containers/json").json)
    engine.stop()
    time.sleep(1)
    began = time.perf_counter()
    engine.start()
    until(lambda: len(engine.api("GET", "/containers/json").json) == count, "every container to be running")
    return (time.perf_counter() - began) * 1000


@contextmanager
def started(kind: str) -> Iterator[CommandLine]:
    """A running engine that holds busybox and lets containers live without it."""
    progress(f"starting {kind}")
    token = f"load{time.time_ns() // 10**6 % 10000}"
    engine: Engine = (
        Dockerd(token, flags=["--live-restore"])
        if kind == "dockerd"
        else Carrackd(token, bip=f"10.{100 + time.time_ns() % 90}.8.1/22")
    )
    try:
        engine.start()
        recipe = Recipe((tar(busybox_entries()),), ("busybox:latest",), {"Cmd": ["sh"], "Env": ["PATH=/bin"]})
        loaded = engine.api("POST", "/images/load", docker_archive(recipe), headers={"Content-Type": "application/x-tar"})
        assert loaded.status == 200, loaded.body
        yield CommandLine(engine, [docker_program()])
    finally:
        engine.close()


def main() -> int:
    """Run the bench and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="samples per row (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the usual sizes (default 1)")
    parser.add_argument("--only", choices=["carrackd", "dockerd"], help="measure one engine alone")
    options = parser.parse_args()
    run([str(ROOT / "scripts/peer")], timeout_seconds=300).ok()
    kinds = [options.only] if options.only else ["carrackd", "dockerd"]
    results: list[tuple[Measure, Samples]] = []
    with ExitStack() as stack:
        clients = {kind: stack.enter_context(started(kind)) for kind in kinds}
        for measure, prepare, clear in measures(Sizes.scaled(options.scale), options.rounds):
            progress(measure.name)
            samples = Samples()
            for cli in clients.values():
                prepare(cli)
            for turn in range(measure.rounds):
                for kind in in_turn(kinds, turn):
                    time.sleep(0.3)
                    samples.add(kind, measure.sample(clients[kind]))
            for cli in clients.values():
                clear(cli)
            results.append((measure, samples))
            progress("  " + ", ".join(f"{kind} {statistics.median(samples.values[kind]):.0f} ms" for kind in kinds))
        heading = describe(clients)
    print(heading)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Carrack and a real dockerd side by side, in one run, through the same docker command line: a table of ratios in Markdown.

Each engine is started on private paths. Every round measures one engine and then the other, in alternating order and after an
idle gap, because many costs of the kernel (a move into a cgroup, a grace period) hide in a tight loop. Figures are medians with
the lowest and highest. The peer is Debian's docker.io with its containerd already running, unpacked by `scripts/peer`.

    .venv/bin/python -m bench.engine > table.md     # as root; progress goes to standard error
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from compileall import compile_dir
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar
from tests.rig.carrackd import Carrackd
from tests.rig.commands import run
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.ports import free_ports

FIRST_CONTAINERS, IDLE_CONTAINERS = 5, 15
PARALLEL_RUNS, AT_ONCE = 32, 8


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table: how to take a sample, in what unit, and the ratio this project asks of itself."""

    name: str
    unit: str
    sample: Callable[[CommandLine], float]
    rounds: int
    target: float | None = None


@dataclass(slots=True)
class Samples:
    """What was measured, per engine."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, value: float) -> None:
        self.values.setdefault(kind, []).append(value)

    def median(self, kind: str) -> float | None:
        return statistics.median(self.values[kind]) if self.values.get(kind) else None

    def cell(self, kind: str, unit: str) -> str:
        """``median (lowest-highest) unit``."""
        values = self.values.get(kind)
        if not values:
            return "-"
        return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f}) {unit}"


def milliseconds(cli: CommandLine, *args: str) -> float:
    """The time of one command of the client, which must succeed."""
    environment = cli.engine.env()
    began = time.perf_counter()
    done = subprocess.run([*cli.program, *args], stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False)
    elapsed = (time.perf_counter() - began) * 1000
    if done.returncode != 0:
        raise SystemExit(f"{cli.engine.kind}: {' '.join(args)} failed: {done.stderr.decode(errors='replace')}")
    return elapsed


def parallel_runs(cli: CommandLine) -> float:
    """Milliseconds per container when 32 run, eight at a time."""
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda _: milliseconds(cli, "run", "--rm", "busybox", "true"), range(PARALLEL_RUNS)):
            pass
    return (time.perf_counter() - began) * 1000 / PARALLEL_RUNS


def resident_mebibytes(pids: set[int]) -> float:
    """Proportional set size of these processes together (proc(5), smaps_rollup)."""
    total = 0
    for pid in pids:
        try:
            rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return total / 1024


def memory_per_idle_container(cli: CommandLine) -> float:
    """Growth of the engine's own memory, its shims included, per idle container; the container's process is not counted."""
    names = [f"idle{number}" for number in range(FIRST_CONTAINERS + IDLE_CONTAINERS)]
    before = 0.0
    for number, name in enumerate(names):
        if number == FIRST_CONTAINERS:  # what the first ones bring the daemon to allocate is no cost of each
            time.sleep(2)
            before = resident_mebibytes(cli.engine.own_processes())
        cli.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    time.sleep(2)
    after = resident_mebibytes(cli.engine.own_processes())
    cli.ok("rm", "-f", *names)
    time.sleep(1)
    return (after - before) / IDLE_CONTAINERS


def start_up(engine: Engine) -> float:
    """Milliseconds from exec of the daemon to its first answer, on empty roots; dockerd finds its containerd running."""
    try:
        if isinstance(engine, Dockerd):
            engine.launch_containerd()
        began = time.perf_counter()
        engine.start()
        return (time.perf_counter() - began) * 1000
    finally:
        engine.close()


def main() -> int:
    """Run the bench and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="samples per row (default 15)")
    parser.add_argument("--gap", type=float, default=0.3, help="idle seconds before each sample (default 0.3)")
    parser.add_argument("--only", choices=["carrackd", "dockerd"], help="measure one engine alone")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers need root")
    root = Path(__file__).parents[1]
    run([str(root / "scripts/peer")], timeout_seconds=300).ok()
    compile_dir(root / "src", quiet=1)  # as an installation has it
    kinds = [options.only] if options.only else ["carrackd", "dockerd"]
    ports = free_ports()
    results: dict[str, tuple[Measure, Samples]] = {}

    with ExitStack() as stack:
        clients = {kind: stack.enter_context(started(kind)) for kind in kinds}
        progress("daemons at rest")
        time.sleep(3)
        at_rest = Samples()
        for kind, cli in clients.items():
            at_rest.add(kind, resident_mebibytes(cli.engine.own_processes()))
            cli.ok("run", "-d", "--name", "idle", "busybox", "sleep", "100000")
        for measure in measures(options.rounds, ports):
            results[measure.name] = (measure, take(measure, clients, options.gap))
        after_work = Samples()
        for kind, cli in clients.items():
            after_work.add(kind, resident_mebibytes(cli.engine.own_processes()))
        heading = describe(clients)

    starts = Samples()
    for turn in range(3):
        for kind in in_turn(kinds, turn):
            progress(f"start-up of {kind}")
            time.sleep(1)
            starts.add(kind, start_up(build(kind, f"start{turn}")))
    for name, unit, samples in (
        ("daemon memory at rest (PSS, all its processes)", "MiB", at_rest),
        ("daemon memory after the work", "MiB", after_work),
        ("daemon start-up to the first answer", "ms", starts),
    ):
        results[name] = (Measure(name, unit, lambda _: 0.0, 1), samples)
    print(heading)
    print(table(results.values()))
    return 0


def measures(rounds: int, ports: Iterator[int]) -> list[Measure]:
    """The rows that are timed through the client."""

    def timed(*args: str) -> Callable[[CommandLine], float]:
        return lambda cli: milliseconds(cli, *args)

    def published(cli: CommandLine) -> float:
        return milliseconds(cli, "run", "--rm", "-p", f"{next(ports)}:80", "busybox", "true")

    return [
        Measure("`run --rm true` (bridge)", "ms", timed("run", "--rm", "busybox", "true"), rounds, 0.2),
        Measure("`run --rm --network none true`", "ms", timed("run", "--rm", "--network", "none", "busybox", "true"), rounds, 0.2),
        Measure("`run --rm -p … true`", "ms", published, rounds, 0.2),
        Measure("`exec … true`", "ms", timed("exec", "idle", "true"), rounds, 0.5),
        Measure(f"{PARALLEL_RUNS} × `run --rm true`, {AT_ONCE} at a time, each", "ms", parallel_runs, max(3, rounds // 5), 0.25),
        Measure("`ps`", "ms", timed("ps"), rounds),
        Measure("`version` (the client's own floor)", "ms", timed("version"), rounds),
        Measure("memory per idle container (PSS)", "MiB", memory_per_idle_container, 3, 0.3),
    ]


def take(measure: Measure, clients: dict[str, CommandLine], gap: float) -> Samples:
    """Sample each engine in turn, alternating who comes first."""
    progress(measure.name)
    samples = Samples()
    for turn in range(measure.rounds):
        for kind in in_turn(list(clients), turn):
            time.sleep(gap)
            samples.add(kind, measure.sample(clients[kind]))
    return samples


def in_turn(kinds: list[str], turn: int) -> list[str]:
    return kinds if turn % 2 == 0 else kinds[::-1]


def build(kind: str, name: str) -> Engine:
    """An engine on private paths, not started."""
    token = f"bench{os.getpid() % 10000}{name}"
    return Dockerd(token) if kind == "dockerd" else Carrackd(token, bip=f"10.{100 + os.getpid() % 20}.7.1/24")


@contextmanager
def started(kind: str) -> Iterator[CommandLine]:
    """A running engine that holds busybox, as the docker command line sees it."""
    progress(f"starting {kind}")
    engine = build(kind, "")
    try:
        engine.start()
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        recipe = Recipe((tar(busybox_entries()),), ("busybox:latest",), {"Cmd": ["sh"], "Env": [path]})
        loaded = engine.api("POST", "/images/load", docker_archive(recipe), headers={"Content-Type": "application/x-tar"})
        assert loaded.status == 200, loaded.body
        yield CommandLine(engine, [docker_program()])
    finally:
        engine.close()


def describe(clients: dict[str, CommandLine]) -> str:
    """What was compared, where and when."""
    cgroup = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    rows = [
        f"Taken {when}: {os.cpu_count()} CPUs, Linux {platform.release()}, cgroup {cgroup}.",
        f"Client: {run([docker_program(), '--version']).text}.",
    ]
    for kind, cli in clients.items():
        shown = cli.engine.api("GET", "/version").json
        rows.append(f"{kind}: {shown['Version']} (API {shown['ApiVersion']}).")
    return "\n".join(rows) + "\n"


def table(results: Iterable[tuple[Measure, Samples]]) -> str:
    """Markdown: one row per measure, medians with lowest and highest, and Carrack's share of dockerd's figure."""
    rows = ["| measure | Carrack | dockerd | ratio | asked |", "|---|---:|---:|---:|---:|"]
    for measure, samples in results:
        ours, theirs = samples.median("carrackd"), samples.median("dockerd")
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else "-"
        asked = f"≤ {measure.target:g}" if measure.target is not None else ""
        cells = (samples.cell("carrackd", measure.unit), samples.cell("dockerd", measure.unit))
        rows.append(f"| {measure.name} | {cells[0]} | {cells[1]} | {ratio} | {asked} |")
    return "\n".join(rows)


def progress(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

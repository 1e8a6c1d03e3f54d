"""Networks of Carrack and of a real dockerd side by side, in one run: throughput, endpoints, published ports, look-ups.

Each engine's host is a network namespace of its own with an outside machine on a wire, so that both are measured alike and nothing
of the real machine is touched. Rounds alternate between the engines.

    .venv/bin/python -m bench.networks > table.md                  # as root; progress goes to standard error
    .venv/bin/python -m bench.networks --rounds 1 --seconds 1 --ports 20     # a try
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.engine import describe, in_turn, progress
from tests.rig.archives import Recipe, busybox_entries, docker_archive, tar
from tests.rig.carrackd import Carrackd
from tests.rig.commands import run
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.namespaces import HeldNamespace, Neighbour
from tests.rig.waiting import until

PORT = 5301
_STARTS = 6
_QUIET_SECONDS = 0.1
"""Before what is timed: many costs hide in a tight loop."""
_IPERF = ("-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro")
"""iperf3 of this machine, with its libraries, in a container of busybox alone."""
_ASKER = """
import socket, struct, sys, time
seconds, window = float(sys.argv[1]), 64
labels = b"".join(bytes([len(word)]) + word.encode() for word in sys.argv[2].split("."))
body = struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">HH", 1, 1)
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.connect(("127.0.0.11", 53))
asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 1, 0))  # the kernel's: a poll before each call costs
questions = [struct.pack(">H", number) + body for number in range(window)]
receive, send = asker.recv, asker.send
for question in questions:
    send(question)
answered, began, answer = 0, time.perf_counter(), b""
while time.perf_counter() - began < seconds:
    try:
        for _ in range(window):
            answer = receive(512)
            send(questions[answer[1]])
            answered += 1
    except BlockingIOError:
        for question in questions:  # what was lost is asked again
            send(question)
        continue
    assert answer[3] & 15 == 0 and answer[7] == 1, answer
print(answered / (time.perf_counter() - began))
"""


@dataclass(slots=True)
class Site:
    """An engine, the outside machine beside it, and the containers that are measured."""

    cli: CommandLine
    outside: Neighbour
    server_pid: int = 0
    server_address: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. `asked`: Carrack's share of dockerd's figure, at least (rates) or at most (times)."""

    name: str
    unit: str
    sample: Callable[[Site], float]
    asked: str = ""


@dataclass(slots=True)
class Figures:
    values: dict[str, list[float]] = field(default_factory=dict)

    def cell(self, kind: str, unit: str) -> str:
        found = self.values.get(kind)
        return f"{statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f}) {unit}" if found else "-"

    def median(self, kind: str) -> float:
        return statistics.median(self.values[kind]) if self.values.get(kind) else 0.0


@contextmanager
def site(kind: str, number: int) -> Iterator[Site]:
    """A running engine in a namespace, its network `bench` and the servers in it."""
    progress(f"starting {kind}")
    token = f"netbench{os.getpid() % 10000}"
    with ExitStack() as stack:
        engine: Engine
        if kind == "dockerd":
            engine = Dockerd(token + "d")
        else:
            engine = Carrackd(token, bip="10.99.7.1/24", host=stack.enter_context(HeldNamespace()))
        stack.callback(engine.close)
        engine.start()
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        recipe = Recipe((tar(busybox_entries()),), ("busybox:latest",), {"Cmd": ["sh"], "Env": [path]})
        loaded = engine.api("POST", "/images/load", docker_archive(recipe), headers={"Content-Type": "application/x-tar"})
        assert loaded.status == 200, loaded.body
        outside = stack.enter_context(Neighbour(engine.host_prefix(), number=9000 + number))
        cli = CommandLine(engine, [docker_program()])
        cli.ok("network", "create", "bench")
        cli.ok("network", "create", "other")
        here = Site(cli, outside)
        serve = ("busybox", "/usr/bin/iperf3", "-s", "-p", str(PORT))
        cli.ok("run", "-d", "--name", "server", "--network", "bench", "-p", f"{PORT}:{PORT}", *_IPERF, *serve)
        cli.ok("run", "-d", "--name", "client", "--network", "bench", *_IPERF, "busybox", "sleep", "100000")
        here.server_pid = int(cli.ok("inspect", "-f", "{{.State.Pid}}", "client"))
        here.server_address = cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bench.IPAddress}}", "server")
        probe = ("exec", "client", "/usr/bin/iperf3", "-c", "server", "-p", str(PORT), "-n", "1")
        until(lambda: cli(*probe).code == 0, "iperf3 to listen")
        yield here


def mtu(here: Site) -> int:
    """That of the client container's interface."""
    return int(here.cli.ok("exec", "client", "cat", "/sys/class/net/eth0/mtu"))


def gigabits(prefix: Sequence[str], env: dict[str, str], address: str, seconds: float) -> float:
    """iperf3's own figure of what the server received."""
    words = [*prefix, "/usr/bin/iperf3", "-c", address, "-p", str(PORT), "-t", f"{seconds:g}", "-J"]
    done = run(words, env=env, timeout_seconds=seconds + 60)
    document = json.loads(done.stdout)
    if "error" in document:
        raise SystemExit(f"iperf3 {address}: {document['error']}")
    return float(document["end"]["sum_received"]["bits_per_second"]) / 1e9


def rows(seconds: float) -> list[Row]:
    def by(where: str, address: Callable[[Site], str]) -> Callable[[Site], float]:
        def sample(here: Site) -> float:
            engine = here.cli.engine
            prefix = {
                "container": [*here.cli.program, "exec", "client"],
                "machine": engine.host_prefix(),
                "outside": here.outside.prefix(),
            }[where]
            return gigabits(prefix, engine.env(), address(here), seconds)

        return sample

    return [
        Row("container to container", "Gbit/s", by("container", lambda here: here.server_address), "≥ 1"),
        Row("the machine to a published port", "Gbit/s", by("machine", lambda here: here.outside.host_address), "≥ 1"),
        Row("the machine to a published port at 127.0.0.1", "Gbit/s", by("machine", lambda _: "127.0.0.1"), "≥ 1"),
        Row("the machine to a published port at [::1]", "Gbit/s", by("machine", lambda _: "::1")),
        Row("outside to a published port", "Gbit/s", by("outside", lambda here: here.outside.host_address), "≥ 1"),
        Row("connect and disconnect of an endpoint", "ms", join_and_leave, "≤ 0.3"),
        Row("look-ups of a container's name", "/s", lambda here: lookups(here, seconds), "≥ 2"),
    ]


def join_and_leave(here: Site) -> float:
    """Milliseconds of one connect and one disconnect, by the API."""
    api = here.cli.engine.api
    began = time.perf_counter()
    for action in ("connect", "disconnect"):
        done = api("POST", f"/networks/other/{action}", {"Container": "client"})
        assert done.status == 200, done.body
    return (time.perf_counter() - began) * 1000


def lookups(here: Site, seconds: float) -> float:
    words = ["nsenter", f"--net=/proc/{here.server_pid}/ns/net", sys.executable, "-c", _ASKER, f"{seconds:g}", "server"]
    return float(run(words, timeout_seconds=seconds + 30).ok())


def one_more_port(here: Site, port: int) -> float:
    """Milliseconds that the start of a container with one published port takes, by the API."""
    api = here.cli.engine.api
    bindings = {"80/tcp": [{"HostPort": str(port)}]}
    order = {"Image": "busybox", "Cmd": ["sleep", "100"], "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": bindings}}
    assert api("POST", "/containers/create?name=one-more", order).status == 201
    time.sleep(_QUIET_SECONDS)
    began = time.perf_counter()
    done = api("POST", "/containers/one-more/start")
    elapsed = (time.perf_counter() - began) * 1000
    assert done.status == 204, done.body
    assert api("DELETE", "/containers/one-more?force=1").status == 204
    return elapsed


def ports_table(sites: dict[str, Site], count: int, rounds: int) -> list[str]:
    """What one more published port costs when there are none, and when there are `count`; each `_STARTS` times as often as a rate
    is sampled, since a start is short, and those without before and after those with, so that a slower machine shows in both."""
    first, last = Figures(), Figures()
    for phase, figures in enumerate((first, last, first)):
        for kind, here in sites.items():
            if figures is last:
                progress(f"{kind}: publishing {count} ports")
                words = ("-p", f"20000-{20000 + count - 1}:20000-{20000 + count - 1}", "busybox", "sleep", "100000")
                here.cli.ok("run", "-d", "--name", "many", *words, timeout_seconds=900)
            elif phase:
                here.cli.ok("rm", "-f", "many", timeout_seconds=900)
            one_more_port(here, 29999)  # what the change left to be done is done
        for turn in range(rounds * _STARTS // (1 if figures is last else 2)):
            for kind in in_turn(list(sites), turn):
                figures.values.setdefault(kind, []).append(one_more_port(sites[kind], 30000 + turn))
    found = [
        "",
        f"| start of a container with one port | no other published | {count} published | grows by |",
        "|---|---:|---:|---:|",
    ]
    for kind in sites:
        growth = f"{last.median(kind) / first.median(kind):.2f} ×"
        found.append(f"| {kind} | {first.cell(kind, 'ms')} | {last.cell(kind, 'ms')} | {growth} |")
    return found


def main() -> int:
    """Run the bench and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="samples per row (default 7)")
    parser.add_argument("--seconds", type=float, default=5, help="length of a sample of throughput or look-ups (default 5)")
    parser.add_argument("--ports", type=int, default=1000, help="how many ports are published before the last (default 1000)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers need root")
    run([str(Path(__file__).parents[1] / "scripts/peer")], timeout_seconds=300).ok()
    with ExitStack() as stack:
        sites = {kind: stack.enter_context(site(kind, number)) for number, kind in enumerate(("carrackd", "dockerd"))}
        print(describe({kind: here.cli for kind, here in sites.items()}))
        sizes = {kind: mtu(here) for kind, here in sites.items()}
        assert len(set(sizes.values())) == 1, f"throughput at different MTUs says nothing: {sizes}"
        print(f"MTU of the containers' interfaces: {sizes['carrackd']} in both.\n")
        print("| measure | Carrack | dockerd | ratio | asked |\n|---|---:|---:|---:|---:|")
        for row in rows(options.seconds):
            progress(row.name)
            figures = Figures()
            for turn in range(options.rounds):
                for kind in in_turn(list(sites), turn):
                    time.sleep(0.3)
                    figures.values.setdefault(kind, []).append(row.sample(sites[kind]))
            ratio = figures.median("carrackd") / figures.median("dockerd")
            cells = [figures.cell(kind, row.unit) for kind in ("carrackd", "dockerd")]
            print(f"| {row.name} | {cells[0]} | {cells[1]} | {ratio:.2f} | {row.asked} |", flush=True)
        print("\n".join(ports_table(sites, options.ports, options.rounds)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired as error:
        sys.exit(f"bench: {error}")

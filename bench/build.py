"""Builds by Carrack and by dockerd's classic builder, in one run, by the same docker command line.

Cold: a context of 2000 small files, COPY and three RUN, nothing cached. Cached: the same again. Stages: four independent stages of
equal length, against the same four steps one after the other (Carrack alone: the classic builder has no parallel stages). Resend: a
context of 50 000 files and 1 GB of which one file has changed, by `carrack build` on Carrack and by `docker build` on dockerd.

    .venv/bin/python -m bench.build > table.md     # as root; progress goes to standard error
"""

import argparse
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.engine import Measure, Samples, describe, in_turn, milliseconds, progress, started, table
from tests.rig.commands import run
from tests.rig.engine import CommandLine, carrack_program

SMALL_FILES, LARGE_FILES, LARGE_BYTES = 2000, 50_000, 1_000_000_000
DOCKERFILE = """FROM busybox
WORKDIR /src
COPY . .
RUN cat */* > /all
RUN wc /all > /count
RUN rm /all
CMD ["cat", "/count"]
"""
WORK = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo $i >"
SERIAL = "FROM busybox\n" + "".join(f"RUN {WORK} /{number}\n" for number in range(4))
PARALLEL = (
    "".join(f"FROM busybox AS s{number}\nRUN {WORK} /{number}\n" for number in range(4))
    + "FROM busybox\n"
    + "".join(f"COPY --from=s{number} /{number} /\n" for number in range(4))
)


def fill(folder: Path, files: int, size_bytes: int) -> None:
    """A context of so many files, a hundred to a directory. The same for the same arguments."""
    chance = random.Random(files)
    each = max(1, size_bytes // files)
    for number in range(files):
        path = folder / f"d{number // 100}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chance.randbytes(each // 2) + b"x" * (each - each // 2))


def build(cli: CommandLine, folder: Path, *flags: str) -> float:
    """Seconds of one build."""
    return milliseconds(cli, "build", "-q", *flags, str(folder)) / 1000


def written(parent: Path, name: str, dockerfile: str) -> Path:
    """A context that is a Dockerfile alone."""
    folder = parent / name
    folder.mkdir()
    (folder / "Dockerfile").write_text(dockerfile)
    return folder


def main() -> int:
    """Run the bench and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the large context's files and bytes (default 1)")
    parser.add_argument("--gap", type=float, default=1.0, help="idle seconds before each sample")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("containers need root")
    os.environ["DOCKER_BUILDKIT"] = "0"
    run([str(Path(__file__).parents[1] / "scripts/peer")], timeout_seconds=300).ok()
    cold, cached, stages, resend = Samples(), Samples(), Samples(), Samples()
    with ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carrack-bench-build-")))
        small, large = written(top, "small", DOCKERFILE), written(top, "large", "FROM busybox\nCOPY d0 /d0\n")
        fill(small, SMALL_FILES, SMALL_FILES * 2048)
        progress("making the large context")
        fill(large, int(LARGE_FILES * options.scale), int(LARGE_BYTES * options.scale))
        serial, parallel = written(top, "serial", SERIAL), written(top, "parallel", PARALLEL)
        clients = {kind: stack.enter_context(started(kind)) for kind in ("carrackd", "dockerd")}
        senders = {**clients, "carrackd": CommandLine(clients["carrackd"].engine, [carrack_program()])}
        for sender in senders.values():
            build(sender, large)
        for turn in range(options.rounds):
            for kind in in_turn(list(clients), turn):
                cli = clients[kind]
                progress(f"round {turn + 1}: {kind}")
                cli("builder", "prune", "-af")
                settle(options.gap)
                cold.add(kind, build(cli, small, "--no-cache"))
                build(cli, small)
                settle(options.gap)
                cached.add(kind, build(cli, small))
                build(senders[kind], large)  # the prune before the cold build took what was known of it
                (large / "d0" / "f1").write_text(f"changed {turn}")
                settle(options.gap)
                resend.add(kind, build(senders[kind], large))
            settle(options.gap)
            stages.add("carrackd", build(clients["carrackd"], parallel, "--no-cache"))
            settle(options.gap)
            stages.add("dockerd", build(clients["carrackd"], serial, "--no-cache"))
        heading = describe(clients)
    print(heading)
    size = f"{int(LARGE_FILES * options.scale)} files, {int(LARGE_BYTES * options.scale / 1e6)} MB"
    rows = [
        (f"cold build, {SMALL_FILES} files, three RUN", 0.25, cold),
        ("the same again, all cached", 0.15, cached),
        ("four stages (left) against the same four steps in one stage, both Carrack", 0.6, stages),
        (f"one file of {size} changed: `carrack build` against `docker build`", 0.1, resend),
    ]
    print(table((Measure(name, "s", lambda _: 0.0, options.rounds, asked), samples) for name, asked, samples in rows))
    return 0


def settle(seconds: float) -> None:
    """What one engine leaves dirty must not be the other's burden."""
    os.sync()
    time.sleep(seconds)


if __name__ == "__main__":
    sys.exit(main())

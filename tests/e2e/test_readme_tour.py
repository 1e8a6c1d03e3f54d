"""The tour in README.md, line by line as it stands there, with both clients."""

import os
import shlex

import pytest

from tests.rig.commands import run
from tests.rig.conversation import Terminal
from tests.rig.engine import ROOT, CommandLine
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


def tour() -> list[str]:
    """The commands of the indented block after `Then a tour`."""
    text = (ROOT / "README.md").read_text().split("Then a tour")[1].split("\n## ")[0]
    lines = [line.strip().partition("  #")[0].strip() for line in text.splitlines() if line.startswith("    ")]
    return [line for line in lines if not line.startswith("export ")]


def test_the_tour_has_its_steps() -> None:
    assert len(tour()) >= 8


def test_every_step_of_the_tour_works(cli: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    program = shlex.join(cli.program)
    environment = cli.engine.env()
    for step in tour():
        line = step.replace("carrack ", f"{program} ").replace("8080", str(port))
        if "-it " in line:
            with Terminal(["sh", "-c", line], env=environment) as screen:
                screen.expect("#")
                screen.send_line("exit 0")
                assert screen.wait() == 0, step
        elif "logs -f" in line:
            assert run(["timeout", "1", "sh", "-c", line], env=environment).code == 124, step
        elif line.startswith("curl"):
            until(lambda line=line: "root:" in cli.engine.on_host("sh", "-c", line).stdout, step)  # type: ignore[misc]
        else:
            done = run(["sh", "-c", line], env={**os.environ, **environment})
            assert done.code == 0, str(done)

"""Every flag in the help of the docker command line that is installed here is ours, too, with its shorthand and type.

The facts of release 28.2.2 are held by tests/unit/cli/test_cli_parity.py wherever no docker is; this reads them off the program,
whose release is part of each test's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.rig.command_twins import DOCKER
from tests.rig.commands import run
from tests.unit.cli.test_cli_parity import LINES, differences, flags_of

pytestmark = pytest.mark.skipif(DOCKER is None, reason="no docker command line on PATH")

_OPTION = re.compile(r"^ +(?:(?P<short>-\w), )?--(?P<name>[a-z0-9-]+)(?: (?P<kind>[a-zA-Z0-9]+))?(?:  |$)")
_GONE_BY_28 = {"time", "kubeconfig", "kubernetes", "namespace", "orchestrator", "default-stack-orchestrator"}
"""Shown by releases before 28 and not by it: `--timeout` has another name, stacks of Kubernetes are no more."""
COMMANDS = sorted({line[0] for line in LINES if line[0]})


def release() -> str:
    return run([str(DOCKER), "--version"]).ok().split()[2].strip(",") if DOCKER else "none"


def options(command: str) -> Iterator[tuple[str, str, str]]:
    """(flag, shorthand, type) of each line of a command's help."""
    shown = run(
        [str(DOCKER), *command.split(), "--help"], env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DOCKER_BUILDKIT": "0"}
    )
    if "is not a docker command" in shown.stderr or "unknown command" in shown.stderr:
        return  # an older release has it not
    for line in shown.stdout.splitlines():
        match = _OPTION.match(line)
        if match is not None and match["name"] != "help":
            yield match["name"], (match["short"] or "").removeprefix("-"), match["kind"] or "bool"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("docker", [release()])
def test_the_help_of_the_installed_docker_shows_no_flag_that_is_not_ours(command: str, docker: str) -> None:
    known = differences()
    ours = flags_of(command)
    found = [
        (flag, shorthand, kind)
        for flag, shorthand, kind in options(command)
        if (command, f"--{flag}") not in known
        and not (flag in _GONE_BY_28 and int(docker.partition(".")[0]) < 28)
        and (flag not in ours or (ours[flag].shorthand, ours[flag].kind) != (shorthand, kind))
    ]
    assert found == []


@pytest.mark.parametrize("docker", [release()])
def test_the_help_of_the_installed_docker_is_read_at_all(docker: str) -> None:
    assert len(list(options("run"))) > 80
    assert ("detach", "d", "bool") in set(options("run"))

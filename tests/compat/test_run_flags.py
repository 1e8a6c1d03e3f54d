"""What each flag of `run` does, seen from inside the container."""

import pytest

from tests.rig.engine import CommandLine

pytestmark = pytest.mark.both_clients


@pytest.mark.observes("docker run", "docker run --rm", "POST /containers/create", "POST /containers/{id}/start")
def test_run_prints_what_the_container_prints(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "busybox", "echo", "hello") == "hello"


@pytest.mark.observes("docker run --env")
def test_env_sets_a_variable(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "-e", "COLOUR=red", "busybox", "sh", "-c", "echo $COLOUR") == "red"

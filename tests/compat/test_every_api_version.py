"""The same docker command line, held to older versions of the API: a container's whole life in each of them."""

import json

import pytest

from tests.rig.engine import CommandLine, Engine, docker_program

# Where the meaning of a request or the form of a stream changed: conditions of wait 1.30, defaults 1.40 and 1.41, streams 1.42,
# what inspect shows 1.44, 1.48 and 1.52.
VERSIONS = ("1.24", "1.25", "1.29", "1.30", "1.40", "1.41", "1.42", "1.43", "1.44", "1.48", "1.52", "1.56")


@pytest.fixture(params=VERSIONS)
def old_cli(engine: Engine, request: pytest.FixtureRequest) -> CommandLine:
    """The docker command line that asks for one version and does not negotiate."""
    engine_version = engine.api("GET", "/version").json["ApiVersion"]
    if [int(part) for part in request.param.split(".")] > [int(part) for part in engine_version.split(".")]:
        pytest.skip(f"this engine speaks up to {engine_version}")
    return CommandLine(engine, ["env", f"DOCKER_API_VERSION={request.param}", docker_program()])


@pytest.mark.observes("POST /containers/{id}/attach", "POST /containers/{id}/wait", "POST /containers/{id}/start")
def test_run_gives_input_output_and_exit_code(old_cli: CommandLine) -> None:
    ended = old_cli("run", "-i", "--rm", "busybox", "sh", "-c", "cat; exit 7", stdin="piped")
    assert (ended.stdout, ended.code) == ("piped", 7), ended.stderr


@pytest.mark.observes("POST /exec/{id}/start", "GET /containers/{id}/logs", "GET /containers/json", "GET /containers/{id}/json")
def test_a_detached_container_is_listed_read_entered_and_stopped(old_cli: CommandLine) -> None:
    container_id = old_cli.ok("run", "-d", "--name", "aged", "busybox", "sh", "-c", "echo said; exec sleep 1000")
    assert old_cli.ok("ps", "--no-trunc", "-q") == container_id
    assert old_cli.ok("exec", "-i", "aged", "cat", stdin="in") == "in"
    assert json.loads(old_cli.ok("inspect", "aged"))[0]["State"]["Running"] is True
    assert old_cli.ok("logs", "aged") == "said"
    old_cli.ok("stop", "-t", "0", "aged")
    assert old_cli.ok("wait", "aged") == "137"

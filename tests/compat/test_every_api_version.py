"""The same docker command line, held to older versions of the API: a container's whole life in each of them."""

import json
import shlex
from pathlib import Path

import pytest

from carrack.api.versions import at_least
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


LINES: tuple[tuple[str, str, str], ...] = (
    # (command line, what its output holds, the first version that has it)
    ("version --format {{.Server.APIVersion}}", ".", ""),
    ("info --format {{.Driver}}", "overlay", ""),
    ("images -q busybox", "", ""),
    ("history -q busybox", "", ""),
    ("image inspect --format {{.Os}} busybox", "linux", ""),
    ("tag busybox aged:2", "", ""),
    ("create --name made -p 80 -v kept:/data --label a=b busybox sh -c 'echo hi > /f; exec sleep 1000'", "", ""),
    ("start made", "made", ""),
    ("port made", "80/tcp", ""),
    ("top made", "sleep 1000", ""),
    ("stats --no-stream --format {{.Name}} made", "made", ""),
    ("exec made sh -c 'echo more >> /f; cat /f'", "more", ""),
    ("cp made:/f -", "hi", ""),
    ("diff made", "A /f", ""),
    ("ps --filter label=a=b --format {{.Names}}", "made", ""),
    ("update --memory 64m --memory-swap 128m made", "made", ""),
    ("pause made", "made", ""),
    ("unpause made", "made", ""),
    ("rename made renamed", "", ""),
    ("commit renamed aged:3", "sha256:", ""),
    ("network create aging", "", ""),
    ("network connect --alias x aging renamed", "", ""),
    ("network inspect --format '{{len .Containers}}' aging", "1", ""),
    ("inspect --format '{{json .NetworkSettings.Networks}}' renamed", "aging", ""),
    ("network disconnect aging renamed", "", ""),
    ("network rm aging", "aging", ""),
    ("volume inspect --format {{.Driver}} kept", "local", ""),
    ("restart -t 0 renamed", "renamed", ""),
    ("kill renamed", "renamed", ""),
    ("events --since 1 --until 2", "", ""),
    ("export -o {folder}/tar renamed", "", ""),
    ("import {folder}/tar aged:4", "sha256:", ""),
    ("save -o {folder}/saved aged:3", "", ""),
    ("rm -v renamed", "renamed", ""),
    ("rmi aged:2 aged:3 aged:4", "Untagged: aged:2", ""),
    ("load -i {folder}/saved", "aged:3", ""),
    ("build -q -t aged:5 {folder}/context", "sha256:", ""),
    ("system df", "Images", "1.25"),
    ("container prune -f", "reclaimed", "1.25"),
    ("image prune -f", "reclaimed", "1.25"),
    ("volume rm -f kept", "kept", "1.25"),
)


LONG = pytest.mark.only_full("the oldest version runs always")


@pytest.mark.parametrize("old_cli", ["1.24", *(pytest.param(each, marks=LONG) for each in VERSIONS[1:])], indirect=True)
def test_everyday_commands_work(old_cli: CommandLine, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    version: str = request.node.callspec.params["old_cli"]
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM busybox\nRUN true\nCMD true\n")
    for line, shown, since in LINES:
        if since and not at_least(version, since):
            continue
        words = shlex.split(line.replace("{folder}", str(tmp_path)))
        assert shown in old_cli.ok(*words), line

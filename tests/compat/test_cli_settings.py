"""config.json: what it asks for is done, and asked of the daemon, as by Docker's command with the same file; and CLI plugins."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command_twins import DOCKER, asked, shape
from tests.rig.commands import Result, run
from tests.rig.engine import carrack_program, docker_major
from tests.rig.recorder import Recorder

needs_docker = pytest.mark.skipif(DOCKER is None or docker_major() < 28, reason="no docker command line of release 28 on PATH")

CONTAINER = {
    "Id": "a" * 64,
    "Names": ["/web"],
    "Image": "nginx",
    "ImageID": "sha256:" + "b" * 64,
    "Command": "run",
    "Created": 1700000000,
    "State": "running",
    "Status": "Up 2 minutes",
    "Ports": [],
    "Labels": {"a": "b"},
}
WHEN = {"CreatedAt": "2026-01-02T03:04:05Z", "UpdatedAt": "2026-01-02T03:04:05Z"}
ANSWERS: dict[str, Any] = {
    "GET /containers/json": [CONTAINER],
    "GET /images/json": [
        {
            "Id": "sha256:" + "c" * 64,
            "RepoTags": ["app:1"],
            "RepoDigests": [],
            "Created": 1700000000,
            "Size": 5000,
            "Containers": -1,
        }
    ],
    "GET /networks": [{"Id": "d" * 64, "Name": "front", "Driver": "bridge", "Scope": "local", "Created": "2026-01-02T03:04:05Z"}],
    "GET /volumes": {"Volumes": [{"Name": "data", "Driver": "local", "Mountpoint": "/m", "Scope": "local"}]},
    "GET /plugins": [{"Id": "e" * 64, "Name": "p:1", "Enabled": True, "Config": {"Description": "x"}}],
    "GET /nodes": [{"ID": "n1", "Description": {"Hostname": "one"}, "Spec": {"Role": "worker"}, "Status": {"State": "ready"}}],
    "GET /services": [
        {
            "ID": "s" * 25,
            "Spec": {"Name": "api", "Mode": {"Global": {}}, "TaskTemplate": {"ContainerSpec": {"Image": "i"}}},
            "ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 1},
        }
    ],
    "GET /secrets": [{"ID": "x1", **WHEN, "Spec": {"Name": "word"}}],
    "GET /configs": [{"ID": "y1", **WHEN, "Spec": {"Name": "page"}}],
    "GET /info": {"Swarm": {"NodeID": "n1"}},
    "POST /containers/create": {"Id": "a", "Warnings": []},
    "POST /images/create": {},
    "POST /containers/prune": {},
    "POST /networks/prune": {},
    "POST /auth": {"Status": "Login Succeeded"},
}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder(version="1.50", answers=ANSWERS) as recording:
        (recording.folder / ".docker").mkdir()
        yield recording


def settle(recorder: Recorder, settings: dict[str, Any]) -> None:
    (recorder.folder / ".docker/config.json").write_text(json.dumps(settings))


def both(recorder: Recorder, line: str) -> Result:
    """Insists that both ask and say the same; what ours said."""
    words = shlex.split(line)
    theirs, their_result = asked(recorder, str(DOCKER), words)
    ours, our_result = asked(recorder, carrack_program(), words)
    assert shape(ours) == shape(theirs)
    assert (our_result.code, our_result.stdout) == (their_result.code, their_result.stdout)
    assert our_result.stderr.replace("carrack", "docker") == their_result.stderr
    return our_result


@pytest.mark.parametrize(
    ("setting", "line", "template"),
    [
        ("psFormat", "ps", "{{.Names}} {{.Image}}"),
        ("imagesFormat", "images", "{{.Repository}}:{{.Tag}}"),
        ("networksFormat", "network ls", "{{.Name}}-{{.Driver}}"),
        ("volumesFormat", "volume ls", "{{.Name}}"),
        ("pluginsFormat", "plugin ls", "{{.Name}} {{.Enabled}}"),
        ("nodesFormat", "node ls", "{{.Hostname}}"),
        ("servicesFormat", "service ls", "{{.Name}} {{.Mode}}"),
        ("secretFormat", "secret ls", "{{.Name}}"),
        ("configFormat", "config ls", "table {{.Name}}\t{{.ID}}"),
    ],
)
@needs_docker
def test_a_lists_format_is_the_users(recorder: Recorder, setting: str, line: str, template: str) -> None:
    settle(recorder, {setting: template})
    assert both(recorder, line).stdout
    assert both(recorder, f"{line} -q").stdout
    assert both(recorder, f"{line} --format 'x{{{{.ID}}}}'" if line != "volume ls" else f"{line} --format x").stdout.startswith("x")


@needs_docker
def test_headers_go_with_every_request(recorder: Recorder) -> None:
    settle(recorder, {"HttpHeaders": {"X-Meta": "told", "User-Agent": "never"}})
    both(recorder, "ps")
    asked(recorder, carrack_program(), ["ps"])
    _, result = asked(recorder, carrack_program(), ["network", "ls"])
    assert result.code == 0


@pytest.mark.parametrize("place", ["default", "here"])
@needs_docker
def test_proxies_become_variables_of_containers_and_of_builds(recorder: Recorder, place: str) -> None:
    key = f"unix://{recorder.socket}" if place == "here" else "default"
    proxies = {
        "httpProxy": "http://p:1",
        "httpsProxy": "http://s:2",
        "noProxy": "local",
        "ftpProxy": "ftp://f",
        "allProxy": "socks://a",
    }
    settle(recorder, {"proxies": {key: proxies, "tcp://elsewhere": {"httpProxy": "no"}}})
    both(recorder, "create --name x busybox")
    both(recorder, "create -e HTTP_PROXY=mine busybox")


@needs_docker
def test_filters_of_every_prune_are_added(recorder: Recorder) -> None:
    """Docker's command forgets a label of the file unless the command line has labels of the other kind; what it protects stays."""
    settle(recorder, {"pruneFilters": ["label!=keep", "until=24h"]})
    wanted = {
        "container prune -f": {"label!": {"keep": True}, "until": {"24h": True}},
        "container prune -f --filter label=keep": {"label": {"keep": True}, "until": {"24h": True}},
        "network prune -f --filter label=other": {"label": {"other": True}, "label!": {"keep": True}, "until": {"24h": True}},
    }
    for line, filters in wanted.items():
        requests, _ = asked(recorder, carrack_program(), line.split())
        assert [request.query["filters"] for request in requests] == [[filters]]
    both(recorder, "container prune -f --filter label=keep")
    both(recorder, "network prune -f --filter label=other")


def helper(folder: Path, name: str, script: str) -> str:
    """Puts a credential helper on the PATH that is returned."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / f"bin/docker-credential-{name}"
    program.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {folder}/asked\n{script}\n')
    program.chmod(0o755)
    return f"{folder}/bin:/usr/bin:/bin"


@pytest.mark.parametrize("kind", ["credsStore", "credHelpers"])
@needs_docker
def test_a_helper_is_asked_for_the_login_of_a_registry(recorder: Recorder, tmp_path: Path, kind: str) -> None:
    path = helper(tmp_path, "safe", 'echo \'{"ServerURL":"reg.example","Username":"me","Secret":"word"}\'')
    settle(recorder, {kind: "safe" if kind == "credsStore" else {"reg.example": "safe"}})
    headers = []
    for program in (str(DOCKER), carrack_program()):
        done = run([program, "pull", "-q", "reg.example/app:1"], env=recorder.environment(PATH=path))
        assert done.code == 0, done
        headers += [request.headers["x-registry-auth"] for request in recorder.take() if request.path == "/images/create"]
    assert headers[0] == headers[1] != "e30="
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "get reg.example"


def test_a_login_goes_to_the_helper_and_not_to_the_file(recorder: Recorder, tmp_path: Path) -> None:
    path = helper(tmp_path, "safe", "exit 0")
    settle(recorder, {"credsStore": "safe", "keptKey": {"a": 1}})
    words = [carrack_program(), "login", "-u", "me", "--password-stdin", "reg.example"]
    done = run(words, env=recorder.environment(PATH=path), stdin="word\n")
    assert (done.code, done.stdout) == (0, "Login Succeeded\n")
    kept = json.loads((recorder.folder / ".docker/config.json").read_text())
    assert kept == {"auths": {"reg.example": {}}, "credsStore": "safe", "keptKey": {"a": 1}}
    assert json.loads((tmp_path / "asked").read_text().splitlines()[-1].removeprefix("store ")) == {
        "ServerURL": "reg.example",
        "Username": "me",
        "Secret": "word",
    }
    run([carrack_program(), "logout", "reg.example"], env=recorder.environment(PATH=path)).ok()
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "erase reg.example"


def test_a_helper_that_is_not_there_is_named(recorder: Recorder) -> None:
    settle(recorder, {"credHelpers": {"reg.example": "nowhere"}})
    done = run([carrack_program(), "pull", "reg.example/app:1"], env=recorder.environment())
    assert done.code == 1
    assert 'exec: "docker-credential-nowhere": executable file not found in $PATH' in done.stderr


# -- plugins

METADATA = '{"SchemaVersion":"0.1.0","Vendor":"me","Version":"1.2","ShortDescription":"Says hello"}'


def plugin(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"docker-{name}"
    program.write_text(
        "#!/bin/sh\n"
        f"[ \"$1\" = docker-cli-plugin-metadata ] && {{ echo '{METADATA}'; exit 0; }}\n"
        'echo "args: $*"; echo "host: $DOCKER_HOST"; exit 5\n'
    )
    program.chmod(0o755)


def test_a_plugin_of_the_users_folder_is_run_with_the_arguments_and_the_host(recorder: Recorder) -> None:
    plugin(recorder.folder / ".docker/cli-plugins", "hello")
    done = run(
        [carrack_program(), "-H", f"unix://{recorder.socket}", "hello", "--flag", "x", "-v"],
        env=recorder.environment(DOCKER_HOST=""),
    )
    assert done.code == 5
    assert done.stdout == f"args: hello --flag x -v\nhost: unix://{recorder.socket}\n"


def test_a_plugin_of_an_extra_folder_is_found_and_listed(recorder: Recorder, tmp_path: Path) -> None:
    plugin(tmp_path / "more", "extra")
    settle(recorder, {"cliPluginsExtraDirs": [str(tmp_path / "more")]})
    assert run([carrack_program(), "extra"], env=recorder.environment()).code == 5
    shown = run([carrack_program(), "info", "--format", "{{json .ClientInfo.Plugins}}"], env=recorder.environment()).ok()
    mine = next(entry for entry in json.loads(shown) if entry["Name"] == "extra")
    assert (mine["Version"], mine["ShortDescription"], mine["Path"]) == ("1.2", "Says hello", f"{tmp_path}/more/docker-extra")


def test_compose_is_handed_to_the_program_there_is(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/docker-compose"
    program.write_text('#!/bin/sh\necho "compose $*"; echo "$DOCKER_HOST"\n')
    program.chmod(0o755)
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    done = run([carrack_program(), "compose", "-f", "x.yml", "up", "-d"], env=recorder.environment(PATH=path))
    assert done.stdout.splitlines() == ["compose -f x.yml up -d", f"unix://{recorder.socket}"]


def test_a_word_that_is_no_plugin_is_an_unknown_command(recorder: Recorder) -> None:
    done = run([carrack_program(), "../evil"], env=recorder.environment())
    assert (done.code, done.stderr.splitlines()[0]) == (1, "carrack: unknown command: carrack ../evil")


# -- aliases


def test_an_alias_stands_for_the_beginning_of_a_command_line(recorder: Recorder) -> None:
    settle(recorder, {"aliases": {"names": "ps --format {{.Names}}", "ps": "version"}})
    said = run([carrack_program(), "names", "--no-trunc"], env=recorder.environment()).ok()
    assert said == "web"
    assert "CONTAINER ID" in run([carrack_program(), "ps"], env=recorder.environment()).ok(), "an alias hides no command"


def test_builder_may_lead_to_buildx(recorder: Recorder) -> None:
    plugin(recorder.folder / ".docker/cli-plugins", "buildx")
    settle(recorder, {"aliases": {"builder": "buildx"}})
    done = run([carrack_program(), "builder", "prune", "-f"], env=recorder.environment())
    assert (done.code, done.stdout.splitlines()[0]) == (5, "args: buildx prune -f")

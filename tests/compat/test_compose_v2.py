"""Compose v2 (Debian 14's plugin of the docker command line) with a project that uses what projects use."""

from pathlib import Path

import pytest

from tests.rig.commands import Result, run
from tests.rig.conversation import Pipes
from tests.rig.engine import CommandLine, docker_program
from tests.rig.plugins import install_plugins
from tests.rig.ports import FreePort
from tests.rig.slots import slot
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("the peer's published ports and cgroups are in a namespace of their own")

PROJECT = """
name: trio
x-all: &all {image: busybox, stop_grace_period: 1s}
services:
  db:
    <<: *all
    command: sh -c "cp -r /seed /www && echo serving && exec httpd -f -p 8000 -h /www"
    volumes: ["./seed:/seed:ro", "kept:/kept", {type: tmpfs, target: /scratch, tmpfs: {size: 1m}}]
    healthcheck:
      {test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], interval: 1s, retries: 20, start_period: 9s, start_interval: 0.1s}
    networks: {back: {aliases: [store], ipv4_address: SUBNET.77}}
    secrets: [token, {source: spoken, target: /run/secrets/spoken, mode: 0400}]
    configs: [{source: written, target: /etc/written}, {source: inline, target: /etc/inline}]
  setup:
    <<: *all
    command: sh -c "mkdir -p /kept/below && echo made > /kept/below/setup"
    volumes: ["kept:/kept"]
    networks: [back]
  web:
    <<: *all
    command: sh -c "wget -qO /got http://store:8000/ && echo got; exec httpd -f -p 80 -h /"
    init: true
    depends_on:
      db: {condition: service_healthy, restart: true}
      setup: {condition: service_completed_successfully}
    env_file: [web.env]
    environment: {GREETING: "${GREETING}"}
    networks: {front: {interface_name: outer, gw_priority: 1}, back: {}}
    ports: ["127.0.0.1:PORT:80", "127.0.0.1::81"]
    volumes: [{type: volume, source: kept, target: /part, volume: {subpath: below}}, {type: image, source: busybox, target: /img}]
    post_start: [{command: ["sh", "-c", "echo hooked > /hooked"]}]
    deploy: {resources: {limits: {memory: 64M, cpus: "0.5", pids: 50}}}
    ulimits: {nofile: 1000}
    sysctls: {net.core.somaxconn: 1024}
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    labels: {role: front}
  beside: {image: busybox, command: sleep 1000, stop_signal: KILL, network_mode: "service:web", pid: "service:web"}
  worker: {extends: {file: more/common.yml, service: worker}, networks: [back]}
  tool: {<<: *all, command: echo used, profiles: [tools], network_mode: none}
include: [more/extra.yml]
volumes: {kept: {labels: {role: store}}}
networks:
  back: {ipam: {config: [{subnet: SUBNET.0/24}]}}
  front: {}
secrets: {token: {file: ./token}, spoken: {environment: SPOKEN}}
configs: {written: {file: ./written}, inline: {content: "inline ${GREETING}"}}
"""
FILES = {
    "seed/index.html": "from the seed\n",
    "web.env": "FROM_FILE=file\n",
    "token": "token\n",
    "written": "written\n",
    "more/common.yml": "services: {worker: {image: busybox, command: sh -c 'echo working; exec sleep 1000', stop_signal: KILL}}\n",
    "more/extra.yml": "services: {extra: {image: busybox, command: sleep 1000, network_mode: none, stop_signal: KILL}}\n",
}


class Compose:
    """The plugin in a project's folder, bound to an engine."""

    def __init__(self, cli: CommandLine, folder: Path) -> None:
        install_plugins(cli.engine.folder / "home", "compose", "buildx")
        self.env = cli.engine.env() | {"GREETING": "hello", "SPOKEN": "word"}
        self.program = [docker_program(), "compose", "--ansi", "never", "--progress", "quiet", "--project-directory", str(folder)]

    def __call__(self, *words: str) -> Result:
        return run([*self.program, *words], env=self.env)

    def ok(self, *words: str) -> str:
        """Run it and insist on exit code 0."""
        return self(*words).ok()

    def states(self) -> dict[str, str]:
        """What has become of every container of the project, by service and number."""
        rows = self.ok("ps", "-a", "--format", "{{.Name}} {{.State}} {{.Health}} {{.ExitCode}}").splitlines()
        return {name: " ".join(rest.split()) for name, _, rest in (row.partition(" ") for row in rows)}


@pytest.fixture
def compose(cli: CommandLine, tmp_path: Path) -> Compose:
    tmp_path.chmod(0o755)
    return Compose(cli, tmp_path)


@pytest.fixture
def port(tmp_path: Path, free_port: FreePort) -> int:
    """The project's own, with its files written."""
    number = free_port()
    text = PROJECT.replace("SUBNET", f"10.{130 + slot()}.251").replace("PORT", str(number))
    for name, content in {**FILES, "compose.yml": text}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return number


@pytest.mark.observes("GET /events", "POST /containers/{id}/exec", "GET /containers/{id}/archive", "GET /containers/{id}/stats")
def test_a_project_that_uses_everything_goes_up_is_looked_after_and_goes_down(
    cli: CommandLine, compose: Compose, port: int, tmp_path: Path
) -> None:
    compose.ok("up", "-d", "--wait")
    up = {f"trio-{name}-1": "running 0" for name in ("web", "beside", "worker", "extra")}
    assert compose.states() == {**up, "trio-db-1": "running healthy 0", "trio-setup-1": "exited 0"}

    inside = "cat /run/secrets/* /etc/written /etc/inline; stat -c %a /run/secrets/spoken; df -k /scratch | awk '{print $2}'"
    assert compose.ok("exec", "db", "sh", "-c", f"{inside}; ip addr | grep -c .251.77/").split() == [
        *("wordtoken", "written", "inline", "hello400", "1K-blocks", "1024", "1"),
    ]
    inside = "cat /got /part/setup /hooked; echo $FROM_FILE $GREETING; ulimit -n; cat /proc/sys/net/core/somaxconn; ls /img"
    seen = compose.ok("exec", "-T", "web", "sh", "-c", f"{inside}; ip route | awk '/^default/ {{print $5}}'").split()
    assert seen[:8] == ["from", "the", "seed", "made", "hooked", "file", "hello", "1000"]
    assert (seen[8], "bin" in seen, seen[-1]) == ("1024", True, "outer")
    assert run(["curl", "-s", f"http://127.0.0.1:{port}/got"]).ok() == "from the seed"
    assert compose.ok("port", "web", "80") == f"127.0.0.1:{port}"
    assert "httpd" in compose.ok("exec", "-T", "beside", "ps")

    for words, expected in (
        (("ls", "--format", "json"), '"Status":"running(5)"'),
        (("images",), "trio-web-1"),
        (("top", "db"), "httpd"),
        (("stats", "--no-stream"), "64MiB"),
        (("logs", "--no-color", "worker"), "worker-1  | working"),
        (("volumes",), "trio_kept"),
        (("run", "--rm", "tool"), "used"),
        (("config", "--services"), "beside"),
    ):
        assert expected in compose.ok(*words), words
    assert compose("run", "--rm", "-T", "-e", "X=given", "worker", "sh", "-c", "echo $X; exit 4").code == 4

    compose.ok("pause", "extra")
    assert compose.states()["trio-extra-1"].startswith("paused")
    compose.ok("unpause", "extra")
    compose.ok("cp", "web:/got", str(tmp_path / "got"))
    compose.ok("cp", str(tmp_path / "got"), "web:/again")
    assert compose.ok("exec", "web", "cat", "/again") == "from the seed"

    web = cli.ok("inspect", "-f", "{{.State.StartedAt}}", "trio-web-1")
    with Pipes([*compose.program, "logs", "-f", "--no-log-prefix", "db", "worker"], env=compose.env) as followed:
        followed.expect("serving")
        compose.ok("restart", "db")  # a dependant that asks for it is started anew
        followed.expect("serving")
        compose.ok("up", "-d", "--scale", "worker=2")
        followed.expect("working")
    assert cli.ok("inspect", "-f", "{{.State.StartedAt}}", "trio-web-1") != web
    compose.ok("kill", "worker")
    assert compose.states()["trio-worker-2"] == "exited 137"
    compose.ok("start", "worker")
    compose.ok("stop", "-t", "0")
    assert compose.states()["trio-extra-1"] == "exited 137"

    compose.ok("down", "-v", "--remove-orphans", "-t", "0")
    assert cli.ok("ps", "-aq") == cli.ok("volume", "ls", "-q") == ""
    assert set(cli.ok("network", "ls", "--format", "{{.Name}}").split()) == {"bridge", "host", "none"}


JOB = """
services:
  test: {image: busybox, command: sh -c "echo tested; exit 7", depends_on: [db]}
  db: {image: busybox, command: sh -c "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"}
"""
FLAKY = """
services:
  flaky: {image: busybox, command: sh -c "echo again; exit 5", restart: "on-failure:2"}
  sick: {image: busybox, command: sleep 1000, stop_signal: KILL, healthcheck: {test: exit 1, interval: 0.1s, retries: 2}}
"""


@pytest.mark.observes("GET /events", "docker run --restart", "docker run --health-cmd")
def test_up_in_the_foreground_ends_as_the_services_do(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text(JOB)
    for flag in ("--abort-on-container-exit", "--exit-code-from=test"):
        ended = compose("up", flag)
        assert ended.code == 7
        shown = " ".join(ended.stdout.split())
        assert all(words in shown for words in ("test-1 | tested", "db-1 | up", "db-1 | bye")), ended
    compose.ok("down", "-t", "0")

    (tmp_path / "compose.yml").write_text(FLAKY)
    assert compose("up", "--wait", "sick").code == 1
    shown = compose("up", "flaky").stdout
    assert shown.count("| again") == 3
    assert (shown.count("exited with code 5 (restarting)"), shown.count("exited with code 5")) == (2, 3)
    compose.ok("down", "-t", "0")


WATCHED = """
services:
  web:
    build: .
    command: sh -c "cat /made; exec sleep 1000"
    stop_signal: KILL
    develop: {watch: [{action: sync, path: ./src, target: /src}, {action: rebuild, path: ./recipe}]}
"""


@pytest.mark.observes("docker build", "PUT /containers/{id}/archive")
def test_watch_brings_changes_into_the_container_or_builds_it_anew(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    files = {"src/page": "first\n", "recipe": "made once\n", "compose.yml": WATCHED}
    for name, content in {**files, "Dockerfile": "FROM busybox\nCOPY src /src\nCOPY recipe /made\n"}.items():
        (tmp_path / name).write_text(content)
    with Pipes([*compose.program, "up", "--build", "--watch"], env=compose.env) as watching:
        watching.expect("Watch enabled", timeout_seconds=40)
        watching.expect("made once")
        assert compose.ok("exec", "web", "cat", "/src/page") == "first"
        (tmp_path / "src/page").write_text("second\n")
        until(lambda: compose("exec", "web", "cat", "/src/page").stdout == "second\n", "the change to be there")
        (tmp_path / "recipe").write_text("made twice\n")
        watching.expect("made twice", timeout_seconds=40)
    compose.ok("down", "-t", "0", "--rmi", "all")

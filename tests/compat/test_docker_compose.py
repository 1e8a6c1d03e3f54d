"""Debian's docker-compose 1.29 brings a project of three services up, looks after it, and takes it down."""

import os
import shutil
from pathlib import Path

import pytest

from tests.rig.commands import Result, run
from tests.rig.engine import CommandLine

PROJECT = """
version: "3.8"
services:
  db:
    image: busybox
    command: sh -c "mkdir -p /www && cp /seed/index.html /www/ && exec httpd -f -p 8000 -h /www"
    volumes: ["./seed:/seed:ro", "data:/data"]
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8000/"], interval: 1s, retries: 20}
    networks: {back: {aliases: [store]}}
  web:
    image: busybox
    command: sh -c "while ! wget -qO /got http://store:8000/; do sleep 0.1; done; cat /got; exec httpd -f -p 80 -h /"
    depends_on: [db]
    environment: {GREETING: "hello"}
    networks: [back, front]
    expose: ["80"]
    labels: {role: front}
  worker:
    image: busybox
    command: sh -c "echo working; exec sleep 1000"
    tmpfs: /scratch
    networks: [back]
volumes: {data: {}}
networks: {back: {}, front: {}}
"""


class Compose:
    """The program in a project's folder, bound to an engine."""

    def __init__(self, cli: CommandLine, folder: Path) -> None:
        self._env = cli.engine.env() | {"COMPOSE_HTTP_TIMEOUT": "60", "PYTHONWARNINGS": "ignore"}
        self._folder = folder

    def __call__(self, *words: str) -> Result:
        argv = [
            "docker-compose",
            "--ansi",
            "never",
            "--project-directory",
            str(self._folder),
            "-f",
            str(self._folder / "compose.yml"),
        ]
        return run([*argv, "-p", "trio", *words], env=self._env, timeout_seconds=100)


@pytest.fixture
def compose(cli: CommandLine, tmp_path: Path) -> Compose:
    assert shutil.which("docker-compose"), "no docker-compose: scripts/setup installs it"
    os.chmod(tmp_path, 0o755)
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed/index.html").write_text("from the seed\n")
    (tmp_path / "compose.yml").write_text(PROJECT)
    return Compose(cli, tmp_path)


@pytest.mark.observes("docker network create", "docker volume create", "docker run")
def test_a_project_of_three_services_goes_up_and_down(cli: CommandLine, compose: Compose) -> None:
    compose("up", "-d", "-t", "0").ok()
    rows = cli.ok("ps", "--format", "{{.Names}}").split()
    assert sorted(rows) == ["trio_db_1", "trio_web_1", "trio_worker_1"]
    assert "from the seed" in compose("exec", "-T", "web", "sh", "-c", "while [ ! -s /got ]; do sleep 0.1; done; cat /got").ok()
    assert cli.ok("exec", "trio_web_1", "sh", "-c", "echo $GREETING") == "hello"
    assert "working" in compose("logs", "worker").ok()

    compose("up", "-d", "-t", "0", "--scale", "worker=2").ok()
    assert len(compose("ps", "-q", "worker").ok().split()) == 2
    compose("restart", "-t", "0", "worker").ok()
    compose("stop", "-t", "0", "web").ok()
    assert "Exit" in compose("ps", "web").ok()

    # what is unchanged stays; what is changed is made anew, with its volume
    db = cli.ok("inspect", "-f", "{{.Id}}", "trio_db_1")
    cli.ok("exec", "trio_db_1", "touch", "/data/kept")
    compose("up", "-d", "-t", "0").ok()
    assert cli.ok("inspect", "-f", "{{.Id}}", "trio_db_1") == db
    compose("up", "-d", "-t", "0", "--force-recreate", "db").ok()
    assert cli.ok("inspect", "-f", "{{.Id}}", "trio_db_1") != db
    assert cli.ok("exec", "trio_db_1", "ls", "/data") == "kept"
    assert compose("run", "--rm", "-T", "worker", "echo", "once").ok().strip().endswith("once")

    compose("down", "-v", "-t", "0").ok()
    assert cli.ok("ps", "-aq") == ""
    assert cli.ok("volume", "ls", "-q") == ""
    assert set(cli.ok("network", "ls", "--format", "{{.Name}}").split()) == {"bridge", "host", "none"}


BUILT = """
services:
  store:
    build: {context: ., args: {SAID: "from the build"}}
    command: sh -c "sleep 0.3; touch /ready; exec sleep 1000"
    healthcheck: {test: ["CMD", "test", "-e", "/ready"], interval: 0.2s, retries: 50}
    volumes: ["kept:/kept"]
  job:
    build: {context: ., args: {SAID: "from the build"}}
    command: sh -c "cat /said; echo x >> /kept/runs; wc -l < /kept/runs; exit 3"
    depends_on: {store: {condition: service_healthy}}
    volumes: ["kept:/kept"]
volumes: {kept: {}}
"""


@pytest.mark.observes("POST /build", "docker run --health-cmd", "GET /containers/{id}/logs")
def test_a_job_waits_for_a_healthy_service_and_its_exit_code_is_the_projects(
    cli: CommandLine, compose: Compose, tmp_path: Path
) -> None:
    (tmp_path / "compose.yml").write_text(BUILT)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG SAID\nRUN echo $SAID > /said\n")
    for times in (1, 2):  # taken down in between, its volume kept
        ended = compose("up", "-t", "0", "--exit-code-from", "job")
        assert ended.code == 3, ended.stderr
        shown = [line.partition("|")[2].strip() for line in ended.stdout.splitlines() if line.startswith("job_1")]
        assert shown[:2] == ["from the build", str(times)]
        compose("down", "-t", "0").ok()
        assert cli.ok("ps", "-aq") == ""
    assert cli.ok("volume", "ls", "-q") == "trio_kept"
    assert {"trio_store", "trio_job"} <= set(cli.ok("images", "--format", "{{.Repository}}").split())

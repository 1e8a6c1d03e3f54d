"""Compose 2, as docker's users have it today: builds by buildx (bake), brings a project up, follows it to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine
from tests.rig.plugins import plugged_in

PROJECT = """
services:
  made:
    build: {context: app, args: {WHO: compose}}
    command: cat /who
  inline:
    build:
      dockerfile_inline: |
        FROM busybox
        RUN echo inline > /i
    command: cat /i
    depends_on: {made: {condition: service_completed_successfully}}
"""


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "app").mkdir()
    (tmp_path / "compose.yaml").write_text(PROJECT)
    (tmp_path / "app/Dockerfile").write_text("FROM busybox\nARG WHO\nCOPY f /\nRUN echo $WHO > /who\n")
    (tmp_path / "app/f").write_text("f\n")
    with plugged_in(engine):
        yield str(tmp_path / "compose.yaml")


@pytest.mark.observes("POST /grpc", "POST /session")
def test_a_project_is_built_and_followed_to_its_end(docker_cli: CommandLine, project: str) -> None:
    def compose(*words: str) -> str:
        done = docker_cli("compose", "--ansi", "never", "-p", "two", "-f", project, *words, timeout_seconds=90)
        assert done.code == 0, str(done)
        return done.stdout + done.stderr

    built = compose("build")
    assert "naming to docker.io/library/two-made:latest" in built
    assert "two-inline" in built
    shown = compose("up", "--build")
    assert "compose" in shown
    assert "inline" in shown
    assert "exited with code 0" in shown
    first = docker_cli.ok("ps", "-aq")
    compose("up", "--build")  # nothing has changed: the containers stay
    assert docker_cli.ok("ps", "-aq") == first
    compose("down", "--rmi", "local")
    assert "two-made" not in docker_cli.ok("images")


@pytest.mark.observes("GET /events")
def test_whoever_hears_that_a_container_died_sees_it_dead(engine: Engine) -> None:
    """Compose looks at once, and took one that was said to run for one that is started again."""
    docker = engine.docker_py()
    try:
        events = docker.events(decode=True, filters={"event": "die"})
        for words in (["true"], ["sh", "-c", "exit 3"]):
            container = docker.containers.run("busybox", words, detach=True)
            told = next(events)
            assert told["Actor"]["ID"] == container.id
            container.reload()
            assert container.attrs["State"]["Status"] == "exited"
            assert not container.attrs["State"]["Running"]
        events.close()
    finally:
        docker.close()

"""Compose 2, as docker's users have it today: builds by buildx (bake), brings a project up, follows it to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine
from tests.rig.plugins import install_plugins, remove_plugins

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
    install_plugins(engine.folder / "home", "buildx", "compose")
    yield str(tmp_path / "compose.yaml")
    remove_plugins(engine.folder / "home", "buildx")


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

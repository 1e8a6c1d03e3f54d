"""`carrack build`: the context that travels once, outputs, secrets, agents, displays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.engine import CommandLine, Engine, carrack_program


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


def context(tmp_path: Path, dockerfile: str, **files: str) -> Path:
    folder = tmp_path / "context"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_it_builds(carrack: CommandLine, tmp_path: Path) -> None:
    folder = context(tmp_path, "FROM busybox\nCOPY a /b\nRUN echo said; cat /b\n", a="content")
    carrack.ok("build", "-t", "one", str(folder))
    carrack.ok("build", "-t", "one", str(folder))
    assert "content" in carrack.ok("run", "--rm", "one", "cat", "/b")

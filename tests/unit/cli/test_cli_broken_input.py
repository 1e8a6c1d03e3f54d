"""A settings file, a helper or a daemon that says nonsense is answered in a line, never by a stack."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.rig.recorder import Recorder

ROOT = Path(__file__).resolve().parents[3]
CREATED = {"POST /containers/create": {"Id": "a" * 64}}


def said(folder: Path, settings: dict[str, Any], *words: str, path: str = "", answers: dict[str, Any] | None = None) -> str:
    """What the command says on stderr; it must fail, and not by a stack."""
    (folder / "config.json").write_text(json.dumps(settings))
    with Recorder(answers=answers or CREATED) as recorder:
        environment = {**recorder.environment(), "DOCKER_CONFIG": str(folder)}
        if path:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        done = subprocess.run(
            [ROOT / ".venv/bin/carrack", *words], env=environment, capture_output=True, text=True, check=False, timeout=20
        )
    assert done.returncode in (1, 125)
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("settings", "words", "expected"),
    [
        ({"auths": {"https://index.docker.io/v1/": 7}}, "pull x", "the entry of https://index.docker.io/v1/ is no object"),
        ({"proxies": {"default": 5}}, "run -d x", "proxies: want an object"),
        ({"cliPluginsExtraDirs": 5}, "foo", "unknown command: carrack foo"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(tmp_path: Path, settings: dict[str, Any], words: str, expected: str) -> None:
    assert expected in said(tmp_path, settings, *words.split())


def test_a_helper_that_gives_no_json_is_named(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-broken"
    helper.write_text("#!/bin/sh\necho nonsense\n")
    helper.chmod(0o755)
    assert "docker-credential-broken gave no JSON object" in said(
        tmp_path, {"credsStore": "broken"}, "pull", "x", path=str(tmp_path)
    )


def test_an_answer_that_lacks_what_dockers_has_is_no_stack_unless_debug_asks_for_it(tmp_path: Path) -> None:
    answers = {"GET /containers/a/json": {"Id": "a", "Config": {}}}
    assert "unexpected KeyError" in said(tmp_path, {}, "attach", "a", answers=answers)

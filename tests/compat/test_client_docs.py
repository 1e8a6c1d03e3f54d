"""Every example of docs/client.md is run, on each engine."""

import re
from pathlib import Path

import pytest

from tests.rig.engine import Engine

PAGE = Path(__file__).resolve().parents[2] / "docs/client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_does_what_it_says(engine: Engine, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.delenv("CARRACK_HOST", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    exec(compile(EXAMPLES[number], f"{PAGE.name}, example {number + 1}", "exec"), {})  # each stands for itself  # noqa: S102

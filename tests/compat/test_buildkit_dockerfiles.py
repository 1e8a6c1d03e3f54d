"""BuildKit's own data files for its parser and its expansion, when CARRACK_BUILDKIT names a checkout of that project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import DockerfileError, Fault
from carrack.build.dockerfile.instructions_of import instructions_of
from carrack.build.dockerfile.syntax import Statement, parse

_CHECKOUT = os.environ.get("CARRACK_BUILDKIT", "")
_ROOT = Path(_CHECKOUT or "/nonexistent") / "frontend/dockerfile"

pytestmark = pytest.mark.skipif(not _CHECKOUT, reason="CARRACK_BUILDKIT names no checkout")


def _quote(text: str) -> str:
    marks = {"\\": "\\\\", '"': '\\"', "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\x00", "\b": "\\b", "\f": "\\f"}
    return '"' + "".join(marks.get(character, character) for character in text) + '"'


def _dump(statement: Statement) -> str:
    parts = [statement.keyword.lower()]
    if statement.flags:
        parts.append("[" + " ".join(_quote(flag) for flag in statement.flags) + "]")
    if statement.trigger is not None:
        parts.append(f"({_dump(statement.trigger)})")
    for pair in statement.pairs:
        parts += [_quote(pair.name), _quote(pair.value), _quote("" if pair.legacy else "=")]
    parts += [_quote(argument) for argument in statement.arguments]
    return " ".join(parts)


def _words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", sorted(found.name for found in (_ROOT / "parser/testfiles").glob("*")))
def test_each_test_file_parses_to_its_stated_tree(name: str) -> None:
    folder = _ROOT / "parser/testfiles" / name
    tree = "\n".join(f"({_dump(statement)})" for statement in parse((folder / "Dockerfile").read_bytes()).statements)
    assert _words(tree) == _words((folder / "result").read_text())


@pytest.mark.parametrize("name", sorted(found.name for found in (_ROOT / "parser/testfiles-negative").glob("*")))
def test_each_negative_test_file_is_refused(name: str) -> None:
    with pytest.raises(DockerfileError):
        instructions_of(parse((_ROOT / "parser/testfiles-negative" / name / "Dockerfile").read_bytes()))


def _expansions() -> list[tuple[str, str]]:
    if not _CHECKOUT:
        return []
    rows = [line.split("|") for line in (_ROOT / "shell/envVarTest").read_text().splitlines() if line.strip() and line[0] != "#"]
    return [(row[1].strip(), row[2].strip()) for row in rows if row[0].strip() in ("A", "U")]


@pytest.mark.parametrize(("source", "expected"), _expansions())
def test_each_line_of_the_expansion_file_gives_its_stated_word(source: str, expected: str) -> None:
    lookup = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}.get
    if expected == "error":
        with pytest.raises(Fault):
            Expansion(lookup).word(source)
    else:
        assert Expansion(lookup).word(source) == expected


def _divisions() -> list[tuple[str, list[str], dict[str, str]]]:
    rows: list[tuple[str, list[str], dict[str, str]]] = []
    values: dict[str, str] = {}
    for line in (_ROOT / "shell/wordsTest").read_text().split("\n") if _CHECKOUT else ():
        if line.startswith("ENV "):
            name, _, value = line[4:].lstrip(" ").partition("=")
            values[name] = value
        elif line and not line.startswith("#"):
            test, _, expected = line.partition("|")
            rows.append((test.strip(), expected.lstrip(" ").split(","), dict(values)))
    return rows


@pytest.mark.parametrize(("source", "expected", "values"), _divisions())
def test_each_line_of_the_words_file_divides_as_stated(source: str, expected: list[str], values: dict[str, str]) -> None:
    if expected == ["error"]:
        with pytest.raises(Fault):
            Expansion(values.get).words(source)
    else:
        assert list(Expansion(values.get).words(source)) == expected

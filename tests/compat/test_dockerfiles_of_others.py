"""Our parser beside an independent one (dockerfile-parse), on Dockerfiles that people wrote.

The repository's own is always compared; CARRACK_DOCKERFILES may name folders (with `:` between) of other projects' checkouts.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from carrack.build.dockerfile.syntax import parse
from tests.rig.engine import ROOT

_GIVEN = [Path(folder) for folder in os.environ.get("CARRACK_DOCKERFILES", "").split(":") if folder]
_FOUND = sorted(
    path for folder in _GIVEN for path in folder.rglob("*ockerfile*") if path.is_file() and path.suffix in ("", ".simple")
)


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", *_FOUND], ids=str)
def test_an_independent_parser_reads_the_same_instructions(path: Path) -> None:
    content = path.read_bytes()
    syntax = parse(content)
    if any(statement.heredocs for statement in syntax.statements) or syntax.escape != "\\":
        return  # which the other parser does not know
    theirs = [
        (entry["instruction"], "".join(entry["value"].split()))
        for entry in DockerfileParser(fileobj=io.BytesIO(content)).structure
        if entry["instruction"] != "COMMENT"
    ]
    ours = [
        (statement.keyword.upper(), "".join(statement.original.strip()[len(statement.keyword) :].split()))
        for statement in syntax.statements
    ]
    assert ours == theirs

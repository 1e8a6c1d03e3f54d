"""`carrack system fsck`: what no record names is found, and goes when asked; what is used is never touched."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeEngine
from tests.rig.commands import Result, run
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program

pytestmark = pytest.mark.peer_lacks("fsck")


def fsck(engine: Engine, *flags: str) -> Result:
    places = ["--data-root", str(engine.data_root), "--exec-root", str(engine.exec_root), "--instance", engine.token]
    return run([carrack_program(), "system", "fsck", *places, *flags], env=engine.env())


def found(engine: Engine, *flags: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in fsck(engine, "--json", *flags).stdout.splitlines()]


def litter(root: Path) -> set[str]:
    """What a crash, or a curious administrator, might leave."""
    made = {
        "layers/strange/diff/file", "volumes/strange/_data/file", "volumes/.new-0123/_data/file", "ingest/tmp-0123",
        "containers/" + "f" * 64 + "/logs/x", "blobs/sha256/" + "0" * 64, "trash/0123/file",
    }  # fmt: skip
    for name in made:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 10)
    (root / "volumes/strange/_data/out").symlink_to("/etc")
    return {"/".join(name.split("/")[: 3 if name.startswith("blobs") else 2]) for name in made}


def test_litter_is_found_and_removed_and_what_is_used_stays(make_engine: MakeEngine) -> None:
    engine = make_engine()
    cli = CommandLine(engine, [docker_program()])
    cli.ok("run", "-d", "--name", "stays", "-v", "kept:/k", "busybox", "sh", "-c", "echo here > /k/f; exec sleep 1000")
    assert fsck(engine).code == 0, fsck(engine).stdout
    expected = {str(engine.data_root / name) for name in litter(engine.data_root)}
    told = found(engine)
    assert {each["path"] for each in told} == expected
    assert {each["problem"] for each in told} == {"garbage"}
    assert fsck(engine).code == 1
    refused = fsck(engine, "--remove")
    assert (refused.code, "is in use by another daemon" in refused.stderr) == (2, True)
    engine.stop()
    assert all(each["removed"] for each in found(engine, "--remove"))
    assert fsck(engine).code == 0
    assert not [path for path in expected if os.path.lexists(path)]
    engine.start()
    assert cli.ok("exec", "stays", "cat", "/k/f") == "here"
    assert cli.ok("run", "--rm", "busybox", "echo", "works") == "works"


def test_what_is_missing_or_corrupt_is_told_and_not_removed(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.stop()
    (first, *_) = sorted((engine.data_root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = first.read_bytes()
    first.write_bytes(content + b" ")
    (corrupt,) = found(engine, "--verify", "--remove")
    assert (corrupt["problem"], corrupt["path"], corrupt["removed"]) == ("corrupt", str(first), False)
    first.unlink()
    (missing,) = found(engine)
    assert (missing["problem"], missing["kind"], missing["path"]) == ("missing", "blob", str(first))
    first.write_bytes(content)
    assert fsck(engine, "--verify").code == 0
    engine.start()


def test_a_place_that_is_no_data_root_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine(start=False)
    ended = run([carrack_program(), "system", "fsck", "--data-root", str(tmp_path)], env=engine.env())
    assert (ended.code, "no data-root of Carrack" in ended.stderr) == (2, True)
    assert "Usage:" in run([carrack_program(), "system", "fsck", "--help"], env=engine.env()).stdout

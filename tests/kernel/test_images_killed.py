"""A daemon killed in the middle of a load or a removal: whatever the instant, the next one finds whole things only (root)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import tarballs
from tests.rig.house import House
from tests.rig.tarballs import Packed, entry, pieces, tar

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
PACKED = Packed([tar(entry("a", b"1" * 5000)), tar(entry("b", b"2" * 5000)), tar(entry("c", b"3"))], ["app:1"])

CHILD = """
import os, signal, sys
from pathlib import Path
root, order, fatal = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
from tests.rig.house import House
from carrack.state import Database

house = House(root)
steps = 0

def step(function):
    def counted(*arguments, **options):
        global steps
        steps += 1
        if steps == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return counted

# every call that changes the disk
for name in ("mkdir", "rename", "unlink"):
    setattr(Path, name, step(getattr(Path, name)))
Database.write = step(Database.write)
os.write = step(os.write)

if order == "load":
    house.load((root.parent / "image.tar").read_bytes())
elif order == "remove":
    house.images.remove("app:1")
house.close()
print("finished")
"""


def run(root: Path, order: str, fatal: int) -> bool:
    """Carry out an order in a child that is killed at one of its steps; whether it came to the end instead."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(root), order, str(fatal)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return "finished" in done.stdout


def check(root: Path) -> list[str]:
    """Recover as a daemon does at its start; then every image is whole, and nothing else is there."""
    house = House(root)
    try:
        house.images.recover()
        assert house.snapshots.garbage() == house.snapshots.missing() == []
        assert os.listdir(root / "ingest") == []
        assert set(house.content.list()) == house.images.store.index.blobs()
        for image in house.images.list(all=True):
            for digest in house.images.store.index.blobs_of(image.id):
                house.content.verify(digest)
            for layer in house.snapshots.chain(image.chain_id):
                assert house.snapshots.directory(layer).is_dir()
            b"".join(house.images.save([str(image.id)]))
        if not house.names():
            assert house.remains() == []
        return house.names()
    finally:
        house.close()


def test_a_load_is_whole_or_nothing_wherever_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(tarballs.dual_archive(PACKED))
    fatal = 0
    finished = False
    while not finished:
        fatal += 5
        root = tmp_path / str(fatal)
        root.mkdir()
        finished = run(root, "load", fatal)
        assert check(root) in ([], ["app:1"])
        assert not finished or check(root) == ["app:1"]
    assert fatal > 15


def test_a_removal_is_whole_or_nothing_wherever_it_is_killed(tmp_path: Path) -> None:
    fatal = 0
    finished = False
    while not finished:
        fatal += 2
        root = tmp_path / str(fatal)
        root.mkdir()
        house = House(root)
        list(house.images.load(pieces(tarballs.dual_archive(PACKED))))
        house.close()
        finished = run(root, "remove", fatal)
        names = check(root)
        assert names == [] if finished else names in ([], ["app:1"])
    assert fatal > 3

"""Command lines in `lines/`: exit code, output and error of each are the same from Carrack's daemon as from dockerd.

A block of lines is one scene, and begins on an empty engine; the two engines play theirs at the same time. What differs on purpose
is in docs/differences.md, and in no block.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import EnginePool, Images
from tests.rig.archives import Entry, Recipe, docker_archive, folder, symlink, tar
from tests.rig.beside import Pair
from tests.rig.engine import ROOT

LINES = Path(__file__).parent / "lines"
IN_SHORT = {"limits": 8, "process": 8, "mounts": 7, "networks": 7, "life": 3}
"""Of how many blocks CI plays one."""


def others(images: Images) -> tuple[Recipe, ...]:
    """rich: an image that says something of everything. nocmd: one that says nothing. arm: one for another machine."""
    data = [folder("data"), Entry("data/seed", b"seed\n"), folder("data/sub"), Entry("file", b"file\n"), symlink("link", "data")]
    config = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["id; pwd; env | sort"],
        "Env": [*images.busybox.config["Env"], "FROM=image", "BOTH=image"],
        "User": "app",
        "WorkingDir": "/data/sub",
        "Volumes": {"/data": {}, "/vol2": {}},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"l": "image", "m": "image"},
        "StopSignal": "SIGUSR1",
    }
    layer = tar([*data, folder("vol2", 0o700, 1000, 1000)])
    return (
        Recipe((images.rootfs, layer), ("rich:latest",), config),
        Recipe((tar([folder("x")]),), ("nocmd:latest",)),
        Recipe((images.rootfs, tar([folder("arm")])), ("arm:latest",), {"Cmd": ["sh"]}, architecture="arm64"),
    )


@pytest.fixture(scope="module")
def pair(engine_pool: EnginePool, images: Images) -> Iterator[Pair]:
    """Both engines, with the images of these scenes."""
    if not (ROOT / ".peer/usr/sbin/dockerd").exists():
        subprocess.run([ROOT / "scripts/peer"], check=True, stdout=subprocess.DEVNULL)
    ours, theirs = engine_pool.build("carrackd"), engine_pool.build("dockerd")
    try:
        for engine in (ours, theirs):
            engine_pool.start(engine)
            for recipe in others(images):
                archive = docker_archive(recipe)
                answer = engine.api("POST", "/images/load?quiet=1", archive, headers={"Content-Type": "application/x-tar"})
                assert answer.status == 200, answer.body
        yield Pair(ours, theirs)
    finally:
        for engine in (ours, theirs):
            engine.close()


@pytest.mark.xdist_group("beside-dockerd")
@pytest.mark.observes("docker run", "docker create", "docker update", "docker exec", "docker start")
@pytest.mark.parametrize("name", IN_SHORT)
def test_each_line_ends_as_with_dockerd(pair: Pair, pytestconfig: pytest.Config, name: str) -> None:
    blocks = re.split(r"\n{2,}", (LINES / f"{name}.txt").read_text().strip())[1:]
    if not pytestconfig.getoption("--full"):
        blocks = blocks[:: IN_SHORT[name]]
    ours, theirs = pair.lines(blocks)
    different = [
        f"{mine}\n  dockerd: {other}"
        for block, beside in zip(ours, theirs, strict=True)
        for mine, other in zip(block, beside, strict=True)
        if mine != other
    ]
    assert not different, "\n".join(different)

"""Prunes told while they go on, the framings of events, and a `df` that says what `du` says."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from carrack.api.versions import MAX_VERSION
from tests.rig.engine import CommandLine, Engine

pytestmark = pytest.mark.peer_lacks("API 1.52 and 1.56")


@pytest.fixture(autouse=True)
def _no_build_cache(engine: Engine) -> None:
    """Builds of earlier tests leave their cache in an engine that tests share."""
    engine.api("POST", "/build/prune?all=1")


def lines(engine: Engine, target: str) -> list[dict[str, Any]]:
    answer = engine.api("POST", target)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/jsonl"), answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


@pytest.mark.observes("POST /containers/prune", "POST /volumes/prune", "POST /networks/prune", "POST /images/prune")
def test_a_prune_can_be_told_while_it_goes_on(docker_cli: CommandLine) -> None:
    engine = docker_cli.engine
    container = docker_cli.ok("create", "-v", "/anonymous", "busybox")
    docker_cli.ok("network", "create", "lonely")
    gone = {"status": "Deleted", "id": container}
    assert lines(engine, "/containers/prune?stream=true") == [
        gone,
        {"aux": {"ContainersDeleted": [container], "SpaceReclaimed": 0}},
    ]
    assert lines(engine, "/networks/prune?stream=1")[-1] == {"aux": {"NetworksDeleted": ["lonely"]}}
    (volume, report) = lines(engine, "/volumes/prune?stream=1")
    assert report["aux"]["VolumesDeleted"] == [volume["id"]]
    assert lines(engine, "/images/prune?stream=1")[-1] == {"aux": {"ImagesDeleted": None, "SpaceReclaimed": 0}}
    assert lines(engine, "/build/prune?stream=1")[-1] == {"aux": {"CachesDeleted": None, "SpaceReclaimed": 0}}
    old = engine.api("POST", "/v1.55/volumes/prune?stream=1")
    assert old.json == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    refused = engine.api("POST", "/volumes/prune?stream=1&filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D")
    assert (refused.status, refused.json["message"]) == (400, "invalid filter 'nonsense'")


@pytest.mark.observes("GET /events")
@pytest.mark.parametrize(
    ("version", "accept", "content_type"),
    [
        ("1.51", "", "application/json"),
        ("1.51", "application/json-seq", "application/json-seq"),
        (MAX_VERSION, "", "application/jsonl"),
        (MAX_VERSION, "application/x-ndjson", "application/x-ndjson"),
        (MAX_VERSION, "application/json-seq, application/jsonl;q=0.5", "application/json-seq"),
    ],
)
def test_events_come_in_the_framing_that_was_asked_for(engine: Engine, version: str, accept: str, content_type: str) -> None:
    before = time.time()
    engine.api("POST", "/volumes/create", {"Name": "told"})
    target = f"/v{version}/events?since={before:.6f}&until={time.time():.6f}&filters=%7B%22type%22%3A%5B%22volume%22%5D%7D"
    answer = engine.api("GET", target, headers={"Accept": accept} if accept else {})
    assert answer.headers["content-type"] == content_type
    (record,) = [part for part in answer.body.split(b"\n") if part]
    assert record.startswith(b"\x1e") == (content_type == "application/json-seq")
    assert json.loads(record.lstrip(b"\x1e"))["Action"] == "create"


def on_disk(path: Path) -> int:
    """What du(1) counts of files below a path: each inode once, apparent sizes."""
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


@pytest.mark.observes("GET /system/df", "docker system df", "docker system df --verbose", "docker system df --format")
def test_df_adds_up_to_what_du_says(docker_cli: CommandLine) -> None:
    engine = docker_cli.engine
    fill = "head -c 3000000 /dev/urandom > /data/file; ln /data/file /data/link; head -c 2000000 /dev/urandom > /own"
    docker_cli.ok("run", "--name", "writer", "-v", "filled:/data", "busybox", "sh", "-c", fill)
    docker_cli.ok("volume", "create", "spare")
    root = engine.data_root
    old = engine.api("GET", "/v1.51/system/df").json
    new = engine.api("GET", "/system/df?verbose=1").json
    volumes = on_disk(root / "volumes")
    assert new["VolumeUsage"]["TotalSize"] == volumes == 3_000_000
    assert (new["VolumeUsage"]["TotalCount"], new["VolumeUsage"]["ActiveCount"]) == (2, 1)
    layers, blobs = on_disk(root / "layers"), on_disk(root / "blobs")
    assert new["ImageUsage"]["TotalSize"] == old["LayersSize"]
    assert abs(new["ImageUsage"]["TotalSize"] - (layers + blobs)) < 4096  # our own files beside a layer
    assert new["ContainerUsage"]["TotalSize"] == sum(each["SizeRw"] for each in old["Containers"]) == 2_000_000
    assert new["ContainerUsage"]["Reclaimable"] == 2_000_000
    assert {each["Name"] for each in new["VolumeUsage"]["Items"]} == {"filled", "spare"}
    assert "Images" not in new
    brief = engine.api("GET", "/system/df").json
    assert "Items" not in brief["VolumeUsage"]
    assert len(brief["Volumes"]) == 2
    shown = [json.loads(line) for line in docker_cli.ok("system", "df", "--format", "{{json .}}").splitlines()]
    assert {row["Type"]: row["TotalCount"] for row in shown} == {
        "Images": "1", "Containers": "1", "Local Volumes": "2", "Build Cache": "0",
    }  # fmt: skip
    assert "filled" in docker_cli.ok("system", "df", "-v")


@pytest.mark.observes(
    "docker system prune", "docker system prune --all", "docker system prune --force", "docker system prune --volumes"
)
def test_a_prune_of_everything_leaves_what_is_used(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "-d", "--name", "stays", "-v", "kept:/k", "busybox", "sleep", "1000")
    docker_cli.ok("create", "--name", "goes", "-v", "/anonymous", "busybox")
    docker_cli.ok("network", "create", "lonely")
    docker_cli.ok("volume", "create", "named")
    said = docker_cli.ok("system", "prune", "--all", "--volumes", "--force")
    assert said.index("Deleted Containers:") < said.index("Deleted Networks:") < said.index("Deleted Volumes:")
    assert docker_cli.ok("ps", "-a", "--format", "{{.Names}}") == "stays"
    assert "lonely" not in docker_cli.ok("network", "ls", "--format", "{{.Name}}")
    assert sorted(docker_cli.ok("volume", "ls", "-q").split()) == ["kept", "named"]


@pytest.mark.observes("docker system prune --filter")
def test_a_prune_of_everything_can_be_narrowed(docker_cli: CommandLine) -> None:
    docker_cli.ok("create", "--name", "kept", "--label", "keep=yes", "busybox")
    docker_cli.ok("create", "--name", "goes", "busybox")
    docker_cli.ok("system", "prune", "--force", "--filter", "label!=keep")
    assert docker_cli.ok("ps", "-a", "--format", "{{.Names}}") == "kept"
    docker_cli.ok("system", "prune", "--force", "--filter", "until=24h")
    assert docker_cli.ok("ps", "-a", "--format", "{{.Names}}") == "kept"

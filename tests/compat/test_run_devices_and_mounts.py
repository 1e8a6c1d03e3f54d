"""Devices described by their vendors (CDI), images as mounts, sizes of layers, volume drivers, other platforms."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EnginePool
from tests.rig.archives import Entry, Recipe, docker_archive, folder, tar
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program
from tests.rig.leaks import settled
from tests.rig.waiting import until

pytestmark = pytest.mark.peer_lacks("20.10 knows none of these")

JSON_SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.example/clock",
    "containerEdits": {"env": ["CLOCK_DRIVER=1"]},
    "devices": [
        {
            "name": "fast",
            "containerEdits": {
                "env": ["CLOCK=fast"],
                "deviceNodes": [{"path": "/dev/clock", "type": "c", "major": 240, "minor": 9, "permissions": "r"}],
                "additionalGids": [4711],
            },
        },
        {"name": "slow", "containerEdits": {"env": ["CLOCK=slow"]}},
    ],
}
YAML_SPEC = """
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      type: c
      major: 1
      minor: 5
      fileMode: 438
- name: "1"
  containerEdits:
    env: [GPU=1]
- name: all
  containerEdits:
    env: [GPU=all]
    mounts:
    - hostPath: {library}
      containerPath: /usr/lib/libgpu.so
      options: [ro, nosuid, nodev, bind]
    hooks:
    - hookName: createContainer
      path: {hook}
      args: [hook, update]
    - hookName: poststop
      path: {hook}
      args: [hook, gone]
"""


@pytest.fixture(scope="module")
def described(engine_pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The docker command line on a daemon that finds two vendors' files, one of them in YAML."""
    folder = tmp_path_factory.mktemp("cdi")
    (folder / "clock.json").write_text(json.dumps(JSON_SPEC))
    (folder / "library").write_text("the driver's library")
    hook = folder / "hook"
    hook.write_text("#!/bin/sh\ncat > $(dirname $0)/part.$1 && mv $(dirname $0)/part.$1 $(dirname $0)/seen.$1\n")
    hook.chmod(0o755)
    (folder / "gpu.yaml").write_text(YAML_SPEC.format(library=folder / "library", hook=hook))
    (folder / "broken.json").write_text("{")
    engine = engine_pool.build("carrackd", ("--cdi-spec-dir", str(folder)))
    try:
        engine_pool.start(engine)
        yield CommandLine(engine, [docker_program()])
    finally:
        engine.close()


def cdi_container(engine: Engine, requests: list[dict[str, Any]], script: str) -> str:
    """Run a script in a container with these device requests; what it printed."""
    cli = CommandLine(engine, [docker_program()])
    wish = {"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"DeviceRequests": requests}}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    return cli.ok("start", "-a", container)


@pytest.mark.observes("docker run --device")
def test_a_cdi_device_brings_its_node_environment_and_groups(described: CommandLine) -> None:
    # no driver has 240:9: to open it as allowed finds nothing (ENXIO), otherwise it is refused (EPERM)
    script = "echo $CLOCK $CLOCK_DRIVER; ls -l /dev/clock; id -G; head -c 3 /dev/clock; echo x > /dev/clock"
    ended = CommandLine(described.engine, [carrack_program()]).shell(script, "--device", "vendor.example/clock=fast")
    rows = ended.stdout.splitlines()
    assert rows[0] == "fast 1"
    assert "240,   9" in rows[1]
    assert "4711" in rows[2].split()
    assert "/dev/clock: No such device or address" in ended.stderr
    assert "/dev/clock: Operation not permitted" in ended.stderr  # the file gives reading alone


@pytest.mark.observes("docker run --gpus")
def test_gpus_are_those_that_cdi_describes(described: CommandLine) -> None:
    engine = described.engine
    everyone = [{"Count": -1, "Capabilities": [["gpu"]]}]
    assert cdi_container(engine, everyone, "echo $GPU; cat /usr/lib/libgpu.so") == "all\nthe driver's library"
    for device in ("1", "nvidia.com/gpu=1"):
        assert cdi_container(engine, [{"DeviceIDs": [device], "Capabilities": [["gpu"]]}], "echo $GPU") == "1"
    assert cdi_container(engine, [{"Driver": "nvidia.cdi", "DeviceIDs": ["1"], "Capabilities": [["gpu"]]}], "echo $GPU") == "1"
    seen = described.shell("ls -l /dev/nvidia0; head -c 1 /dev/nvidia0 | wc -c", "--gpus", "1").ok()
    assert "1,   5" in seen
    assert seen.endswith("\n1")


def test_hooks_of_a_device_see_the_container(described: CommandLine) -> None:
    folder = Path(json.loads(described.ok("info", "-f", "{{json .CDISpecDirs}}"))[0])
    cdi_container(described.engine, [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}], "true")
    state = json.loads((folder / "seen.update").read_text())
    assert state["pid"] > 0
    gone = folder / "seen.gone"
    until(lambda: gone.exists() and state["id"] in gone.read_text(), "the hook after its end")
    after = json.loads(gone.read_text())
    assert (after["status"], after.get("pid", 0)) == ("stopped", 0)
    bundle = json.loads((Path(state["bundle"]) / "config.json").read_text())
    assert "GPU=all" in bundle["process"]["env"]


def test_info_lists_what_was_found(described: CommandLine) -> None:
    info = described.engine.api("GET", "/info").json
    names = {device["ID"] for device in info["DiscoveredDevices"]}
    assert names == {
        "vendor.example/clock=fast",
        "vendor.example/clock=slow",
        "nvidia.com/gpu=0",
        "nvidia.com/gpu=1",
        "nvidia.com/gpu=all",
    }


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"Driver": "cdi", "DeviceIDs": ["vendor.example/clock=none"]}, "unresolvable CDI devices vendor.example/clock=none"),
        ({"Count": 9, "Capabilities": [["gpu"]]}, "9 devices of nvidia.com/gpu asked for"),
        ({"Driver": "cdi", "Count": 1}, "unexpected count in CDI device request"),
        ({"Driver": "cdi", "Options": {"a": "b"}}, "unexpected options in CDI device request"),
        ({"Count": 1, "DeviceIDs": ["1"], "Capabilities": [["gpu"]]}, "cannot set both Count and DeviceIDs on device request"),
        ({"Driver": "amd", "Count": 1, "Capabilities": [["gpu"]]}, 'could not select device driver "amd"'),
        ({"Count": 1, "Capabilities": [["teapot"]]}, 'could not select device driver "" with capabilities: [[teapot]]'),
    ],
)
def test_a_device_nobody_describes_is_the_starts_error(described: CommandLine, request_: dict[str, Any], message: str) -> None:
    engine = described.engine
    wish = {"Image": "busybox", "HostConfig": {"DeviceRequests": [request_]}}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    answer = engine.api("POST", f"/containers/{container}/start")
    assert answer.status >= 400
    assert message in answer.message


# ── images as mounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def data_image(engine: Engine) -> str:
    """An image of two layers that holds data."""
    lower = tar([folder("models"), Entry("models/one", b"first"), Entry("models/two", b"lower")])
    upper = tar([Entry("models/two", b"second")])
    archive = docker_archive(Recipe((lower, upper), ("data:latest",), {"Cmd": ["none"]}, ("data",)))
    assert engine.api("POST", "/images/load", archive, headers={"Content-Type": "application/x-tar"}).status == 200
    return "data:latest"


@pytest.mark.observes("docker run --mount")
def test_an_image_can_be_mounted_to_be_read(docker_cli: CommandLine, data_image: str) -> None:
    flags = ("--mount", f"type=image,source={data_image},target=/data")
    script = "cat /data/models/one /data/models/two; touch /data/made"
    docker_cli.ok("create", "--name", "reader", *flags, "busybox", "sh", "-c", script)
    ended = docker_cli("start", "-a", "reader")
    assert ended.stdout == "firstsecond"
    assert "Read-only file system" in ended.stderr
    shown = json.loads(docker_cli.ok("inspect", "-f", "{{json .Mounts}}", "reader"))
    assert [(each["Type"], each["Source"], each["Destination"], each["RW"]) for each in shown] == [
        ("image", data_image, "/data", False)
    ]


@pytest.mark.observes("docker run --mount")
def test_an_image_mount_may_be_of_a_folder(docker_cli: CommandLine, data_image: str) -> None:
    flags = ("--mount", f"type=image,source={data_image},target=/m,image-subpath=models,readonly")
    seen = docker_cli.shell("ls /m; touch /m/x", *flags)
    assert seen.stdout.split() == ["one", "two"]
    assert "Read-only file system" in seen.stderr


def test_an_image_that_is_mounted_is_in_use_and_goes_with_force(docker_cli: CommandLine, data_image: str) -> None:
    docker_cli.ok(
        "run", "-d", "--name", "holder", "--mount", f"type=image,source={data_image},target=/d", "busybox", "sleep", "1000"
    )
    refused = docker_cli("rmi", data_image)
    assert refused.code == 1
    assert "container" in refused.stderr
    folder = docker_cli.engine.data_root / "containers"
    docker_cli.ok("rm", "-f", "holder")
    docker_cli.ok("rmi", data_image)
    assert not settled(set(), look=lambda: set(os.listdir(folder)))


@pytest.mark.parametrize(
    ("mount", "status", "message"),
    [
        ({"Type": "image", "Source": "nothing:1", "Target": "/x"}, 400, "No such image: nothing:1"),
        ({"Type": "image", "Target": "/x"}, 400, 'invalid mount config for type "image": field Source must not be empty'),
        ({"Type": "image", "Source": "busybox", "Target": "/x", "ImageOptions": {"Subpath": "../y"}}, 400, "subpath"),
        ({"Type": "npipe", "Source": "x", "Target": "/x"}, 400, 'invalid mount config for type "npipe": mount type unknown'),
    ],
)
def test_a_bad_image_mount_is_refused_and_leaves_nothing(engine: Engine, mount: dict[str, str], status: int, message: str) -> None:
    answer = engine.api("POST", "/v1.48/containers/create", {"Image": "busybox", "HostConfig": {"Mounts": [mount]}})
    assert (answer.status, message in answer.message) == (status, True), answer.body
    assert not settled(set(), look=lambda: set(os.listdir(engine.data_root / "containers")))


# ── sizes, drivers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.observes("docker run --storage-opt")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "10m"}, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
        ({"foo": "1"}, "unknown option foo"),
    ],
)
def test_a_size_of_the_layer_needs_a_quota(engine: Engine, options: dict[str, str], message: str) -> None:
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"StorageOpt": options}})
    assert (answer.status, message in answer.message) == (400, True)


@pytest.mark.observes("docker run --volume-driver")
def test_a_volume_driver_that_is_not_there_is_refused(docker_cli: CommandLine) -> None:
    ended = docker_cli("create", "--volume-driver", "elsewhere", "-v", "vol:/data", "busybox", "true")
    assert ended.code == 1
    assert 'error looking up volume plugin elsewhere: plugin "elsewhere" not found' in ended.stderr
    docker_cli.ok("run", "--rm", "--volume-driver", "elsewhere", "busybox", "true")  # nothing asks it
    docker_cli.ok("run", "--rm", "--volume-driver", "local", "-v", "vol:/data", "busybox", "touch", "/data/x")

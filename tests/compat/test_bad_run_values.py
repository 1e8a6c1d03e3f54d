"""Values that no flag of `run` can have: refused with Docker's words and a client's status, and nothing left."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.carrackd import Carrackd
from tests.rig.engine import Engine
from tests.rig.leaks import CGROUP_ROOT

NEWER = "newer than 20.10"
AT_CREATE: list[tuple[dict[str, Any], str, str]] = [
    ({"PidMode": "x"}, "invalid PID mode: x", NEWER),
    ({"UTSMode": "x"}, "invalid UTS mode: x", NEWER),
    ({"UsernsMode": "x"}, "invalid user namespace mode: x", NEWER),
    ({"CgroupnsMode": "x"}, "invalid cgroup namespace mode: x", ""),
    ({"Cgroup": "container:x"}, "invalid cgroup spec", NEWER),
    ({"CgroupParent": "../../x"}, "invalid cgroup parent", NEWER),
    ({"Annotations": {"": "x"}}, "the empty string is not permitted as an annotation key", NEWER),
    ({"Ulimits": [{"Name": "nope", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: nope", NEWER),
    (
        {"Ulimits": [{"Name": "nofile", "Soft": 3, "Hard": 2}]},
        "ulimit soft limit must be less than or equal to hard limit: 3 > 2",
        NEWER,
    ),
    ({"DeviceCgroupRules": ["x"]}, "invalid device cgroup rule format: 'x'", NEWER),
    ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "xyz"}]}, "invalid device cgroup permissions", NEWER),
    ({"SecurityOpt": ["nope"]}, 'invalid --security-opt 1: "nope"', ""),
    ({"SecurityOpt": ["nope=x"]}, 'invalid --security-opt 2: "nope=x"', ""),
    ({"Runtime": "nope"}, "nope", ""),
    ({"ExtraHosts": ["x"]}, 'bad format for add-host: "x"', ""),
    ({"Tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute", ""),
    ({"Tmpfs": {"/x": "foo"}}, "invalid tmpfs option", NEWER),
    ({"Sysctls": {"kernel.panic": "1"}}, "kernel.panic", NEWER),
    ({"VolumesFrom": ["nobody"]}, "No such container: nobody", ""),
    ({"PidMode": "container:nobody"}, "No such container: nobody", ""),
    ({"IpcMode": "container:nobody"}, "No such container: nobody", ""),
    ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000", NEWER),
    ({"CpuRealtimeRuntime": -5}, "real-time", NEWER),
    ({"Mounts": [{"Type": "foo", "Target": "/x"}]}, 'invalid mount config for type "foo": mount type unknown', ""),
    ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "maximum retry count cannot be negative", ""),
    ({"CpusetCpus": ","}, "Invalid value , for cpuset cpus: invalid format: ,", ""),
    ({"CpusetCpus": " 0"}, "Invalid value  0 for cpuset cpus: invalid format:  0", ""),
    ({"CpusetCpus": "0-999999"}, "Invalid value 0-999999 for cpuset cpus: value of out range, maximum is 8192", ""),
    ({"NetworkMode": "container:"}, "invalid network mode: invalid container format container:<name|id>", ""),
    ({"NetworkMode": "container:x", "Dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode", ""),
    ({"NetworkMode": "container:x", "Links": ["a:b"]}, "container type network can't be used with links", ""),
    ({"NetworkMode": "host", "Links": ["a:b"]}, "host type networking can't be used with links", ""),
    ({"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}, 'invalid port specification: "99999"', ""),
    ({"PortBindings": {"80/tcp": [{"HostPort": "90-80"}]}}, 'invalid port specification: "90-80"', ""),
    ({"PortBindings": {"80-90/tcp": [{"HostPort": "80"}]}}, "Invalid ranges specified for container and host Ports", NEWER),
    ({"Mounts": [{"Type": "volume", "Source": "a/b", "Target": "/x"}]}, "create a/b", ""),
    ({"Tmpfs": {"/x/../..": ""}}, "invalid specification: destination can't be '/'", ""),
    ({"ExtraHosts": ["a:b"]}, 'invalid IP address in add-host: "b"', ""),
    ({"VolumesFrom": [""]}, "volumes-from specification cannot be an empty string", ""),
    ({"VolumesFrom": ["x:zz"]}, "invalid mode: zz", ""),
    ({"ConsoleSize": [-1, -1]}, "", NEWER),
    ({"Binds": ["/a:/a:z,Z"]}, "invalid mode: z,Z", ""),
    ({"Binds": ["/a:/a:ro,rw"]}, "invalid mode: ro,rw", ""),
    ({"Binds": ["/a:/a:nocopy"]}, 'invalid mount config for type "bind": field VolumeOptions must not be specified', ""),
    ({"Binds": ["vol:/a:rshared"]}, 'invalid mount config for type "volume": field BindOptions must not be specified', ""),
    ({"Binds": ["/a:ro"]}, "invalid volume specification: '/a:ro'", ""),
    ({"Binds": ["/a:a"]}, "invalid mount path: 'a' mount path must be absolute", ""),
    ({"Binds": ["/tmp:/x"], "Tmpfs": {"/x": ""}}, "Duplicate mount point: /x", ""),
]
AT_START: list[tuple[dict[str, Any], str]] = [
    ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/nope", "PathInContainer": "/x", "CgroupPermissions": "r"}]}}, "/dev/nope"),
    ({"HostConfig": {"SecurityOpt": ["seccomp={"]}}, "Decoding seccomp profile failed"),
    ({"HostConfig": {"GroupAdd": ["nobodyhere"]}}, "unable to find group nobodyhere: no matching entries in group file"),
    ({"HostConfig": {"Sysctls": {"net.nope": "1"}}}, "no such file or directory"),
    ({"HostConfig": {"NetworkMode": "nonet"}}, "network nonet not found"),
    ({"MacAddress": "x"}, "invalid MAC address"),
    ({"User": "nobodyhere"}, "unable to find user nobodyhere: no matching entries in passwd file"),
    ({"Cmd": ["/etc"]}, 'exec: "/etc"'),
    ({"HostConfig": {"BlkioDeviceReadBps": [{"Path": "/dev/nope", "Rate": 9}]}}, "stat /dev/nope: no such file or directory"),
    (
        {"HostConfig": {"Binds": ["/etc/hostname:/etc"]}},
        "not a directory: unknown: Are you trying to mount a directory onto a file",
    ),
]


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    """Every test here leaves the engine as it was."""
    before = engine.traces() if isinstance(engine, Carrackd) else set()
    yield
    for row in engine.api("GET", "/containers/json?all=1").json:
        assert row["State"] == "created"
        engine.api("DELETE", f"/containers/{row['Id']}?v=1")
    assert not engine.api("GET", "/volumes").json["Volumes"]
    if isinstance(engine, Carrackd):
        before |= {f"cgroup {path / engine.cgroup}" for path in CGROUP_ROOT.iterdir()}
        assert not engine.left_since(before)


@pytest.mark.observes("POST /containers/create")
@pytest.mark.parametrize(("host", "message", "newer"), AT_CREATE, ids=[next(iter(each[0])) for each in AT_CREATE])
def test_create_refuses(engine: Engine, host: dict[str, Any], message: str, newer: str) -> None:
    if newer and engine.kind == "dockerd":
        pytest.skip(f"dockerd 20.10 finds it later, or not at all: {newer}")
    answer = engine.api(
        "POST", "/v1.44/containers/create" if newer else "/v1.41/containers/create", {"Image": "busybox", "HostConfig": host}
    )
    assert answer.status == 400 or engine.kind == "dockerd", answer.body
    assert message.lower() in answer.message.lower()


@pytest.mark.observes("POST /containers/{id}/start")
@pytest.mark.parametrize(("wish", "message"), AT_START, ids=[str(each[0])[:40] for each in AT_START])
def test_start_refuses(engine: Engine, wish: dict[str, Any], message: str) -> None:
    made = engine.api("POST", "/v1.41/containers/create", {"Image": "busybox", "Cmd": ["true"], **wish})
    assert made.status == 201, made.body
    answer = engine.api("POST", f"/containers/{made.json['Id']}/start")
    # what only the machine can tell, a device that is not there for one, is the system's failure
    assert answer.status in ({400, 404, 409} if "stat /dev" not in message and engine.kind == "carrackd" else {400, 404, 409, 500})
    assert message.lower() in answer.message.lower()

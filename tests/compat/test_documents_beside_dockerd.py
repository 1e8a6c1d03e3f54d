"""What Carrack's API shows beside dockerd's of the same objects, key by key and kind by kind, in that dockerd's newest version.

Whatever differs stands in `DIFFERENT` with its reason.
"""

import json
import re
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.conftest import EnginePool
from tests.rig.builds import build
from tests.rig.engine import Engine

VERSION = "1.41"
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")

NEWER = "Docker has it so since the release of the API that Carrack offers, in every version"
OURS = "the runtime, storage and firewall are Carrack's own"
DIFFERENT = {
    "container:*.GraphDriver.Data.ID": NEWER,
    "container:*.HostConfig.KernelMemory": NEWER,
    "container:*.HostConfig.KernelMemoryTCP": NEWER,
    "container:*.HostConfig.RestartPolicy.Name": NEWER,
    "container:created.HostConfig.Runtime": NEWER,
    "container:*.HostConfig.LogConfig.Config*": "Carrack bounds every log by default",
    "container:created.LogPath": "the name is settled with the container",
    "container:ended.NetworkSettings.Sandbox*": "the namespace has gone with the container",
    "container:host.HostConfig.SecurityOpt*": "dockerd writes `label=disable` even where there is no SELinux",
    "container:host.NetworkSettings.Sandbox*": "the host's own namespace is mounted nowhere",
    "container:rich.HostConfig.Mounts[].BindOptions*": f"{NEWER}: a read-only bind of an old client is not recursive, and says so",
    "containers[].SizeRw": "dockerd leaves a zero out",
    "image.ContainerConfig.*": "deprecated, always empty, and gone in 1.45",
    "image.GraphDriver.Data.*": OURS,
    "*mages[].Labels": "dockerd writes `{}` into an image that it commits",
    "images[].RepoDigests*": "an image that was loaded has a digest as well",
    "networks[].IPAM.Config[].Gateway": "Carrack names the gateway of the default bridge, too",
    "network:*.IPAM.Config[].Gateway": "Carrack names the gateway of the default bridge, too",
    "info.BridgeNf*": "Carrack does not load br_netfilter",
    "info.*Commit.*": OURS,
    "info.KernelMemory*": NEWER,
    "info.Runtimes.*": OURS,
    "info.RegistryConfig.*": NEWER,
    "info.Warnings*": "dockerd 20.10 warns of nothing here",
    "info.Plugins.*": OURS,
    "info.DriverStatus*": OURS,
    "info.Labels*": NEWER,
    "info.SecurityOptions*": OURS,
    "version.*": OURS,
    "df.BuildCache*": "Carrack's classic build keeps a cache beside the images",
    "df.Images[].RepoDigests*": "an image that was loaded has a digest as well",
    "stats.memory_stats.stats.*": "newer kernels have more counters than this dockerd knows",
    "events.image.*": NEWER,
    "events.container.create.*": NEWER,
    "events.container.destroy.Actor.Attributes.built": "a step of Carrack's builder is no container",
    "events.container.*.execDuration": NEWER,
    "events.container.exec*": NEWER,
}


DOCUMENTS = {
    "containers": "/containers/json?all=1&size=1",
    "image": "/images/busybox/json",
    "images": "/images/json",
    "history": "/images/busybox/history",
    "networks": "/networks",
    "volume": "/volumes/kept",
    "volumes": "/volumes",
    "stats": "/containers/plain/stats?stream=0",
    "top": "/containers/plain/top",
    "info": "/info",
    "version": "/version",
    "df": "/system/df",
}


@pytest.fixture(scope="module")
def shown(engine_pool: EnginePool) -> tuple[dict[str, str], dict[str, str]]:
    """(Carrack's, dockerd's): path of a value → its kind."""
    found = []
    for kind in ("carrackd", "dockerd"):
        engine = engine_pool.build(kind)
        try:
            engine_pool.start(engine)
            kinds: dict[str, set[str]] = {}
            for name, document in _scene(engine):
                for path, kind_of_value in _kinds(document, name):
                    kinds.setdefault(path, set()).add(kind_of_value)
            found.append({path: " or ".join(sorted(each)) for path, each in kinds.items()})
        finally:
            engine.close()
    return found[0], found[1]


def test_documents_have_the_same_keys_and_kinds(shown: tuple[dict[str, str], dict[str, str]]) -> None:
    ours, theirs = shown
    different = {path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)}
    unexplained = {path for path in different if not any(fnmatchcase(path, pattern.replace("[]", "[[]]")) for pattern in DIFFERENT)}
    assert not unexplained, "\n".join(f"{path}: {ours.get(path)} | dockerd: {theirs.get(path)}" for path in sorted(unexplained))


def _scene(engine: Engine) -> Iterator[tuple[str, Any]]:
    """Objects of every sort, and each document that shows them: (its name, the document)."""

    def ask(method: str, target: str, body: object = None) -> Any:
        answer = engine.api(method, f"/v{VERSION}{target}", body)
        assert answer.status < 400, (target, answer.body)
        return answer.json if answer.body.strip() else None

    bound = {"Type": "bind", "Source": "/etc", "Target": "/hostetc", "ReadOnly": True}
    host = {
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
        "Memory": 64 << 20,
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "Mounts": [bound],
        "Binds": ["kept:/data:ro"],
        "ExtraHosts": ["a:192.0.2.4"],
        "Dns": ["192.0.2.53"],
        "CapAdd": ["NET_ADMIN"],
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Sysctls": {"net.ipv4.ip_forward": "1"},
        "Init": True,
    }
    pools = [{"Subnet": "10.231.77.0/24", "Gateway": "10.231.77.1", "IPRange": "10.231.77.128/25"}]
    ask("POST", "/networks/create", {"Name": "mine", "Labels": {"x": "y"}, "IPAM": {"Config": pools}, "Options": {"o": "p"}})
    ask("POST", "/volumes/create", {"Name": "kept", "Labels": {"l": "m"}})
    idle = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    joined = {"EndpointsConfig": {"mine": {"Aliases": ["al"], "IPAMConfig": {"IPv4Address": "10.231.77.200"}}}}
    bodies = {
        "rich": {
            **idle,
            "HostConfig": host,
            "NetworkingConfig": joined,
            "Labels": {"q": "r"},
            "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
        },
        "plain": idle,
        "none": {**idle, "HostConfig": {"NetworkMode": "none"}},
        "host": {**idle, "HostConfig": {"NetworkMode": "host", "PidMode": "host"}},
        "shares": {**idle, "HostConfig": {"NetworkMode": "container:plain"}},
        "ended": {"Image": "busybox", "Cmd": ["sh", "-c", "exit 3"]},
        "created": idle,
    }
    for name, body in bodies.items():
        ask("POST", f"/containers/create?name={name}", body)
        if name != "created":
            ask("POST", f"/containers/{name}/start")
    ask("POST", "/containers/ended/wait")
    exec_id = ask("POST", "/containers/plain/exec", {"Cmd": ["sh", "-c", "exit 4"], "AttachStdout": True})["Id"]
    engine.api("POST", f"/v{VERSION}/exec/{exec_id}/start", {})
    committed = ask("POST", "/commit?container=plain&repo=committed&comment=said", {})["Id"]
    build(engine, "FROM busybox\nLABEL built=1\n", t="built")
    for action in ("pause", "unpause", "rename?name=named", "rename?name=plain", "restart?t=0"):
        name = "named" if "=plain" in action else "plain"
        ask("POST", f"/containers/{name}/{action}")
    for name in bodies:
        yield f"container:{name}", ask("GET", f"/containers/{name}/json")
    for name in ("mine", "bridge", "none", "host"):
        yield f"network:{name}", ask("GET", f"/networks/{name}")
    for name, target in DOCUMENTS.items():
        yield name, ask("GET", target)
    yield "exec", ask("GET", f"/exec/{exec_id}/json")
    for name in bodies:
        ask("DELETE", f"/containers/{name}?force=1&v=1")
    ask("DELETE", "/networks/mine")
    ask("DELETE", "/volumes/kept")
    ask("DELETE", f"/images/{committed}")
    told = engine.api("GET", f"/v{VERSION}/events?since=1&until={int(time.time()) + 1}").body.splitlines()
    for event in map(json.loads, told):
        action = event["Action"].partition(":")[0]
        yield f"events.{event['Type']}.{action}", event | {"Action": action}


def _kinds(document: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every value's place and kind; an id in a key counts as any id, and so does an index of a list."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from _kinds(value, f"{path}.{_ID.sub('ID', key)}")
    elif isinstance(document, list) and document:
        for value in document:
            yield from _kinds(value, f"{path}[]")
    elif isinstance(document, str):
        yield path, "text" if document else "no text"
    else:
        yield path, type(document).__name__

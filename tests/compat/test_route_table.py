"""Every operation of Docker's API outside swarm and plugins: its answer on success, for what is missing, in conflict, or wrong.

Each row is asked in the oldest version that has it and in the newest. Rows stand by operation; what an operation cannot have (a
conflict of a list, say) has no row, and `test_every_operation_has_its_rows` says which must be there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from carrack.api.not_yet import NOT_YET
from carrack.api.openapi import plain
from carrack.api.versions import MAX_VERSION, MIN_VERSION, at_least
from tests.rig.archives import Recipe, docker_archive, tar
from tests.rig.engine import Engine
from tests.rig.fuzzing import ARCHIVES
from tests.rig.registry_double import Registry
from tests.rig.scene import UPGRADE, WEBSOCKET, Scene

ROOT = Path(__file__).resolve().parents[2]
MISSING_ID = "nothing"
EMPTY_TAR, GARBAGE, ONE_FILE = ARCHIVES[2], ARCHIVES[1], ARCHIVES[3]
CONTEXT = ARCHIVES[4]


@dataclass(frozen=True)
class Row:
    """One request and its answer."""

    kind: str
    operation: str
    target: str
    status: int
    body: object = None
    headers: tuple[str, ...] = ()
    says: str = ""
    since: str = MIN_VERSION

    @property
    def method(self) -> str:
        return self.operation.partition(" ")[0]


def rows(operation: str, *lines: Row) -> Iterator[Row]:
    for line in lines:
        yield Row(line.kind, operation, line.target, line.status, line.body, line.headers, line.says, line.since)


def ok(
    target: str, status: int = 200, body: object = None, headers: tuple[str, ...] = (), says: str = "", since: str = MIN_VERSION
) -> Row:
    return Row("success", "", target, status, body, headers, says, since)


def missing(target: str, says: str = "", body: object = None, status: int = 404, since: str = MIN_VERSION) -> Row:
    return Row("missing", "", target, status, body, (), says, since)


def conflict(target: str, status: int = 409, body: object = None, says: str = "", since: str = MIN_VERSION) -> Row:
    return Row("conflict", "", target, status, body, (), says, since)


def bad(target: str, status: int = 400, body: object = None, says: str = "", since: str = MIN_VERSION) -> Row:
    return Row("bad", "", target, status, body, (), says, since)


NO_CONTAINER = "No such container: nothing"
NO_IMAGE = "No such image: nothing"
CREATE = {"Image": "busybox", "Cmd": ["true"]}
FILTERS = "%7B%22nonsense%22%3A%5B%22x%22%5D%7D"
BROKEN = "%7Bbroken"
PLATFORM = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D"

TABLE: tuple[Row, ...] = (
    *rows(
        "GET /containers/json",
        ok("/containers/json?all=1&size=1"),
        bad(f"/containers/json?filters={FILTERS}", says="invalid filter"),
        bad(f"/containers/json?filters={BROKEN}"),
    ),
    *rows(
        "POST /containers/create",
        ok("/containers/create?name=fresh", 201, CREATE, says='"Id":'),
        missing("/containers/create", NO_IMAGE, {"Image": "nothing"}),
        conflict("/containers/create?name={named}", body=CREATE, says="is already in use"),
        bad("/containers/create", body={}, says="config cannot be empty"),
        bad("/containers/create?name=%20bad", body=CREATE, says="Invalid container name"),
    ),
    *rows(
        "POST /containers/prune",
        ok("/containers/prune", says="SpaceReclaimed", since="1.25"),
        bad(f"/containers/prune?filters={FILTERS}", since="1.25"),
    ),
    *rows(
        "GET /containers/{id}/json",
        ok("/containers/{idle}/json?size=1", says="SizeRw"),
        missing("/containers/nothing/json", NO_CONTAINER),
    ),
    *rows(
        "GET /containers/{id}/top",
        ok("/containers/{running}/top", says="Titles"),
        missing("/containers/nothing/top", NO_CONTAINER),
        conflict("/containers/{idle}/top", says="is not running"),
    ),
    *rows(
        "GET /containers/{id}/logs",
        ok("/containers/{ended}/logs?stdout=1"),
        missing("/containers/nothing/logs?stdout=1", NO_CONTAINER),
        bad("/containers/{ended}/logs", says="you must choose at least one stream"),
    ),
    *rows("GET /containers/{id}/changes", ok("/containers/{ended}/changes"), missing("/containers/nothing/changes", NO_CONTAINER)),
    *rows(
        "GET /containers/{id}/export",
        ok("/containers/{idle}/export", says="bin/"),
        missing("/containers/nothing/export", NO_CONTAINER),
    ),
    *rows(
        "GET /containers/{id}/stats",
        ok("/containers/{running}/stats?stream=0", says="cpu_stats"),
        missing("/containers/nothing/stats?stream=0", NO_CONTAINER),
        bad("/containers/{running}/stats?stream=1&one-shot=1", says="cannot have stream=true and one-shot=true", since="1.41"),
    ),
    *rows(
        "POST /containers/{id}/resize",
        ok("/containers/{running}/resize?h=10&w=20"),
        missing("/containers/nothing/resize?h=10&w=20", NO_CONTAINER),
        conflict("/containers/{idle}/resize?h=10&w=20", says="is not running"),
        bad("/containers/{running}/resize?h=x&w=20"),
    ),
    *rows(
        "POST /containers/{id}/start",
        ok("/containers/{idle}/start", 204),
        missing("/containers/nothing/start", NO_CONTAINER),
        conflict("/containers/{running}/start", 304),
        bad("/containers/{idle}/start", body={"HostConfig": {}}, says="non-empty request body"),
    ),
    *rows(
        "POST /containers/{id}/stop",
        ok("/containers/{running}/stop?t=1", 204),
        missing("/containers/nothing/stop", NO_CONTAINER),
        conflict("/containers/{idle}/stop", 304),
        bad("/containers/{running}/stop?t=x"),
    ),
    *rows(
        "POST /containers/{id}/restart",
        ok("/containers/{running}/restart?t=1", 204),
        missing("/containers/nothing/restart", NO_CONTAINER),
        bad("/containers/{running}/restart?t=x"),
    ),
    *rows(
        "POST /containers/{id}/kill",
        ok("/containers/{running}/kill", 204),
        missing("/containers/nothing/kill", NO_CONTAINER),
        conflict("/containers/{idle}/kill", says="is not running"),
        bad("/containers/{running}/kill?signal=NONSENSE"),
    ),
    *rows(
        "POST /containers/{id}/update",
        ok("/containers/{idle}/update", body={"CpuShares": 512}, says="Warnings"),
        missing("/containers/nothing/update", NO_CONTAINER, {"CpuShares": 512}),
        bad("/containers/{idle}/update", body={"Memory": 1}, says="Minimum memory limit"),
    ),
    *rows(
        "POST /containers/{id}/rename",
        ok("/containers/{idle}/rename?name=renamed", 204),
        missing("/containers/nothing/rename?name=renamed", NO_CONTAINER),
        conflict("/containers/{idle}/rename?name={named}", says="already in use"),
        bad("/containers/{idle}/rename?name=", says=""),
    ),
    *rows(
        "POST /containers/{id}/pause",
        ok("/containers/{running}/pause", 204),
        missing("/containers/nothing/pause", NO_CONTAINER),
        conflict("/containers/{idle}/pause", says="is not running"),
    ),
    *rows(
        "POST /containers/{id}/unpause",
        ok("/containers/{paused}/unpause", 204),
        missing("/containers/nothing/unpause", NO_CONTAINER),
        conflict("/containers/{running}/unpause", says="is not paused"),
    ),
    *rows(
        "POST /containers/{id}/attach",
        ok("/containers/{running}/attach?stream=1&stdout=1", 101, headers=UPGRADE),
        missing("/containers/nothing/attach?stream=1", "No such container"),
        conflict("/containers/{paused}/attach?stream=1&stdout=1", says="is paused"),
        bad("/containers/{running}/attach?stream=1&detachKeys=nonsense"),
    ),
    *rows(
        "GET /containers/{id}/attach/ws",
        ok("/containers/{running}/attach/ws?stream=1&stdout=1", 101, headers=WEBSOCKET),
        missing("/containers/nothing/attach/ws?stream=1", NO_CONTAINER),
        bad("/containers/{running}/attach/ws?stream=1"),
    ),
    *rows(
        "POST /containers/{id}/wait",
        ok("/containers/{ended}/wait", says='"StatusCode":0'),
        missing("/containers/nothing/wait", NO_CONTAINER),
        bad("/containers/{ended}/wait?condition=someday", says="invalid condition", since="1.30"),
    ),
    *rows(
        "DELETE /containers/{id}",
        ok("/containers/{idle}?v=1", 204),
        missing("/containers/nothing", NO_CONTAINER),
        conflict("/containers/{running}", says="stop the container before removing or force remove"),
    ),
    *rows(
        "HEAD /containers/{id}/archive",
        ok("/containers/{idle}/archive?path=/bin"),
        missing("/containers/nothing/archive?path=/bin"),
        bad("/containers/{idle}/archive"),
    ),
    *rows(
        "GET /containers/{id}/archive",
        ok("/containers/{idle}/archive?path=/bin", says="busybox"),
        missing("/containers/nothing/archive?path=/bin", NO_CONTAINER),
        missing("/containers/{idle}/archive?path=/nothing", "Could not find the file /nothing"),
        bad("/containers/{idle}/archive"),
    ),
    *rows(
        "PUT /containers/{id}/archive",
        ok("/containers/{idle}/archive?path=/", body=ONE_FILE),
        missing("/containers/nothing/archive?path=/", NO_CONTAINER, ONE_FILE),
        missing("/containers/{idle}/archive?path=/nothing", "Could not find the file /nothing", ONE_FILE),
        bad("/containers/{idle}/archive?path=/", body=GARBAGE),
    ),
    *rows(
        "GET /images/json",
        ok("/images/json?all=1", says="busybox:latest"),
        bad(f"/images/json?filters={FILTERS}", says="invalid filter"),
        missing("/images/json?filters=%7B%22before%22%3A%5B%22nothing%22%5D%7D", NO_IMAGE),
    ),
    *rows(
        "POST /build",
        ok("/build?t=made:1", body=CONTEXT, says="Successfully built"),
        bad("/build", body=GARBAGE),
        bad("/build?buildargs=broken", body=CONTEXT),
    ),
    *rows(
        "POST /build/prune",
        ok("/build/prune", says="SpaceReclaimed", since="1.31"),
        bad(f"/build/prune?filters={BROKEN}", since="1.31"),
    ),
    *rows(
        "POST /build/cancel",
        ok("/build/cancel?id=nothing", since="1.39"),
        bad("/build/cancel", says="build ID not provided", since="1.39"),
    ),
    *rows(
        "POST /images/create",
        ok("/images/create?fromImage={pushed}", says="Downloaded newer image"),
        missing("/images/create?fromImage={host}/nothing&tag=1"),
        bad("/images/create?fromImage=UPPER%20case", says="invalid reference format"),
    ),
    *rows("GET /images/{name}/json", ok("/images/busybox/json", says='"Id":"sha256:'), missing("/images/nothing/json", NO_IMAGE)),
    *rows(
        "GET /images/{name}/attestations",
        ok("/images/busybox/attestations", says="[]", since="1.55"),
        missing("/images/nothing/attestations", NO_IMAGE, since="1.55"),
        bad("/images/busybox/attestations?platform=broken", since="1.55"),
    ),
    *rows(
        "GET /images/{name}/history",
        ok("/images/busybox/history", says="CreatedBy"),
        missing("/images/nothing/history", NO_IMAGE),
        bad("/images/busybox/history?platform=broken", since="1.48"),
        missing(f"/images/busybox/history?platform={PLATFORM}", "linux/s390x", since="1.48"),
    ),
    *rows(
        "POST /images/{name}/push",
        ok("/images/{to_push}/push?tag=1", says="digest: sha256:"),
        missing("/images/{host}/nothing/push?tag=1"),
        bad("/images/UPPER/push?tag=1", says="invalid reference format"),
    ),
    *rows(
        "POST /images/{name}/tag",
        ok("/images/busybox/tag?repo=more&tag=1", 201),
        missing("/images/nothing/tag?repo=more", NO_IMAGE),
        bad("/images/busybox/tag?repo=UPPER"),
    ),
    *rows(
        "DELETE /images/{name}",
        ok("/images/{tagged}", says="Untagged"),
        missing("/images/nothing", NO_IMAGE),
        bad("/images/UPPER", says="invalid reference format"),
    ),
    *rows(
        "GET /images/search",
        ok("/images/search?term={host}/app"),
        bad("/images/search?term=x&limit=1000", says="outside the range"),
        bad(f"/images/search?term=x&filters={FILTERS}"),
    ),
    *rows(
        "POST /images/prune",
        ok("/images/prune", says="SpaceReclaimed", since="1.25"),
        bad(f"/images/prune?filters={FILTERS}", since="1.25"),
    ),
    *rows(
        "GET /images/{name}/get",
        ok("/images/busybox/get", says="manifest.json"),
        missing("/images/nothing/get", NO_IMAGE),
        bad("/images/busybox/get?platform=broken", since="1.48"),
    ),
    *rows(
        "GET /images/get",
        ok("/images/get?names=busybox", says="manifest.json"),
        missing("/images/get?names=nothing", NO_IMAGE),
        bad("/images/get"),
    ),
    *rows(
        "POST /images/load",
        ok(
            "/images/load?quiet=1",
            body=docker_archive(Recipe((tar(()),), ("empty:1",), {}, ("empty",))),
            says="Loaded image: empty:1",
        ),
        bad("/images/load?platform=broken", body=EMPTY_TAR, since="1.48"),
    ),
    *rows(
        "GET /containers/{id}/checkpoints",
        ok("/containers/{running}/checkpoints", says="[]"),
        missing("/containers/nothing/checkpoints", NO_CONTAINER),
        missing("/containers/{running}/checkpoints?dir=/no/where", "does not exist"),
        bad("/containers/{running}/checkpoints?dir=/etc/hostname", says="exists but is not a directory"),
    ),
    *rows(
        "POST /containers/{id}/checkpoints",
        missing("/containers/nothing/checkpoints", NO_CONTAINER, {"CheckpointID": "cp"}),
        bad("/containers/{running}/checkpoints", body={"CheckpointID": "../cp"}, says="invalid checkpoint ID"),
        conflict("/containers/{idle}/checkpoints", body={"CheckpointID": "cp"}, says="is not running"),
    ),
    *rows(
        "DELETE /containers/{id}/checkpoints/{checkpoint}",
        missing("/containers/nothing/checkpoints/cp", NO_CONTAINER),
        missing("/containers/{running}/checkpoints/cp", "checkpoint cp does not exist for container"),
        bad("/containers/{running}/checkpoints/cp.", says="invalid checkpoint ID"),
    ),
    *rows(
        "POST /commit",
        ok("/commit?container={idle}&repo=saved&tag=1", 201, says="sha256:"),
        missing("/commit?container=nothing", NO_CONTAINER),
        bad("/commit?container={idle}&repo=UPPER"),
    ),
    *rows(
        "POST /auth",
        ok("/auth", body={"username": "u", "password": "p", "serveraddress": "{host}"}, says="Login Succeeded"),
        bad("/auth", body={"serveraddress": 5}),
    ),
    *rows("GET /info", ok("/info", says="ServerVersion")),
    *rows("GET /version", ok("/version", says="ApiVersion")),
    *rows("GET /_ping", ok("/_ping", says="OK")),
    *rows("HEAD /_ping", ok("/_ping")),
    *rows("OPTIONS /{anyroute}", ok("/whatever")),
    *rows(
        "GET /events",
        ok("/events?since=1&until=2"),
        bad("/events?since=2&until=1", says="cannot be after"),
        bad("/events?since=x"),
        bad(f"/events?filters={BROKEN}"),
    ),
    *rows(
        "GET /system/df",
        ok("/system/df", says="LayersSize", since="1.25"),
        bad("/system/df?type=x", says="unknown object type: x", since="1.42"),
    ),
    *rows(
        "POST /containers/{id}/exec",
        ok("/containers/{running}/exec", 201, {"Cmd": ["true"]}, says='"Id":'),
        missing("/containers/nothing/exec", NO_CONTAINER, {"Cmd": ["true"]}),
        conflict("/containers/{idle}/exec", body={"Cmd": ["true"]}, says="is not running"),
        bad("/containers/{running}/exec", body={"Cmd": []}, says="No exec command specified"),
    ),
    *rows(
        "POST /exec/{id}/start",
        ok("/exec/{exec}/start", 101, {"Detach": False}, UPGRADE),
        missing("/exec/nothing/start", "No such exec instance", {}),
        conflict("/exec/{done_exec}/start", body={"Detach": True}),
        bad("/exec/{exec}/start", body={"Detach": "x"}),
    ),
    *rows(
        "POST /exec/{id}/resize",
        missing("/exec/nothing/resize?h=1&w=1", "No such exec instance"),
        bad("/exec/{exec}/resize?h=x&w=1"),
        conflict("/exec/{exec}/resize?h=1&w=1"),
    ),
    *rows(
        "GET /exec/{id}/json", ok("/exec/{exec}/json", says="ProcessConfig"), missing("/exec/nothing/json", "No such exec instance")
    ),
    *rows("GET /volumes", ok("/volumes", says="Volumes"), bad(f"/volumes?filters={FILTERS}", says="invalid filter")),
    *rows(
        "POST /volumes/create",
        ok("/volumes/create", 201, {"Name": "fresh"}, says="fresh"),
        missing("/volumes/create", "nonsense", {"Name": "x1", "Driver": "nonsense"}),
        bad("/volumes/create", body={"Name": "x/y"}, says="invalid characters"),
    ),
    *rows("GET /volumes/{name}", ok("/volumes/{volume}", says="Mountpoint"), missing("/volumes/nothing", "no such volume")),
    *rows(
        "PUT /volumes/{name}", bad("/volumes/{volume}?version=1", 503, {}, "volume update only valid for cluster volumes", "1.42")
    ),
    *rows(
        "DELETE /volumes/{name}",
        ok("/volumes/{volume}", 204),
        missing("/volumes/nothing", "no such volume"),
        conflict("/volumes/{used_volume}", says="volume is in use"),
    ),
    *rows(
        "POST /volumes/prune",
        ok("/volumes/prune", says="SpaceReclaimed", since="1.25"),
        bad(f"/volumes/prune?filters={FILTERS}", since="1.25"),
    ),
    *rows("GET /networks", ok("/networks", says="bridge"), bad(f"/networks?filters={FILTERS}", says="invalid filter")),
    *rows("GET /networks/{id}", ok("/networks/{network}", says="IPAM"), missing("/networks/nothing", "network nothing not found")),
    *rows(
        "DELETE /networks/{id}",
        ok("/networks/{network}", 204),
        missing("/networks/nothing", "network nothing not found"),
        conflict("/networks/{used_network}", 403, says="has active endpoints"),
        conflict("/networks/bridge", 403, says="pre-defined"),
    ),
    *rows(
        "POST /networks/create",
        ok("/networks/create", 201, {"Name": "fresh"}, says='"Id":'),
        missing("/networks/create", "nonsense", {"Name": "x", "Driver": "nonsense"}),
        conflict("/networks/create", 403, {"Name": "bridge"}, says="operation is not permitted on predefined bridge network"),
        bad("/networks/create", body={"Name": "x", "IPAM": {"Config": [{"Subnet": "nonsense"}]}}),
    ),
    *rows(
        "POST /networks/{id}/connect",
        ok("/networks/{network}/connect", body={"Container": "{running}"}),
        missing("/networks/nothing/connect", "network nothing not found", {"Container": "{running}"}),
        missing("/networks/{network}/connect", NO_CONTAINER, {"Container": "nothing"}),
        bad("/networks/{network}/connect", body={"Container": 5}),
    ),
    *rows(
        "POST /networks/{id}/disconnect",
        ok("/networks/bridge/disconnect", body={"Container": "{running}"}),
        missing("/networks/nothing/disconnect", "network nothing not found", {"Container": "{running}"}),
        conflict("/networks/{network}/disconnect", body={"Container": "{running}"}, says="is not connected"),
        bad("/networks/{network}/disconnect", body={"Container": 5}),
    ),
    *rows(
        "POST /networks/prune",
        ok("/networks/prune", says="NetworksDeleted", since="1.25"),
        bad(f"/networks/prune?filters={FILTERS}", since="1.25"),
    ),
    *rows(
        "GET /distribution/{name}/json",
        ok("/distribution/{pushed}/json", says="Descriptor", since="1.30"),
        missing("/distribution/{host}/nothing/json", since="1.30"),
        bad("/distribution/UPPER/json", since="1.30"),
    ),
    *rows("GET /debug/vars", ok("/debug/vars", says="cmdline")),
    *rows("GET /debug/pprof/", ok("/debug/pprof/", says="goroutine")),
    *rows("GET /debug/pprof/cmdline", ok("/debug/pprof/cmdline")),
    *rows("GET /debug/pprof/profile", ok("/debug/pprof/profile?seconds=1")),
    *rows("GET /debug/pprof/symbol", ok("/debug/pprof/symbol", says="num_symbols")),
    *rows("GET /debug/pprof/trace", ok("/debug/pprof/trace?seconds=1")),
    *rows("GET /debug/pprof/{name}", ok("/debug/pprof/goroutine"), missing("/debug/pprof/nothing", "Unknown profile")),
)
NO_SUCCESS = {
    "PUT /volumes/{name}",
    "POST /exec/{id}/resize",
    "POST /containers/{id}/checkpoints",
    "DELETE /containers/{id}/checkpoints/{checkpoint}",
}
"""A node that is in no swarm has no cluster volumes; the resize of a running exec is test_exec's, CRIU that of test_checkpoints."""
ELSEWHERE = {"GET /metrics", "POST /session", "POST /grpc"}
"""On a listener of its own; BuildKit's, whose tests are the builder's."""


def cases() -> Iterator[tuple[Row, str]]:
    for row in TABLE:
        for version in dict.fromkeys((row.since, MAX_VERSION)):
            yield row, version


def newest_of(engine: Engine) -> str:
    """The newest version an engine speaks."""
    version: str = engine.api("GET", "/version").json["ApiVersion"]
    return version


def differs(row: Row) -> bool:
    """What Docker 20.10 answers otherwise than Docker 29: 500 for many bad parameters and conflicts; its localhost is another."""
    elsewhere = any(place in f"{row.target} {row.body}" for place in ("{host}", "{pushed}", "{to_push}", "/debug/"))
    return elsewhere or row.kind in ("bad", "conflict")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    double = Registry()
    with double.serving():
        yield double


@pytest.fixture
def scene(engine: Engine, registry: Registry) -> Scene:
    return Scene(engine, registry)


@pytest.mark.observes(
    "GET /images/search",
    "GET /distribution/{name}/json",
    "PUT /volumes/{name}",
    "POST /build/cancel",
    "POST /build/prune",
    "POST /auth",
    "OPTIONS /{anyroute}",
)
@pytest.mark.parametrize(
    ("row", "version"), list(cases()), ids=lambda value: f"{value.kind} {value.operation}" if isinstance(value, Row) else value
)
def test_an_operation_answers_as_documented(scene: Scene, row: Row, version: str) -> None:
    newest = newest_of(scene.engine)
    if not at_least(newest, version) or (scene.engine.kind == "dockerd" and differs(row)):
        pytest.skip(f"this {scene.engine.kind} speaks up to {newest}, and answers some rows in its own way")
    hit = scene.send(row.method, f"/v{version}{row.target}", row.body, row.headers, row.says.encode())
    assert hit.status == row.status, hit.body[:500]
    assert row.says in hit.body.decode("latin-1"), hit.body[:500]
    if hit.status >= 400 and row.method != "HEAD" and b"raw-stream" not in hit.head.encode():
        assert b'{"message":' in hit.body


def test_every_operation_has_its_rows() -> None:
    lines = [line.split("\t") for line in (ROOT / "docs/scope/api.tsv").read_text().splitlines()]
    not_yet = {f"{method} {plain(pattern)}" for method, pattern in NOT_YET}
    wanted = {
        f"{line[0]} {line[1]}"
        for line in lines
        if line[2] not in ("swarm", "plugins", "nodes", "services", "tasks", "secrets", "configs")
    }
    wanted -= not_yet | ELSEWHERE
    have = {(row.kind, row.operation) for row in TABLE}
    lacking = {("success", operation) for operation in wanted - NO_SUCCESS} - have
    lacking |= {("missing", operation) for operation in wanted if "{id}" in operation or "{name}" in operation} - have
    assert lacking - {("missing", "PUT /volumes/{name}")} == set()
    assert {row.operation for row in TABLE} <= wanted


def swarm_routes() -> list[tuple[str, str]]:
    from carrack.api.absent import MANAGER_ROUTES

    return [*MANAGER_ROUTES, ("POST", "/swarm/leave")]


@pytest.mark.parametrize(("method", "pattern"), swarm_routes())
def test_outside_a_swarm_its_routes_answer_503_as_docker(scene: Scene, method: str, pattern: str) -> None:
    target = pattern.replace("{id}", "nothing")
    for version in (MIN_VERSION, newest_of(scene.engine)):
        hit = scene.send(method, f"/v{version}{target}?version=1&stdout=1", {} if method == "POST" else None)
        assert hit.status == 503
        says = "This node is not part of a swarm" if target == "/swarm/leave" else "This node is not a swarm manager."
        assert says in hit.body.decode()


def test_without_plugins_their_list_is_empty_and_each_is_missing(scene: Scene) -> None:
    for version in (MIN_VERSION, newest_of(scene.engine)):
        assert scene.send("GET", f"/v{version}/plugins").body == b"[]\n"
        for method, rest in (("GET", "/json"), ("POST", "/enable?timeout=1"), ("POST", "/disable"), ("DELETE", "")):
            hit = scene.send(method, f"/v{version}/plugins/some/plugin{rest}")
            assert (hit.status, hit.body) == (404, b'{"message":"plugin \\"some/plugin\\" not found"}\n')

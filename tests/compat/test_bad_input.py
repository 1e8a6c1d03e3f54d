"""What nobody should send: malformed requests, bad values, names in use. Each gets Docker's status and a clear message, and leaves
no record, mount, link, rule, cgroup or process behind."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig.carrackd import Carrackd
from tests.rig.engine import CommandLine, Engine
from tests.rig.leaks import CGROUP_ROOT

JSON = {"Content-Type": "application/json"}
MALFORMED = [b"{", b"[]", b'"text"', b'{"Image": 5}', b'{"Image": "busybox", "Env": "A=1"}', b"\xff\xfe", b"{}{}"]


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    """Every test here must leave the engine as it was."""
    before = engine.traces() if isinstance(engine, Carrackd) else set()
    yield
    assert engine.api("GET", "/containers/json?all=1").json == []
    assert not engine.api("GET", "/volumes").json["Volumes"]
    if isinstance(engine, Carrackd):
        before |= {f"cgroup {path / engine.cgroup}" for path in CGROUP_ROOT.iterdir()}
        assert not engine.left_since(before)
        folder = engine.data_root / "containers"
        assert not folder.is_dir() or not list(folder.iterdir())


@pytest.mark.observes("POST /containers/create")
@pytest.mark.parametrize(
    "body",
    [
        *MALFORMED,
        pytest.param(
            rb'{"Image": "busybox", "Cmd": ["a\u0000b"]}', marks=pytest.mark.peer_lacks("it takes it, and fails at the start")
        ),
    ],
)
def test_malformed_json_is_a_bad_request(engine: Engine, body: bytes) -> None:
    answer = engine.api("POST", "/containers/create", body, headers=JSON)
    assert answer.status == 400 or (engine.kind == "dockerd" and answer.status == 500), answer.body
    assert answer.message


@pytest.mark.observes("POST /containers/create")
def test_a_body_that_is_not_json_is_refused_by_its_type(engine: Engine) -> None:
    answer = engine.api("POST", "/containers/create", b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status in {400, 415}


@pytest.mark.peer_lacks("it makes a container of no image")
@pytest.mark.observes("POST /containers/create")
def test_no_image_named_is_a_bad_request(engine: Engine) -> None:
    answer = engine.api("POST", "/containers/create", {"Cmd": ["true"]})
    assert answer.status == 400


@pytest.mark.observes("POST /containers/create")
def test_an_unknown_image_is_404_by_name(engine: Engine) -> None:
    answer = engine.api("POST", "/containers/create", {"Image": "nothing:1"})
    assert (answer.status, answer.message) == (404, "No such image: nothing:1")


@pytest.mark.observes("POST /containers/create")
def test_no_command_is_a_bad_request(engine: Engine) -> None:
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": [], "Entrypoint": [""]})
    assert answer.status == 400
    assert "no command specified" in answer.message.lower()


@pytest.mark.observes("POST /containers/create")
@pytest.mark.parametrize("name", ["a", "-x", "sp ace", "sl/ash", "ümlaut", ".dot"])
def test_a_malformed_name_is_a_bad_request(docker_cli: CommandLine, name: str) -> None:
    ended = docker_cli("create", f"--name={name}", "busybox", "true")
    assert ended.code == 1
    assert f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in ended.stderr


BAD_HOST_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
    ({"NanoCpus": 1000 * 10**9}, "Range of CPUs is from 0.01 to"),
    ({"NanoCpus": -1}, ""),
    ({"CapAdd": ["NOT_A_CAP"]}, 'invalid CapAdd: unknown capability: "CAP_NOT_A_CAP"'),
    ({"CapDrop": ["CAP_NOTHING"]}, 'invalid CapDrop: unknown capability: "CAP_NOTHING"'),
    ({"RestartPolicy": {"Name": "sometimes"}}, "invalid restart policy"),
    ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, "maximum retry count"),
    ({"Binds": ["relative:also/relative"]}, "invalid"),
    ({"Binds": ["/a:/b:nonsense"]}, "invalid"),
    ({"Binds": ["/a:/"]}, "invalid"),
    ({"PortBindings": {"80/carrier": [{}]}}, "invalid"),
    ({"PortBindings": {"x": [{}]}}, "invalid"),
    ({"NetworkMode": "container:"}, ""),
    ({"LogConfig": {"Type": "carrier-pigeon"}}, "carrier-pigeon"),
    ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "can't create 'AutoRemove' container with restart policy"),
]


@pytest.mark.observes("POST /containers/create")
@pytest.mark.parametrize(("host", "message"), BAD_HOST_CONFIGS, ids=lambda value: "".join(value)[:12])
def test_a_bad_host_config_is_a_bad_request(engine: Engine, host: dict[str, Any], message: str) -> None:
    if engine.kind == "dockerd" and "PortBindings" in host:
        pytest.skip("dockerd 20.10 finds a malformed port only at start")
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "HostConfig": host})
    assert answer.status >= 400, answer.body
    assert message.lower() in answer.message.lower()
    if engine.kind == "carrackd":  # 20.10 answers 500 to some of these
        assert answer.status in {400, 404}


@pytest.mark.observes("POST /containers/create")
@pytest.mark.parametrize("config", [{"WorkingDir": "relative"}, {"StopSignal": "SIGNOPE"}])
def test_a_bad_config_is_a_bad_request(engine: Engine, config: dict[str, Any]) -> None:
    answer = engine.api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], **config})
    assert answer.status in {400, 500}
    assert answer.message


@pytest.mark.parametrize("order", ["start", "exec", "wait", "resize?h=1&w=1"])
def test_an_unknown_container_is_404(engine: Engine, order: str) -> None:
    answer = engine.api("POST", f"/containers/nobody/{order}", {"Cmd": ["true"]} if order == "exec" else None)
    assert answer.status == 404
    assert "No such container: nobody" in answer.message


@pytest.mark.parametrize("target", ["/nowhere", "/containers", "/containers/x/y/z", "/v1.41/nowhere"])
def test_an_unknown_path_is_404(engine: Engine, target: str) -> None:
    answer = engine.api("GET", target)
    assert answer.status == 404
    assert answer.message == "page not found"


@pytest.mark.peer_lacks("its bounds and words are older")
@pytest.mark.parametrize(("version", "words"), [("1.99", "is too new"), ("1.1", "is too old"), ("0.9", "is too old")])
def test_a_version_out_of_range_is_a_bad_request(engine: Engine, version: str, words: str) -> None:
    answer = engine.api("GET", f"/v{version}/info")
    assert answer.status == 400
    assert f"client version {version} {words}" in answer.message


@pytest.mark.observes("GET /containers/json")
@pytest.mark.parametrize("query", ["filters=notjson", "filters=%7B%22nope%22%3A%5B%22x%22%5D%7D", "limit=abc", "filters=%5B%5D"])
def test_a_bad_query_of_ps_is_a_bad_request(engine: Engine, query: str) -> None:
    answer = engine.api("GET", f"/containers/json?{query}")
    assert answer.status == 400 or (engine.kind == "dockerd" and answer.status == 500)
    assert answer.message


def test_a_request_that_is_no_http_is_answered_and_closed(engine: Engine) -> None:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(10)
        talk.connect(str(engine.socket))
        talk.sendall(b"\x00\x01garbage\r\n\r\n")
        answer = b""
        while chunk := talk.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_client_that_leaves_in_the_middle_of_a_body_harms_nobody(engine: Engine) -> None:
    head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(str(engine.socket))
            talk.sendall(head + b'{"Image": "busy')
    assert engine.api("GET", "/_ping").status == 200


def test_a_client_that_leaves_in_the_middle_of_a_load_leaves_nothing(engine: Engine) -> None:
    before = engine.api("GET", "/images/json?all=1").body
    head = b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(str(engine.socket))
        talk.sendall(head + b"10000\r\n" + b"\0" * 5000)
    assert engine.api("GET", "/images/json?all=1").body == before


@pytest.mark.observes("POST /containers/{id}/start")
def test_a_command_that_does_not_exist_takes_everything_down_again(docker_cli: CommandLine) -> None:
    assert docker_cli("run", "--rm", "-v", "vol:/v", "-p", "0:80", "busybox", "no-such-command").code == 127
    docker_cli("volume", "rm", "vol")


@pytest.mark.observes("docker run --volume")
def test_a_bind_on_a_missing_source_by_mount_is_refused(docker_cli: CommandLine) -> None:
    ended = docker_cli("create", "--mount", "type=bind,source=/no/such/path,target=/x", "busybox", "true")
    assert ended.code == 1
    assert "bind source path does not exist: /no/such/path" in ended.stderr


@pytest.mark.observes("docker run --network")
def test_joining_a_container_that_is_not_there_is_the_starts_error(cli: CommandLine) -> None:
    cli.ok("create", "--name", "lonely", "--network", "container:nobody", "busybox", "true")
    assert "No such container: nobody" in cli("start", "lonely").stderr
    cli.ok("rm", "lonely")


@pytest.mark.observes("docker run --volumes-from")
def test_volumes_of_a_container_that_is_not_there_are_refused_without_a_pull(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "--volumes-from", "nobody", "busybox", "true")
    assert (ended.code, "Unable to find image" in ended.stderr) == (125, False)
    assert "No such container: nobody" in ended.stderr

"""The routes of containers and exec: what of a request reaches the engine, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from carrack.engine.state import Status
from carrack.engine.streams import LogOptions
from tests.contract.api.conftest import Daemon
from tests.contract.api.engine_double import container

DaemonOf = Callable[..., Daemon]
JSON = "Content-Type: application/json"


def document(answer: tuple[int, dict[str, str], bytes]) -> Any:
    assert answer[1]["content-type"] == "application/json", answer
    return json.loads(answer[2])


def message(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    return answer[0], document(answer)["message"]


def test_the_list_has_dockers_fields_in_dockers_order(daemon_of: DaemonOf) -> None:
    [entry] = document(daemon_of(container("web")).ask("GET", "/v1.43/containers/json"))
    assert list(entry) == [
        "Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State", "Status", "HostConfig",
        "NetworkSettings", "Mounts",
    ]  # fmt: skip
    assert entry["Names"] == ["/web"]
    assert entry["Command"] == "sh -c 'echo hi'"
    assert entry["Created"] == 1_700_000_000
    assert entry["Status"] == "Up About a minute"
    assert entry["HostConfig"] == {"NetworkMode": "bridge"}
    assert entry["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "tcp"},
    ]
    assert entry["Mounts"] == [
        {"Type": "bind", "Source": "/srv", "Destination": "/data", "Mode": "ro", "RW": False, "Propagation": "rprivate"}
    ]
    assert entry["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == "172.18.0.2"


def test_sizes_are_measured_only_when_asked(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    [entry] = document(daemon.ask("GET", "/v1.43/containers/json?size=1"))
    assert (entry["SizeRw"], entry["SizeRootFs"]) == (5, 1000)
    assert "SizeRw" not in document(daemon.ask("GET", "/v1.43/containers/web/json"))
    assert document(daemon.ask("GET", "/v1.43/containers/web/json?size=true"))["SizeRootFs"] == 1000


def test_all_limit_and_filters_reach_the_engine(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("up"), container("down", running=False))
    assert len(document(daemon.ask("GET", "/containers/json"))) == 1
    assert len(document(daemon.ask("GET", "/containers/json?all=1"))) == 2
    assert len(document(daemon.ask("GET", "/containers/json?all=1&limit=1"))) == 1
    found = document(daemon.ask("GET", '/containers/json?filters={"status":{"created":true}}'))
    assert [entry["Names"] for entry in found] == [["/down"]]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('filters={"nonsense":["x"]}', "invalid filter 'nonsense'"),
        ("limit=many", 'strconv.Atoi: parsing "many": invalid syntax'),
    ],
)
def test_a_bad_list_query_is_refused(daemon_of: DaemonOf, query: str, text: str) -> None:
    assert message(daemon_of().ask("GET", f"/containers/json?{query}")) == (400, text)


def test_inspect_has_dockers_fields_in_dockers_order(daemon_of: DaemonOf) -> None:
    found = document(daemon_of(container("web")).ask("GET", "/v1.43/containers/web/json"))
    assert list(found) == [
        "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "Name",
        "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig",
        "GraphDriver", "Mounts", "Config", "NetworkSettings",
    ]  # fmt: skip
    assert found["Created"] == "2023-11-14T22:13:20.123456789Z"
    assert found["Name"] == "/web"
    assert found["ExecIDs"] is None
    assert found["State"]["Running"] is True
    assert found["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert found["HostConfig"]["Binds"] == ["/srv:/data:ro"]
    assert found["HostConfig"]["ConsoleSize"] == [0, 0]
    assert found["HostConfig"]["PortBindings"] is None
    assert "Sysctls" not in found["HostConfig"]
    assert found["Config"]["Cmd"] == ["sh"]
    assert "StopTimeout" not in found["Config"]
    network = found["NetworkSettings"]
    assert network["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None}
    assert network["IPAddress"] == network["Networks"]["bridge"]["IPAddress"] == "172.18.0.2"
    assert network["Networks"]["bridge"]["IPAMConfig"] is None


def test_an_unknown_container_is_404_in_dockers_words(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    for method, path in (
        ("GET", "json"), ("GET", "top"), ("POST", "start"), ("POST", "stop"), ("POST", "restart"), ("POST", "pause"),
        ("POST", "unpause"), ("POST", "wait"), ("GET", "logs?stdout=1"),
    ):  # fmt: skip
        assert message(daemon.ask(method, f"/containers/nope/{path}")) == (404, "No such container: nope"), path
    assert message(daemon.ask("DELETE", "/containers/nope")) == (404, "No such container: nope")
    assert message(daemon.ask("POST", "/containers/nope/kill")) == (
        404,
        "cannot kill container: nope: No such container: nope",
    )


def test_create_gives_the_request_to_the_engine(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    body = b'{"Image": "busybox", "Cmd": "true", "HostConfig": {"Memory": 7340032, "PidsLimit": -1}, "Unknown": 1}'
    answer = daemon.ask("POST", "/v1.43/containers/create?name=web", body)
    assert answer[0] == 201
    assert document(answer) == {"Id": daemon.engine.get("web").id, "Warnings": []}
    [request] = daemon.engine.created
    assert (request.image, request.cmd) == ("busybox", ["true"])
    assert (request.host_config.memory, request.host_config.pids_limit) == (7340032, None)
    assert request.host_config.network_mode == "bridge"


def test_a_name_in_use_is_a_conflict(daemon_of: DaemonOf) -> None:
    status, text = message(daemon_of(container("web")).ask("POST", "/containers/create?name=web", b'{"Image": "busybox"}'))
    assert status == 409
    assert text.startswith('Conflict. The container name "/web" is already in use by container ')


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b"{}", (), "config cannot be empty in order to create a container"),
        (b'{"HostConfig": {}}', (), "config cannot be empty in order to create a container"),
        (b'{"Image": ', (), "invalid JSON: unexpected EOF"),
        (
            b'{"Image": 3}',
            (),
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Image of type string",
        ),
        (b'{"Image": "a"} x', (), "unexpected content after JSON"),
        (b"Image=a", ("Content-Type: text/plain",), "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{}", ("Content-Type: ",), "malformed Content-Type header (): mime: no media type"),
        (b"", (JSON,), "invalid JSON: got EOF while reading request body"),
        (b"", (), "invalid JSON: got EOF while reading request body"),
    ],
)
def test_a_bad_create_is_refused_in_dockers_words(daemon_of: DaemonOf, body: bytes, headers: tuple[str, ...], text: str) -> None:
    assert message(daemon_of().ask("POST", "/v1.43/containers/create", body, *headers)) == (400, text)


def test_a_body_on_start_is_refused(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web", running=False))
    status, text = message(daemon.ask("POST", "/containers/web/start", b'{"Binds": []}'))
    assert (status, text[:48]) == (400, "starting container with non-empty request body w")
    assert daemon.ask("POST", "/containers/web/start", b"{}")[0] == 204


def test_starting_twice_is_not_modified(daemon_of: DaemonOf) -> None:
    with daemon_of(container("web")).connect() as client:
        client.send("POST /v1.43/containers/web/start HTTP/1.1", "Host: d")
        assert client.head()[0].split()[1] == "304"


def test_signals_and_times_reach_the_engine(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    daemon.ask("POST", "/v1.43/containers/web/stop?signal=HUP&t=3")
    daemon.ask("POST", "/v1.41/containers/web/restart?signal=HUP&t=-1")
    daemon.ask("POST", "/v1.43/containers/web/kill?signal=USR1")
    assert daemon.engine.asked == [("stop", ("HUP", 3)), ("restart", ("", -1)), ("kill", "USR1")]
    assert message(daemon.ask("POST", "/containers/web/stop?t=soon"))[0] == 400


def test_killing_what_does_not_run_is_a_conflict(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web", running=False))
    status, text = message(daemon.ask("POST", "/containers/web/kill"))
    assert (status, text) == (409, f"cannot kill container: web: container {daemon.engine.get('web').id} is not running")


def test_orders_without_an_answer_are_204(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    with daemon.connect() as client:
        for order in ("pause", "unpause", "rename?name=shop", "stop"):
            name = "shop" if order == "stop" else "web"
            client.send(f"POST /v1.43/containers/{name}/{order} HTTP/1.1", "Host: d")
            assert client.head()[0] == "HTTP/1.1 204 No Content"
        client.send("DELETE /v1.43/containers/shop?force=1&v=1 HTTP/1.1", "Host: d")
        assert client.head()[0] == "HTTP/1.1 204 No Content"
    assert daemon.engine.asked[-1] == ("remove", (True, True, False))


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("w=80", 'invalid resize height "": invalid syntax'),
        ("h=24&w=-1", 'invalid resize width "-1": invalid syntax'),
        ("h=24&w=4294967296", 'invalid resize width "4294967296": value out of range'),
    ],
)
def test_a_bad_terminal_size_is_refused(daemon_of: DaemonOf, query: str, text: str) -> None:
    assert message(daemon_of(container("web")).ask("POST", f"/containers/web/resize?{query}")) == (400, text)


def test_a_terminal_size_reaches_the_engine(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    assert daemon.ask("POST", "/containers/web/resize?h=24&w=80")[0] == 200
    assert daemon.engine.asked == [("resize", (24, 80))]


def test_top_update_and_prune_answer_with_dockers_documents(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"), container("old", running=False))
    assert document(daemon.ask("GET", "/containers/web/top")) == {"Titles": ["PID", "CMD"], "Processes": [["1", "sh"]]}
    assert document(daemon.ask("POST", "/containers/web/update", b'{"Memory": 9, "PidsLimit": -1}')) == {"Warnings": None}
    name, wanted = daemon.engine.asked[-1]
    assert (name, getattr(wanted, "memory", None), getattr(wanted, "pids_limit", None)) == ("update", 9, 0)
    old = daemon.engine.get("old").id
    assert document(daemon.ask("POST", "/containers/prune")) == {"ContainersDeleted": [old], "SpaceReclaimed": 77}


def test_the_options_of_logs_reach_the_engine(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    query = "stdout=1&stderr=0&since=1700000000.5&until=1700000009&timestamps=1&details=0&tail=1"
    assert daemon.ask("GET", f"/v1.43/containers/web/logs?{query}")[0] == 200
    assert daemon.engine.asked == [
        ("logs", LogOptions(True, False, False, 1700000000_500000000, 1700000009_000000000, True, False, 1))
    ]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Bad parameters: you must choose at least one stream"),
        ("stdout=1&since=noon", 'invalid value for "since": strconv.ParseInt: parsing "noon": invalid syntax'),
    ],
)
def test_bad_options_of_logs_are_refused(daemon_of: DaemonOf, query: str, text: str) -> None:
    assert message(daemon_of(container("web")).ask("GET", f"/containers/web/logs?{query}")) == (400, text)


@pytest.mark.parametrize(
    ("version", "tty", "content_type"),
    [
        ("1.43", False, "application/vnd.docker.multiplexed-stream"),
        ("1.42", False, "application/vnd.docker.multiplexed-stream"),
        ("1.41", False, "application/vnd.docker.raw-stream"),
        ("1.43", True, "application/vnd.docker.raw-stream"),
    ],
)
@pytest.mark.parametrize("follow", [0, 1])
def test_logs_say_whether_they_are_multiplexed(
    daemon_of: DaemonOf, version: str, tty: bool, content_type: str, follow: int
) -> None:
    daemon = daemon_of(container("web", tty=tty))
    _, headers, body = daemon.ask("GET", f"/v{version}/containers/web/logs?stdout=1&follow={follow}")
    assert headers["content-type"] == content_type
    expected = b"one\ntwo\n" if tty else b"\1\0\0\0\0\0\0\4one\n\1\0\0\0\0\0\0\4two\n"
    assert body == expected


def test_followed_logs_reach_an_http_1_0_client_without_chunks(daemon_of: DaemonOf) -> None:
    with daemon_of(container("web", tty=True)).connect() as client:
        client.send("GET /containers/web/logs?stdout=1&follow=1 HTTP/1.0")
        _, headers = client.head()
        assert "transfer-encoding" not in headers
        assert client.rest() == b"one\ntwo\n"


def test_the_head_of_wait_comes_before_the_end(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    with daemon.connect() as client:
        client.send("POST /v1.43/containers/web/wait?condition=next-exit HTTP/1.1", "Host: d")
        line, headers = client.head()
        assert (line, headers["content-type"]) == ("HTTP/1.1 200 OK", "application/json")
        daemon.engine.get("web").state.exit_code = 7
        daemon.engine.ended.set()
        assert client.body(headers) == b'{"StatusCode": 7}\n'


def test_an_invalid_wait_condition_is_refused(daemon_of: DaemonOf) -> None:
    answer = daemon_of(container("web")).ask("POST", "/v1.43/containers/web/wait?condition=someday")
    assert message(answer) == (400, 'invalid condition: "someday"')


def test_before_1_30_wait_knows_no_conditions(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web", running=False))
    _, _, body = daemon.ask("POST", "/v1.29/containers/web/wait?condition=someday")
    assert json.loads(body) == {"StatusCode": 0}


def test_an_exec_is_made_inspected_and_resized(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    body = b'{"Cmd": ["ls", "-l"], "AttachStdout": true, "User": "nobody", "DetachKeys": "ctrl-a"}'
    answer = daemon.ask("POST", "/v1.43/containers/web/exec", body)
    assert answer[0] == 201
    exec_id = document(answer)["Id"]
    assert document(daemon.ask("GET", f"/v1.43/exec/{exec_id}/json")) == {
        "ID": exec_id,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {"tty": False, "entrypoint": "ls", "arguments": ["-l"], "privileged": False, "user": "nobody"},
        "OpenStdin": False,
        "OpenStderr": False,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": daemon.engine.get("web").id,
        "DetachKeys": "AQ==",
        "Pid": 0,
    }
    assert daemon.ask("POST", f"/v1.43/exec/{exec_id}/resize?h=1&w=2")[0] == 200
    assert daemon.engine.asked == [("resize_exec", (1, 2))]


def test_an_exec_without_a_command_is_refused(daemon_of: DaemonOf) -> None:
    answer = daemon_of(container("web")).ask("POST", "/containers/web/exec", b'{"Cmd": []}')
    assert message(answer) == (400, "No exec command specified")


def test_a_detached_exec_is_answered_at_once(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    exec_id = document(daemon.ask("POST", "/containers/web/exec", b'{"Cmd": ["ls"]}'))["Id"]
    assert daemon.ask("POST", f"/exec/{exec_id}/start", b'{"Detach": true}')[0] == 200
    assert daemon.engine.get_exec(exec_id).started


def test_an_unknown_exec_is_404(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    assert message(daemon.ask("GET", "/exec/nope/json")) == (404, "No such exec instance: nope")
    assert message(daemon.ask("POST", "/exec/nope/start", b"{}")) == (404, "No such exec instance: nope")


def test_the_state_of_a_container_is_told_in_words(daemon_of: DaemonOf) -> None:
    found = container("web")
    daemon = daemon_of(found)
    found.state.status = Status.PAUSED
    [entry] = document(daemon.ask("GET", "/containers/json"))
    assert (entry["State"], entry["Status"]) == ("paused", "Up About a minute (Paused)")

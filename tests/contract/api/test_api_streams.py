"""Attach and exec on a connection that is handed over, in each form a client may ask for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable

import pytest

from carrack.api.versions import MAX_VERSION
from carrack.engine.streams import AttachOptions, ExecStartOptions
from tests.contract.api.conftest import Daemon
from tests.contract.api.engine_double import container

DaemonOf = Callable[..., Daemon]

ATTACH = "POST /v{version}/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1"
UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


@pytest.mark.parametrize(
    ("version", "tty", "upgrade", "line", "content_type"),
    [
        ("1.43", False, UPGRADE, "HTTP/1.1 101 UPGRADED", MULTIPLEXED),
        ("1.43", True, UPGRADE, "HTTP/1.1 101 UPGRADED", RAW),
        ("1.41", False, UPGRADE, "HTTP/1.1 101 UPGRADED", RAW),
        ("1.43", False, (), "HTTP/1.1 200 OK", RAW),
    ],
)
def test_attach_is_101_with_an_upgrade_and_200_without(
    daemon_of: DaemonOf, version: str, tty: bool, upgrade: tuple[str, ...], line: str, content_type: str
) -> None:
    daemon = daemon_of(container("web", tty=tty))
    with daemon.connect() as client:
        client.send(ATTACH.format(version=version), "Host: d", *upgrade, body=b"hel")
        client.socket.sendall(b"lo")
        client.half_close()
        found, headers = client.head()
        assert (found, headers["content-type"]) == (line, content_type)
        assert ("upgrade" in headers, headers["api-version"]) == (bool(upgrade), MAX_VERSION)
        assert "content-length" not in headers
        assert "transfer-encoding" not in headers
        assert client.rest() == (b"HELLO" if tty else b"\1\0\0\0\0\0\0\5HELLO")
    assert daemon.engine.asked == [("attach", AttachOptions(True, True, True, False, True, ""))]


def test_a_failed_attach_is_told_in_the_streams_own_type(daemon_of: DaemonOf) -> None:
    status, headers, body = daemon_of().ask("POST", "/containers/nope/attach?stream=1", b"", *UPGRADE)
    assert (status, headers["content-type"], body) == (404, RAW, b"No such container: nope\r\n")


@pytest.mark.parametrize("by_byte", [True, False])
def test_exec_start_reads_its_body_and_gives_the_rest_to_the_process(daemon_of: DaemonOf, by_byte: bool) -> None:
    daemon = daemon_of(container("web"))
    _, _, answer = daemon.ask("POST", "/containers/web/exec", b'{"Cmd": ["cat"], "AttachStdin": true}')
    exec_id = json.loads(answer)["Id"]
    body = b'{"Detach": false, "Tty": true, "ConsoleSize": [24, 80]}'
    head = (
        f"POST /v1.43/exec/{exec_id}/start HTTP/1.1", "Host: d", *UPGRADE, "Content-Type: application/json",
        f"Content-Length: {len(body)}", "", "",
    )  # fmt: skip
    whole = "\r\n".join(head).encode() + body + b"input"
    with daemon.connect() as client:
        for piece in (whole[i : i + 1] for i in range(len(whole))) if by_byte else (whole,):
            client.socket.sendall(piece)
        client.half_close()
        assert client.head()[0] == "HTTP/1.1 101 UPGRADED"
        assert client.rest() == b"\1\0\0\0\0\0\0\x09out:input\2\0\0\0\0\0\0\3err"
    assert daemon.engine.asked == [("start_exec", ExecStartOptions(False, True, (24, 80)))]


def test_the_size_of_an_execs_terminal_is_ignored_before_1_42(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    exec_id = json.loads(daemon.ask("POST", "/containers/web/exec", b'{"Cmd": ["cat"]}')[2])["Id"]
    daemon.ask("POST", f"/v1.41/exec/{exec_id}/start", b'{"Detach": true, "Tty": true, "ConsoleSize": [24, 80]}')
    assert daemon.engine.asked == [("start_exec", ExecStartOptions(True, True, None))]


def test_docker_py_gets_the_head_in_a_segment_of_its_own(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web", tty=True))
    daemon.engine.greeting = b"at once"
    with daemon.connect() as client:
        client.send(ATTACH.format(version="1.43"), "Host: d", *UPGRADE, "User-Agent: docker-sdk-python/7.1.0")
        while not client.socket.recv(65536, socket.MSG_PEEK).endswith(b"\r\n\r\n"):
            pass
        daemon.server.run(asyncio.sleep(0.05))  # time in which the stream would have followed the head
        assert client.socket.recv(65536).endswith(b"\r\n\r\n")
        assert client.rest() == b"at once"

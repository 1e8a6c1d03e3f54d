"""A registry that means ill, or is out of its mind: each of its answers is a failure in our own words, soon, and costs little."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

import pytest

from carrack.distribution.cancellation import Cancellation
from carrack.distribution.credentials import ANONYMOUS, Credentials
from carrack.distribution.endpoints import Endpoint
from carrack.distribution.repository import Repository
from carrack.distribution.tokens import Tokens
from carrack.distribution.transport import Transport
from carrack.errors import Cancelled, CarrackError, Unavailable
from tests.rig.hostile_server import Answer, drip, drip_body, endless, hostile, hundreds, plain

DEEP = b'{"errors":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


class MakeRepository(Protocol):
    """A repository of a host as its client sees it; its connections are closed with the test."""

    def __call__(self, host: str, credentials: Credentials = ANONYMOUS, cancel: Cancellation | None = None) -> Repository: ...


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRepository]:
    monkeypatch.setattr("carrack.distribution.repository._FIRST_PAUSE_SECONDS", 0)
    transport = Transport()

    def make(host: str, credentials: Credentials = ANONYMOUS, cancel: Cancellation | None = None) -> Repository:
        endpoint = Endpoint("http", host)
        return Repository(transport, Tokens(transport), endpoint, "a/b", credentials, cancel or Cancellation("transfer"))

    yield make
    transport.close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "answer",
    [
        endless("307 Temporary Redirect", "Location: /elsewhere"),
        endless("401 Unauthorized", 'WWW-Authenticate: Bearer realm="ftp://x"'),
        endless("404 Not Found"),
        endless("200 OK", "Content-Type: application/json"),
    ],
)
def test_a_body_without_an_end_is_not_read_to_it(answer: Answer, repository: MakeRepository) -> None:
    with hostile(answer) as host, pytest.raises(CarrackError):
        repository(host).manifest("latest")


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "http://localhost:99999/",
        "http://localhost:port/",
        "http://" + "x" * 70 + "." + "y" * 300 + "/",
        "//\xe9\xff/\x80",
        "/v2/\xe9 \x01",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused_by_name(location: str, repository: MakeRepository) -> None:
    with hostile(plain("302 Found", f"Location: {location}")) as host, pytest.raises(CarrackError):
        repository(host).manifest("latest")


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="http://[::1"',
        'Bearer realm="http://localhost:99999/"',
        'Bearer realm="file:///etc/passwd"',
        "Bearer",
        "\xe9\xff",
        'Bearer realm="' + "\\" * 30000,
    ],
)
def test_a_challenge_that_names_no_token_server_is_refused(challenge: str, repository: MakeRepository) -> None:
    with hostile(plain("401 Unauthorized", f"WWW-Authenticate: {challenge}")) as host, pytest.raises(CarrackError):
        repository(host).manifest("latest")


@pytest.mark.parametrize(
    "token",
    [
        b'{"token": "x\\r\\nX-Other: y"}',
        '{"token": "\u20ac"}'.encode(),
        b'{"token": 5}',
        b'{"token": "x", "expires_in": 1' + b"0" * 400 + b"}",
        b'{"token": "x", "expires_in": 9223372036854775807}',
        b'{"token": "x", "other": ' + b"[" * 100_000,
        b"",
    ],
)
def test_a_token_that_is_none_is_a_failure_and_no_header(token: bytes, repository: MakeRepository) -> None:
    lines: list[str] = []

    def answer(connection: socket.socket, line: str, head: bytes) -> None:
        lines.append(line)
        if "/token" in line:
            plain("200 OK", body=token)(connection, line, head)
        else:
            plain("401 Unauthorized", f'WWW-Authenticate: Bearer realm="http://{host}/token"')(connection, line, head)

    with hostile(answer) as host, pytest.raises(CarrackError):
        repository(host).manifest("latest")
    assert any("/token" in line for line in lines)


@pytest.mark.parametrize(
    "fields", [("Content-Length: \xb2",), ("Content-Length: 1" + "0" * 5000,), ("Docker-Content-Digest: ../../x",)]
)
def test_a_head_that_states_nonsense_is_a_failure(fields: tuple[str, ...], repository: MakeRepository) -> None:
    head = "\r\n".join(("HTTP/1.1 200 OK", f"Docker-Content-Digest: sha256:{'0' * 64}", *fields, "", ""))
    with hostile(lambda connection, *_: connection.sendall(head.encode("latin-1"))) as host:
        asked = repository(host)
        threading.Timer(2, asked._cancel.cancel).start()
        with suppress(CarrackError):
            asked.has_manifest("latest")


@pytest.mark.parametrize("after", ["\xb2", "9" * 400, "9" * 5000, "-1", "soon"])
def test_a_pause_that_is_no_number_is_our_own(after: str, repository: MakeRepository) -> None:
    cancel = Cancellation("transfer")
    seen = threading.Event()

    def answer(connection: socket.socket, line: str, head: bytes) -> None:
        if seen.is_set():
            cancel.cancel()
        seen.set()
        plain("429 Too Many", f"Retry-After: {after}")(connection, line, head)

    with hostile(answer) as host:
        if len(after) > 2:  # we are asked to wait as long as we are ready to
            threading.Timer(0.5, cancel.cancel).start()
        with pytest.raises((Cancelled, Unavailable)):
            repository(host, cancel=cancel).manifest("latest")


def test_an_error_document_without_a_bottom_is_no_failure_of_ours(repository: MakeRepository) -> None:
    with hostile(plain("404 Not Found", body=DEEP[:60_000])) as host, pytest.raises(CarrackError, match="not found"):
        repository(host).manifest("latest")


@pytest.mark.timeout(60)
def test_a_list_whose_next_page_is_itself_has_an_end(repository: MakeRepository) -> None:
    body = b'{"tags": ["' + b'x", "' * 10_000 + b'y"]}'
    link = 'Link: </v2/a/b/tags/list?last=x>; rel="next"'
    with hostile(plain("200 OK", link, body=body)) as host, pytest.raises(Unavailable, match="no end"):
        repository(host).tags()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("answer", [drip, drip_body, hundreds, lambda connection, *_: threading.Event().wait(20)])
def test_who_waits_for_an_answer_that_never_comes_may_give_up(answer: Answer, repository: MakeRepository) -> None:
    cancel = Cancellation("transfer")
    ended = threading.Event()

    def ask() -> None:
        with suppress(CarrackError):
            repository(host, cancel=cancel).manifest("latest")
        ended.set()

    with hostile(answer) as host:
        threading.Thread(target=ask, daemon=True).start()
        assert not ended.wait(0.2)
        cancel.cancel()
        assert ended.wait(5)


# CVE-2020-15157, CVE-2021-41092, CVE-2026-33540
def test_credentials_follow_a_redirect_neither_to_another_port_nor_back(repository: MakeRepository) -> None:
    seen: list[tuple[str, bool]] = []

    def away(connection: socket.socket, line: str, head: bytes) -> None:
        seen.append(("away", b"Authorization" in head))
        plain("302 Found", f"Location: http://{home}/v2/a/b/manifests/back")(connection, line, head)

    def own(connection: socket.socket, line: str, head: bytes) -> None:
        seen.append(("home", b"Authorization" in head))
        if "back" in line:
            plain("200 OK", body=b"{}")(connection, line, head)
        elif b"Authorization" not in head:
            plain("401 Unauthorized", "WWW-Authenticate: Basic realm=x")(connection, line, head)
        else:
            plain("302 Found", f"Location: http://{elsewhere}/x")(connection, line, head)

    with hostile(own) as home, hostile(away) as elsewhere:
        repository(home, Credentials("me", "secret")).manifest("latest")
    assert seen == [("home", False), ("home", True), ("away", False), ("home", False)]


def test_a_registry_that_sends_us_from_host_to_host_keeps_few_connections(repository: MakeRepository) -> None:
    asked = 0

    def answer(connection: socket.socket, line: str, head: bytes) -> None:
        nonlocal asked
        if "manifests" in line:
            asked += 1
            plain("302 Found", f"Location: http://{asked}@{host}/x")(connection, line, head)  # each another host to us
        else:
            plain("200 OK", body=b"{}")(connection, line, head)

    with hostile(answer) as host:
        registry = repository(host)
        for _ in range(80):
            registry.manifest("latest")
        assert len(registry._transport._idle) == 32

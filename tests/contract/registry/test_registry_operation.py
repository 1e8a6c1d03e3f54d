"""What an operator counts on: corrupt bytes are not served, limits hold, the stop is graceful, numbers and logs are there."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from carrack.http import Limits
from carrack.registry.auth.gate import Gate
from carrack.registry.metrics import Metrics
from carrack.registry.routes.call import Services
from carrack.registry.server import RegistryServer
from carrack.registry.storage.memory import MemoryStorage
from carrack.registry.verification import Verifier
from tests.contract.http.live_server import LiveServer
from tests.contract.registry.live_registry import Client, LiveRegistry, sha256
from tests.rig.waiting import until

Start = Callable[..., LiveRegistry]


def received(client: Client, path: str) -> int | None:
    """The status of an answer that came whole; None when it was cut short."""
    try:
        return client.get(path).status
    except http.client.IncompleteRead:
        return None


# Corrupt bytes


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_corrupt_blob_is_never_served_whole_and_a_push_heals_it(start: Start, size: int) -> None:
    registry = start()
    content = os.urandom(size)
    digest = registry.client.push_blob("app", content)
    path = f"/v2/app/blobs/{digest}"
    assert registry.client.get(path).body == content
    stored = registry.stored(digest)
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert received(registry.client, path) in (None, 500)
    until(lambda: registry.client.head(path).status == 404, "the corrupt blob to be put aside")
    assert not stored.exists()
    registry.client.push_blob("app", content)
    assert registry.client.get(path).body == content


def test_bytes_corrupted_while_the_server_was_down_are_found_at_the_first_pull(start: Start) -> None:
    registry = start()
    content = os.urandom(2_000_000)
    digest = registry.client.push_blob("app", content)
    registry.stop()
    registry.stored(digest).write_bytes(content[:1000] + b"?" + content[1001:])
    registry.start()
    assert received(registry.client, f"/v2/app/blobs/{digest}") is None
    until(lambda: registry.client.head(f"/v2/app/blobs/{digest}").status == 404, "the corrupt blob to be put aside")


def test_a_truncated_blob_is_not_served(start: Start) -> None:
    registry = start()
    digest = registry.client.push_blob("app", b"x" * 1000)
    registry.stored(digest).write_bytes(b"x" * 999)
    answer = registry.client.get(f"/v2/app/blobs/{digest}")
    assert (answer.status, answer.code) == (500, "BLOB_UNKNOWN")


def test_a_corrupt_manifest_is_not_served(start: Start) -> None:
    registry = start()
    digest = registry.client.push_image("app", "v1")
    registry.stop()
    stored = registry.stored(digest)
    stored.write_bytes(stored.read_bytes().replace(b"layer", b"lAyer"))
    registry.start()
    for reference in ("v1", digest):
        assert registry.client.get(f"/v2/app/manifests/{reference}").status == 500


# Limits


def test_a_blob_beyond_the_limit_is_refused_however_it_comes(start: Start) -> None:
    registry = start("--max-blob-bytes", "1000")
    client = registry.client
    client.push_blob("app", b"x" * 1000)
    content = b"y" * 1001
    location = client.start_upload("app")
    query = f"digest={sha256(content)}"
    answers = [
        client.ask("POST", f"/v2/app/blobs/uploads/?{query}", content),
        client.ask("PUT", f"{location}?{query}", content),
        client.ask("PATCH", client.start_upload("app"), iter([content[:600], content[600:]]), Transfer_Encoding="chunked"),
    ]
    client.ask("PATCH", location, content[:600], Content_Range="0-599")
    answers.append(client.ask("PATCH", location, content[600:], Content_Range="600-1000"))
    assert {(answer.status, answer.code) for answer in answers} == {(413, "SIZE_INVALID")}
    assert client.head(f"/v2/app/blobs/{sha256(content)}").status == 404


def test_no_page_is_longer_than_a_thousand(start: Start) -> None:
    """CVE-2017-11468, CVE-2023-2253: a page size must not be the client's to choose."""
    registry = start()
    client = registry.client
    digest = client.push_image("app", "t0000")
    for number in range(1, 1010):  # as registry:2 would have left them: a thousand pushes take too long here
        link = registry.root / f"docker/registry/v2/repositories/app/_manifests/tags/t{number:04}/current/link"
        link.parent.mkdir(parents=True)
        link.write_text(digest)
    for query in ("", "?n=1000", "?n=1001", "?n=2147483647", "?n=99999999999999999999999999"):
        answer = client.get(f"/v2/app/tags/list{query}")
        assert (answer.status, len(answer.json["tags"])) == (200, 1000)
        assert answer.headers["Link"] == '</v2/app/tags/list?n=1000&last=t0999>; rel="next"'
    assert len(client.get("/v2/app/tags/list?n=1000&last=t0999").json["tags"]) == 10
    assert client.get("/v2/_catalog?n=99999999999999999999999999").status == 200


def test_memory_does_not_grow_with_the_blob(start: Start) -> None:
    registry = start()
    size, piece = 300 << 20, bytes(1 << 20)
    registry.client.push_blob("app", piece)

    def resident() -> int:
        status = Path(f"/proc/{registry.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]

    before = resident()
    location = registry.client.start_upload("app")
    answer = registry.client.ask("PATCH", location, (piece for _ in range(size >> 20)), Transfer_Encoding="chunked")
    assert answer.headers["Range"] == f"0-{size - 1}"
    assert resident() - before < 16 << 10
    assert resident() < 64 << 10


def test_a_client_that_speaks_tls_to_plain_http_is_answered_at_once(client: Client) -> None:
    """skopeo and dockerd try TLS first where plain HTTP is allowed; a silent server costs them ten seconds each time."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=2) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32))
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_clients_beyond_the_limit_are_told_to_come_back(start: Start) -> None:
    registry = start("--max-connections", "2")
    held = [socket.create_connection(("127.0.0.1", registry.ports[0])) for _ in range(2)]
    try:
        until(lambda: registry.client.get("/v2/").status == 503, "a refusal")
    finally:
        for connection in held:
            connection.close()
    until(lambda: registry.client.get("/v2/").status == 200, "a free place")


def test_a_full_disk_is_told_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    """The largest file a process may write stands for the disk's end; what was there stays, what fits goes on."""
    registry = LiveRegistry(tmp_path / "root", prefix=("prlimit", "--fsize=2000000"))
    try:
        client = registry.client
        kept = client.push_image("app", "v1")
        content = bytes(3_000_000)
        answer = client.ask("PUT", f"{client.start_upload('app')}?digest={sha256(content)}", content)
        assert (answer.status, answer.code) == (500, "UNKNOWN")
        assert client.head(f"/v2/app/blobs/{sha256(content)}").status == 404
        assert client.get("/v2/app/manifests/v1").headers["Docker-Content-Digest"] == kept
        client.push_blob("app", bytes(1_000_000))
        assert registry.run("scrub")["corrupt"] == []
    finally:
        registry.close()


def test_a_client_that_sends_nothing_more_is_given_up(tmp_path: Path) -> None:
    storage = MemoryStorage()
    server = RegistryServer(Services(storage, Verifier(storage, lambda: None), ThreadPoolExecutor(2)), Gate(None, None), Metrics())
    upload_id = storage.start_upload("app")
    with LiveServer(server.handle, None, Limits(body_seconds=0.05)) as live, live.connect() as connection:
        connection.send(f"PATCH /v2/app/blobs/uploads/{upload_id} HTTP/1.1", "Host: x", "Content-Length: 9", body=b"half")
        assert connection.head()[0] == "HTTP/1.1 400 Bad Request"
        until(lambda: storage.upload_size("app", upload_id) == 4, "what came to be kept")
        storage.open_upload("app", upload_id).close()


# Stop


def test_a_stop_lets_running_uploads_end_and_takes_no_more(start: Start) -> None:
    registry = start()
    content = b"z" * 100_000
    location = registry.client.start_upload("app")
    connection = registry.client.connect()
    connection.putrequest("PUT", f"{location}?digest={sha256(content)}")
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content[:50_000])
    until(lambda: upload_began(registry, location), "the upload to begin")
    registry.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(registry.client), "the listener to close")
    connection.send(content[50_000:])
    response = connection.getresponse()
    assert response.status == 201
    response.read()
    connection.close()
    assert registry.process.wait(10) == 0
    registry.start()
    assert registry.client.get(f"/v2/app/blobs/{sha256(content)}").body == content


def upload_began(registry: LiveRegistry, location: str) -> bool:
    """Whether a request holds the upload: another one is kept waiting, then refused."""
    upload = registry.root / "docker/registry/v2/repositories/app/_uploads" / location.rpartition("/")[2] / "data"
    inode = f":{upload.stat().st_ino} "
    return any(inode in line for line in Path("/proc/locks").read_text().splitlines())


def refuses(client: Client) -> bool:
    try:
        client.get("/v2/")
    except (OSError, http.client.HTTPException):
        return True
    return False


def test_a_second_signal_stops_at_once(start: Start) -> None:
    registry = start()
    location = registry.client.start_upload("app")
    connection = registry.client.connect()
    connection.putrequest("PATCH", location)
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"only a part")
    until(lambda: upload_began(registry, location), "the upload to begin")
    registry.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(registry.client), "the listener to close")
    assert registry.process.poll() is None
    registry.process.send_signal(signal.SIGTERM)
    assert registry.process.wait(10) == 0
    connection.close()


# Numbers and logs


def test_metrics_and_health_have_an_address_of_their_own(start: Start) -> None:
    registry = start("--metrics-listen", "127.0.0.1:0")
    registry.client.push_image("app", "v1")
    registry.client.get("/v2/app/manifests/v1")
    registry.client.ask("BREW", "/v2/")
    operator = Client(registry.ports[1])
    assert operator.get("/healthz").status == 200
    text = operator.get("/metrics").body.decode()
    assert 'carrack_registry_requests_total{route="manifest",method="GET",status="200"} 1' in text
    assert 'carrack_registry_requests_total{route="manifest",method="PUT",status="201"} 1' in text
    assert re.search(r'carrack_registry_request_seconds_bucket\{route="manifest",le="\+Inf"\} 2\n', text)
    assert "carrack_registry_requests_in_flight 0" in text
    assert "BREW" not in text
    assert registry.client.get("/metrics").status == 404


def test_the_access_log_has_one_line_a_request_and_no_secret(start: Start) -> None:
    registry = start()
    registry.client.push_blob("app", b"x")
    registry.client.get("/v2/app/tags/list?n=1&token=query-secret", Authorization="Bearer header-secret", User_Agent='a"\\')
    registry.client.get("/v2/a%0A%22forged%22/tags/list")
    registry.stop()
    lines = [json.loads(line) for line in registry.access_log.read_text().splitlines()]
    assert [(line["method"], line["status"]) for line in lines] == [("POST", 202), ("PUT", 201), ("GET", 200), ("GET", 400)]
    assert lines[2]["path"] == "/v2/app/tags/list"
    assert lines[2]["agent"].startswith('a"\\')
    assert lines[0]["remote"].startswith("127.0.0.1:")
    assert "secret" not in registry.access_log.read_text()


def test_collection_runs_by_itself_and_is_counted(start: Start) -> None:
    registry = start("--gc-interval", "1", "--metrics-listen", "127.0.0.1:0")
    registry.client.push_image("app", "v1")
    operator = Client(registry.ports[1])
    until(lambda: "carrack_registry_gc_runs_total 1" in operator.get("/metrics").body.decode(), "a collection")
    assert "carrack_registry_stored_blobs 3" in operator.get("/metrics").body.decode()


def test_the_configuration_may_be_a_file_and_flags_win(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "registry.json"
    file.write_text(json.dumps({"delete": False, "max_blob_bytes": 5, "garbage": {"interval_seconds": 0}}))
    registry = start("--config", str(file), "--max-blob-bytes", "100")
    registry.client.push_image("app", "v1")
    assert registry.client.delete("/v2/app/manifests/v1").status == 405


def test_an_unknown_name_in_the_configuration_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_text('{"delte": false}')
    with pytest.raises(RuntimeError, match="delte"):
        LiveRegistry(tmp_path / "root", "--config", str(tmp_path / "registry.json"))


def test_two_servers_share_one_store(start: Start, tmp_path: Path) -> None:
    """Nothing a client does may depend on which of several servers it meets."""
    one, two = start(root=tmp_path / "shared"), start(root=tmp_path / "shared")
    location = one.client.start_upload("app")
    assert two.client.ask("PATCH", location, b"hello ", Content_Range="0-5").status == 202
    assert one.client.ask("PATCH", location, b"wor", Content_Range="6-8").status == 202
    assert two.client.ask("PUT", f"{location}?digest={sha256(b'hello world')}", b"ld", Content_Range="9-10").status == 201
    assert one.client.get(f"/v2/app/blobs/{sha256(b'hello world')}").body == b"hello world"
    digest = one.client.push_image("app", "v1")
    assert two.client.get("/v2/app/manifests/v1").status == 200
    assert two.client.delete(f"/v2/app/manifests/{digest}").status == 202
    assert one.client.get(f"/v2/app/manifests/{digest}").status == 404
    assert one.client.get("/v2/app/tags/list").json["tags"] == []


def test_a_deleted_blob_does_not_come_back_from_a_cache(start: Start) -> None:
    """CVE-2026-35172: membership is asked for at each request, however often the bytes were served before."""
    registry = start()
    client = registry.client
    digest = client.push_blob("app", b"x" * 100)
    client.push_blob("other", b"x" * 100)
    path = f"/v2/app/blobs/{digest}"
    assert [client.get(path).status for _ in range(3)] == [200] * 3
    assert "private" in client.get(path).headers["Cache-Control"]
    assert client.delete(path).status == 202
    assert client.get(path).status == client.head(path).status == 404
    assert client.get(path, If_None_Match=f'"{digest}"').status == 404
    manifest = client.push_image("app", "v1")
    path = f"/v2/app/manifests/{manifest}"
    assert client.get(path).status == 200
    client.delete(path)
    assert client.get(path, If_None_Match=f'"{manifest}"').status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd/manifests/x",
        "/v2/%2e%2e/%2e%2e/manifests/x",
        "/v2/a%2f..%2f..%2fb/tags/list",
        "/v2/a/blobs/sha256:..%2f..%2f..%2f",
        "/v2/a/blobs/uploads/..%2f..%2f_layers",
        "/v2/a/manifests/..%2fcurrent",
        "/v2/_layers/tags/list",
        "/v2/a/_layers/tags/list",
        "/v2/a%00b/tags/list",
        "/v2/a%0d%0aX-Header:%201/tags/list",
        "/v2/A/tags/list",
        "//v2/a/tags/list",
        "/v2//tags/list",
    ],
)
def test_a_path_that_plays_tricks_reaches_nothing(client: Client, path: str) -> None:
    for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
        answer = client.ask(method, path, b"{}" if method != "GET" else None)
        assert answer.status in (400, 404, 405), (method, path, answer)
        assert "X-Header" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v2/%ff/tags/list",
        "/v2/a/manifests/%ff",
        "/v2/a/manifests/sha256:%ff",
        "/v2/a/blobs/%fe%ff",
        "/v2/a/blobs/uploads/%ff",
        "/v2/_catalog?n=%ff",
        "/v2/a/referrers/%ff",
    ],
)
def test_bytes_that_are_no_text_are_refused_in_the_specs_form(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in (400, 404, 405)
    assert answer.code


def test_a_user_name_that_is_no_text_is_refused_and_logged(start: Start, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("")
    registry = start("--htpasswd", str(tmp_path / "users"))
    assert registry.client.get("/v2/", Authorization="Basic //86eA==").status == 401  # bytes ff, ff, a colon, x
    assert registry.client.get("/v2/%ff/tags/list", User_Agent="\xff").status == 400
    registry.stop()
    assert [json.loads(line)["status"] for line in registry.access_log.read_text().splitlines()] == [401, 400]


def test_many_clients_pushing_one_image_at_once_all_succeed(client: Client, repo: str) -> None:
    failures: list[BaseException] = []

    def push() -> None:
        try:
            client.push_image(repo, "v1", "the same")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=push) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert client.get(f"/v2/{repo}/manifests/v1").status == 200

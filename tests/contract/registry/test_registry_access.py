"""Users, rules and TLS: who gets in, what for, and that nothing goes past the gate."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest

from tests.contract.registry.live_registry import Client, LiveRegistry, sha256
from tests.rig.waiting import until

Start = Callable[..., LiveRegistry]
DIGEST = sha256(b"x")


def htpasswd(path: Path, **users: str) -> Path:
    lines = [f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n" for user, password in users.items()]
    path.write_text("# users\n\n" + "".join(lines))
    return path


def as_user(registry: LiveRegistry, user: str, password: str) -> Client:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Client(registry.ports[0], {"Authorization": f"Basic {credentials}"})


def write_rules(path: Path, *rules: dict[str, object], **groups: list[str]) -> Path:
    path.write_text(json.dumps({"rules": rules, "groups": groups}))
    return path


EVERY_ROUTE = [
    ("GET", "/v2/"),
    ("GET", "/v2/_catalog"),
    ("GET", "/v2/a/tags/list"),
    ("GET", "/v2/a/manifests/v1"),
    ("HEAD", "/v2/a/manifests/v1"),
    ("PUT", "/v2/a/manifests/v1"),
    ("DELETE", "/v2/a/manifests/v1"),
    ("GET", f"/v2/a/blobs/{DIGEST}"),
    ("HEAD", f"/v2/a/blobs/{DIGEST}"),
    ("DELETE", f"/v2/a/blobs/{DIGEST}"),
    ("POST", "/v2/a/blobs/uploads/"),
    ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}&from=b"),
    ("GET", "/v2/a/blobs/uploads/x"),
    ("PATCH", "/v2/a/blobs/uploads/x"),
    ("PUT", f"/v2/a/blobs/uploads/x?digest={DIGEST}"),
    ("DELETE", "/v2/a/blobs/uploads/x"),
    ("GET", f"/v2/a/referrers/{DIGEST}"),
    ("GET", "/v2/nothing"),
    ("TRACE", "/v2/"),
    ("GET", "/v2/a/manifests/v1/../../../_catalog"),
]


# CVE-2022-31668, CVE-2024-22278, CVE-2020-29662
def test_no_route_is_open_without_credentials(start: Start, tmp_path: Path) -> None:
    registry = start("--htpasswd", str(htpasswd(tmp_path / "users", ann="secret")))
    for method, path in EVERY_ROUTE:
        answer = registry.client.ask(method, path)
        assert answer.status in (401, 400), (method, path, answer.status)
        assert answer.status == 400 or answer.headers["WWW-Authenticate"].startswith("Basic realm="), (method, path)


def test_every_route_of_the_server_is_among_those_tried() -> None:
    from carrack.registry.names import parse_path
    from carrack.registry.server import ROUTES

    tried = set()
    for method, path in EVERY_ROUTE:
        target = parse_path(path.partition("?")[0]) if path.startswith("/v2/") and ".." not in path else None
        if target is not None:
            tried.add((target.kind, method))
    assert set(ROUTES) <= tried


def test_a_user_signs_in_with_the_right_password_only(start: Start, tmp_path: Path) -> None:
    registry = start("--htpasswd", str(htpasswd(tmp_path / "users", ann="secret", bob="other")))
    assert as_user(registry, "ann", "secret").get("/v2/").status == 200
    assert as_user(registry, "ann", "secret").push_image("a", "v1")
    for user, password in (("ann", "other"), ("ann", ""), ("ann", "secre"), ("eve", "secret"), ("", "secret"), ("#", "x")):
        assert as_user(registry, user, password).get("/v2/").status == 401, (user, password)
    for text in ("Basic", "Basic !!!", "Basic YW5u", "Bearer secret", "Digest x"):
        assert Client(registry.ports[0], {"Authorization": text}).get("/v2/").status == 401


def test_a_changed_password_counts_at_once(start: Start, tmp_path: Path) -> None:
    users = htpasswd(tmp_path / "users", ann="old")
    registry = start("--htpasswd", str(users))
    assert as_user(registry, "ann", "old").get("/v2/").status == 200
    htpasswd(users, ann="new password")
    assert as_user(registry, "ann", "old").get("/v2/").status == 401
    assert as_user(registry, "ann", "new password").get("/v2/").status == 200


def test_guessing_passwords_is_slowed_down_but_not_for_those_who_are_in(start: Start, tmp_path: Path) -> None:
    registry = start("--htpasswd", str(htpasswd(tmp_path / "users", ann="secret")))
    ann = as_user(registry, "ann", "secret")
    assert ann.get("/v2/").status == 200
    statuses = [as_user(registry, "ann", f"guess {n}").get("/v2/").status for n in range(25)]
    assert set(statuses[:20]) == {401}
    assert set(statuses[20:]) == {429}
    answer = as_user(registry, "ann", "another guess").get("/v2/")
    assert (answer.code, int(answer.headers["Retry-After"]) > 0) == ("TOOMANYREQUESTS", True)
    assert ann.get("/v2/").status == 200


@pytest.mark.parametrize("line", ["ann:secret", "ann:{SHA}xxx", "ann:$apr1$x$y", "ann", "ann:$2y$05$short"])
def test_weak_or_broken_password_files_are_refused_at_the_start(tmp_path: Path, line: str) -> None:
    (tmp_path / "users").write_text(line + "\n")
    with pytest.raises(RuntimeError, match="htpasswd -B"):
        LiveRegistry(tmp_path / "root", "--htpasswd", str(tmp_path / "users"))


# CVE-2026-4404
def test_there_is_no_default_user(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file"):
        LiveRegistry(tmp_path / "root", "--htpasswd", str(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


# CVE-2019-16097
def test_rules_grant_what_they_say_and_nothing_else(start: Start, tmp_path: Path) -> None:
    users = htpasswd(tmp_path / "users", ann="a", bob="b", eve="e")
    rules = write_rules(
        tmp_path / "rules",
        {"repositories": ["web/**"], "groups": ["web"], "actions": ["pull", "push"]},
        {"repositories": ["web/*"], "users": ["bob"], "actions": ["pull"]},
        {"repositories": ["web/app"], "users": ["ann"], "actions": ["delete"]},
        web=["ann"],
    )
    registry = start("--htpasswd", str(users), "--access-rules", str(rules))
    ann, bob, eve = (as_user(registry, name, name[0]) for name in ("ann", "bob", "eve"))
    ann.push_image("web/app", "v1")
    ann.push_image("web/a/b", "v1")
    assert bob.get("/v2/web/app/manifests/v1").status == 200
    refused = [
        bob.get("/v2/web/a/b/manifests/v1"),  # a star is one component
        bob.ask("POST", "/v2/web/app/blobs/uploads/"),
        bob.delete("/v2/web/app/manifests/v1"),
        ann.delete("/v2/web/a/b/manifests/v1"),
        ann.ask("POST", "/v2/other/blobs/uploads/"),
        eve.get("/v2/web/app/manifests/v1"),
        eve.get("/v2/web/app/tags/list"),
    ]
    assert {(answer.status, answer.code) for answer in refused} == {(403, "DENIED")}
    assert ann.get("/v2/_catalog").json["repositories"] == ["web/a/b", "web/app"]
    assert bob.get("/v2/_catalog").json["repositories"] == ["web/app"]
    assert eve.get("/v2/_catalog").json["repositories"] == []
    assert ann.delete("/v2/web/app/manifests/v1").status == 202


def test_somebody_taken_out_of_a_group_has_lost_its_rights(start: Start, tmp_path: Path) -> None:
    users = htpasswd(tmp_path / "users", ann="a")
    rule: dict[str, object] = {"repositories": ["**"], "groups": ["web"], "actions": ["pull", "push"]}
    rules = write_rules(tmp_path / "rules", rule, web=["ann"])
    registry = start("--htpasswd", str(users), "--access-rules", str(rules))
    ann = as_user(registry, "ann", "a")
    ann.push_image("app", "v1")
    write_rules(rules, rule, web=["somebody.else"])
    assert ann.get("/v2/app/manifests/v1").status == 403


def test_rules_that_break_while_it_runs_close_the_registry(start: Start, tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "rules", {"repositories": ["**"], "anonymous": True, "actions": ["pull"]})
    registry = start("--access-rules", str(rules))
    assert registry.client.get("/v2/a/tags/list").status == 404
    rules.write_text("{")
    assert registry.client.get("/v2/a/tags/list").status == 503
    rules.unlink()
    assert registry.client.get("/v2/a/tags/list").status == 503


def test_anonymous_pull_is_a_rule_and_ends_where_it_ends(start: Start, tmp_path: Path) -> None:
    users = htpasswd(tmp_path / "users", ann="a")
    rules = write_rules(
        tmp_path / "rules",
        {"repositories": ["**"], "users": ["@all"], "actions": ["pull", "push", "delete"]},
        {"repositories": ["public/*"], "anonymous": True, "actions": ["pull"]},
    )
    registry = start("--htpasswd", str(users), "--access-rules", str(rules))
    ann, nobody = as_user(registry, "ann", "a"), registry.client
    ann.push_image("public/app", "v1")
    secret = ann.push_blob("private/app", b"secret")
    assert nobody.get("/v2/public/app/manifests/v1").status == 200
    assert as_user(registry, "", "").get("/v2/public/app/manifests/v1").status == 200
    assert nobody.get("/v2/private/app/tags/list").status == 401
    assert nobody.ask("POST", "/v2/public/app/blobs/uploads/").status == 401
    assert nobody.get(f"/v2/public/app/blobs/{secret}").status == 404
    assert nobody.get("/v2/_catalog").status == 401


def test_who_may_create_may_not_overwrite(start: Start, tmp_path: Path) -> None:
    """CVE-2026-31801: an update is not a creation."""
    users = htpasswd(tmp_path / "users", ci="c")
    rules = write_rules(tmp_path / "rules", {"repositories": ["**"], "users": ["ci"], "actions": ["pull", "create"]})
    registry = start("--htpasswd", str(users), "--access-rules", str(rules))
    ci = as_user(registry, "ci", "c")
    first = ci.push_image("app", "v1", "first")
    assert ci.push_image("app", "v1", "first") == first
    answer = ci.put_manifest("app", "v1", ci.image("app", "second"))
    assert (answer.status, answer.code) == (403, "DENIED")
    digest = sha256(json.dumps(ci.image("app", "second")).encode())
    answer = ci.ask(
        "PUT",
        f"/v2/app/manifests/{digest}?tag=new&tag=v1",
        json.dumps(ci.image("app", "second")),
        Content_Type="application/vnd.oci.image.manifest.v1+json",
    )
    assert answer.status == 403
    assert ci.get("/v2/app/tags/list").json["tags"] == ["v1"]
    assert ci.head("/v2/app/manifests/v1").headers["Docker-Content-Digest"] == first


@pytest.mark.parametrize(
    "rule",
    [
        {"repositories": ["**"], "anonymous": True, "actions": ["push"]},
        {"repositories": ["**"], "users": ["a"], "actions": ["admin"]},
        {"repositories": ["**"], "groups": ["nobody"], "actions": ["pull"]},
        {"repositories": ["A*"], "users": ["a"], "actions": ["pull"]},
        {"repositories": ["**"], "user": ["a"], "actions": ["pull"]},
        {"actions": ["pull"]},
    ],
)
def test_rules_that_cannot_be_meant_stop_the_start(tmp_path: Path, rule: dict[str, object]) -> None:
    with pytest.raises(RuntimeError, match="rules: "):
        LiveRegistry(tmp_path / "root", "--access-rules", str(write_rules(tmp_path / "rules", rule)))


def test_deleting_switched_off_is_off_for_everything(start: Start, tmp_path: Path) -> None:
    """CVE-2026-41888: tags were still deleted."""
    registry = start("--no-delete")
    digest = registry.client.push_image("app", "v1")
    blob = registry.client.push_blob("app", b"x")
    for last in ("manifests/v1", f"manifests/{digest}", f"blobs/{blob}"):
        answer = registry.client.delete(f"/v2/app/{last}")
        assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert registry.client.get("/v2/app/manifests/v1").status == 200
    assert registry.client.delete(registry.client.start_upload("app")).status == 204


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_strangers_are_not_let_near_an_open_registry(tmp_path: Path, address: str) -> None:
    with pytest.raises(RuntimeError, match="without users and TLS"):
        LiveRegistry(tmp_path / "root", "--listen", address)
    users = htpasswd(tmp_path / "users", ann="a")
    with pytest.raises(RuntimeError, match="without users and TLS"):
        LiveRegistry(tmp_path / "root", "--listen", address, "--htpasswd", str(users))


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, by the machine's own openssl."""
    key, chain = directory / "key.pem", directory / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


def test_over_tls_blobs_of_any_size_go_both_ways(start: Start, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    users = htpasswd(tmp_path / "users", ann="a")
    registry = start("--tls-cert", str(chain), "--tls-key", str(key), "--htpasswd", str(users), "--listen", "0.0.0.0:0")
    context = ssl.create_default_context(cafile=str(chain))
    client = Client(registry.ports[0], as_user(registry, "ann", "a").headers, tls=context)
    content = bytes(range(256)) * 20_000
    digest = client.push_blob("app", content)
    assert client.get(f"/v2/app/blobs/{digest}").body == content
    assert client.get(f"/v2/app/blobs/{digest}", Range="bytes=1-3").body == b"\1\2\3"


def test_a_renewed_certificate_is_shown_after_sighup(start: Start, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    registry = start("--tls-cert", str(chain), "--tls-key", str(key))
    address = ("127.0.0.1", registry.ports[0])
    assert ssl.get_server_certificate(address).strip() == chain.read_text().strip()
    certificate(tmp_path)
    registry.process.send_signal(signal.SIGHUP)
    until(lambda: ssl.get_server_certificate(address).strip() == chain.read_text().strip(), "the new certificate")
    key.write_text("nonsense")
    registry.process.send_signal(signal.SIGHUP)
    until(lambda: "the old certificate stays" in registry.log.read_text(), "the refusal in the log")
    assert ssl.get_server_certificate(address).strip() == chain.read_text().strip()


def test_plain_http_is_not_served_where_tls_is(start: Start, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    registry = start("--tls-cert", str(chain), "--tls-key", str(key))
    with pytest.raises((OSError, http.client.HTTPException)):
        registry.client.get("/v2/")


def test_wrong_options_are_told_in_one_line(tmp_path: Path) -> None:
    for options in (
        ["--listen", "nonsense"],
        ["--listen", "127.0.0.1:99999"],
        ["--tls-cert", "x"],
        ["--token-realm", "x"],
        ["--config", str(tmp_path / "absent.json")],
        ["--max-blob-bytes", "-1"],
        ["--root", "/proc/nowhere"],
    ):
        command = [sys.executable, "-m", "carrack.registry", "serve", "--root", str(tmp_path / "root"), *options]
        done = subprocess.run(command, check=False, capture_output=True, timeout=20)
        assert done.returncode == 2, options
        assert done.stderr.decode().startswith("carrack registry: "), options
        assert done.stderr.count(b"\n") == 1, options

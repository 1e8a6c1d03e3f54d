"""Bearer tokens: believed only when signed by a configured key, for this registry, now, and only for what they grant."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.registry import tokens
from tests.contract.registry.live_registry import Client, LiveRegistry
from tests.contract.registry.tokens import PrivateKey, claims, jwk, new_key, pem, segment, service_options, token

KEY = new_key("ES256")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    directory = tmp_path_factory.mktemp("tokens")
    (directory / "keys.json").write_text(json.dumps({"keys": [jwk(KEY, kid="one", use="sig", alg="ES256")]}))
    running = LiveRegistry(directory / "root", *service_options(directory / "keys.json"))
    yield running
    running.close()


def bearer(registry: LiveRegistry, text: str) -> Client:
    return Client(registry.ports[0], {"Authorization": f"Bearer {text}"})


def granted(registry: LiveRegistry, *grants: tuple[str, str], **fields: object) -> Client:
    return bearer(registry, token(KEY, "ES256", claims(*grants, **fields), kid="one"))


def is_believed(registry: LiveRegistry, text: str) -> bool:
    answer = bearer(registry, text).get("/v2/")
    assert answer.status in (200, 401)
    return answer.status == 200


def test_without_a_token_the_way_to_one_is_told(registry: LiveRegistry) -> None:
    answer = registry.client.get("/v2/")
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == f'Bearer realm="{tokens.REALM}",service="{tokens.SERVICE}"'
    answer = registry.client.get("/v2/team/app/manifests/v1")
    assert answer.headers["WWW-Authenticate"].endswith('scope="repository:team/app:pull"')
    answer = registry.client.ask("POST", "/v2/team/app/blobs/uploads/")
    assert answer.headers["WWW-Authenticate"].endswith('scope="repository:team/app:push"')


def test_a_token_opens_what_it_grants_and_nothing_else(registry: LiveRegistry) -> None:
    granted(registry, ("team/app", "pull,push")).push_image("team/app", "v1")
    reader = granted(registry, ("team/app", "pull"))
    assert reader.get("/v2/team/app/manifests/v1").status == 200
    for answer in (
        reader.ask("POST", "/v2/team/app/blobs/uploads/"),
        reader.delete("/v2/team/app/manifests/v1"),
        reader.get("/v2/team/apps/tags/list"),
        reader.get("/v2/team/tags/list"),
    ):
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_deleting_takes_a_right_of_its_own(registry: LiveRegistry) -> None:
    granted(registry, ("team/gone", "pull,push")).push_image("team/gone", "v1")
    assert granted(registry, ("team/gone", "pull,push")).delete("/v2/team/gone/manifests/v1").status == 401
    assert granted(registry, ("team/gone", "delete")).delete("/v2/team/gone/manifests/v1").status == 202


def test_the_right_to_create_is_no_right_to_overwrite(registry: LiveRegistry) -> None:
    creator = granted(registry, ("team/once", "pull,create"))
    first = creator.push_image("team/once", "v1", "first")
    answer = creator.put_manifest("team/once", "v1", creator.image("team/once", "second"))
    assert (answer.status, answer.code) == (403, "DENIED")
    assert creator.head("/v2/team/once/manifests/v1").headers["Docker-Content-Digest"] == first
    assert creator.push_image("team/once", "v2", "second")


def test_a_mount_needs_the_right_to_pull_from_the_source(registry: LiveRegistry) -> None:
    digest = granted(registry, ("team/secret", "pull,push")).push_blob("team/secret", b"secret")
    query = f"mount={digest}&from=team/secret"
    only_target = granted(registry, ("team/mine", "pull,push"))
    assert only_target.ask("POST", f"/v2/team/mine/blobs/uploads/?{query}").status == 202
    assert only_target.head(f"/v2/team/mine/blobs/{digest}").status == 404
    both = granted(registry, ("team/mine", "pull,push"), ("team/secret", "pull"))
    assert both.ask("POST", f"/v2/team/mine/blobs/uploads/?{query}").status == 201


def test_the_catalog_needs_its_own_grant(registry: LiveRegistry) -> None:
    assert granted(registry, ("team/app", "pull")).get("/v2/_catalog").status == 401
    access = [{"type": "registry", "name": "catalog", "actions": ["*"]}]
    assert granted(registry, access=access).get("/v2/_catalog").status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "someone.else"},
        {"aud": "another.registry"},
        {"aud": ["a", "b"]},
        {"aud": []},
        {"exp": time.time() - 3600},
        {"nbf": time.time() + 3600},
        {"exp": "tomorrow"},
        {"exp": None},
        {"access": "everything"},
    ],
    ids=["issuer", "audience", "audiences", "no audience", "expired", "not yet", "no time", "null time", "no list"],
)
def test_a_token_for_somebody_else_or_another_time_is_refused(registry: LiveRegistry, change: dict[str, object]) -> None:
    assert is_believed(registry, token(KEY, "ES256", claims()))
    assert not is_believed(registry, token(KEY, "ES256", {**claims(), **change}))


@pytest.mark.parametrize("claim", ["iss", "aud", "exp"])
def test_a_token_that_leaves_a_claim_out_is_refused(registry: LiveRegistry, claim: str) -> None:
    said = claims()
    del said[claim]
    assert not is_believed(registry, token(KEY, "ES256", said))


def test_a_key_that_a_token_brings_along_counts_for_nothing(registry: LiveRegistry) -> None:
    """CVE-2025-24976: the attacker signs with a key of their own and puts it into the header."""
    attacker = new_key("ES256")
    certificate = segment(pem(attacker))
    for header in (
        {"jwk": jwk(attacker)},
        {"jwk": jwk(attacker, kid="one"), "kid": "one"},
        {"x5c": [certificate]},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/keys"},
        {"kid": "../../../../dev/null"},
        {},
    ):
        assert not is_believed(registry, token(attacker, "ES256", claims(("team/app", "pull")), **header)), header


def test_algorithms_that_prove_nothing_are_refused(registry: LiveRegistry) -> None:
    said = segment(json.dumps(claims()).encode())
    for name in ("none", "None", "", "HS256", "ES384", "RS256", "EdDSA"):
        signed = segment(json.dumps({"alg": name}).encode()) + "." + said
        secret = hmac.digest(pem(KEY), signed.encode(), "sha256")
        for signature in ("", segment(secret), segment(tokens.sign(KEY, "ES256", signed.encode()))):
            assert not is_believed(registry, f"{signed}.{signature}"), name


def test_a_token_changed_after_signing_is_refused(registry: LiveRegistry) -> None:
    good = token(KEY, "ES256", claims(("team/app", "pull")))
    head, _, signature = good.split(".")
    assert is_believed(registry, good)
    assert not is_believed(registry, f"{head}.{segment(json.dumps(claims(('team/app', 'delete'))).encode())}.{signature}")
    assert not is_believed(registry, good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "....", "x" * 40_000, "e30.e30.", "e30=.e30=.e30=", "é.é.é"])
def test_what_is_no_token_is_refused(registry: LiveRegistry, text: str) -> None:
    answer = Client(registry.ports[0], {"Authorization": f"Bearer {text}".encode().decode("latin-1")}).get("/v2/")
    assert answer.status == 401


def test_a_password_is_no_token(registry: LiveRegistry) -> None:
    assert Client(registry.ports[0], {"Authorization": "Basic YW5uOnNlY3JldA=="}).get("/v2/").status == 401


def test_a_token_with_the_wrong_key_id_is_refused(registry: LiveRegistry) -> None:
    assert not is_believed(registry, token(KEY, "ES256", claims(), kid="two"))


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "PS256", "EdDSA"])
def test_each_kind_of_key_signs(tmp_path: Path, algorithm: str) -> None:
    from carrack.registry.auth.signatures import read_keys

    key: PrivateKey = new_key(algorithm)
    other: PrivateKey = new_key(algorithm)
    signature = tokens.sign(key, algorithm, b"text")
    for content in (pem(key), json.dumps({"keys": [jwk(key, kid="k")]}).encode()):
        [configured] = read_keys(content)
        assert configured.verifies(algorithm, b"text", signature)
        assert not configured.verifies(algorithm, b"other", signature)
        assert not configured.verifies(algorithm, b"text", tokens.sign(other, algorithm, b"text"))
        assert not configured.verifies(algorithm, b"text", b"")


def test_keys_taken_away_end_the_trust_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(pem(KEY))
    registry = LiveRegistry(tmp_path / "root", *service_options(file))
    try:
        text = token(KEY, "ES256", claims())
        assert is_believed(registry, text)
        file.write_bytes(pem(new_key("ES256")))
        assert not is_believed(registry, text)
    finally:
        registry.close()

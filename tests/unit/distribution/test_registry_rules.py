"""distribution: where a registry is, whose token server may see a password, what a login header says."""

from __future__ import annotations

import base64
import json
import re

import pytest

from carrack.distribution import hosts
from carrack.distribution.credentials import Credentials, decode_header
from carrack.distribution.endpoints import Endpoint, RegistryOptions
from carrack.distribution.tokens import may_have_credentials, parse_challenge
from carrack.distribution.transport import redacted
from carrack.errors import InvalidParameter


def urls(options: RegistryOptions, domain: str, *, push: bool = False) -> list[str]:
    places = options.own(domain) if push else options.before(domain) + options.own(domain)
    return [endpoint.url for endpoint in places]


def test_docker_hub_is_asked_by_tls_at_its_own_host() -> None:
    assert urls(RegistryOptions(), "docker.io") == ["https://registry-1.docker.io"]


def test_mirrors_come_before_docker_hub_for_pulls_only() -> None:
    options = RegistryOptions(mirrors=("http://mirror.example:5000/",))
    assert urls(options, "docker.io") == ["http://mirror.example:5000", "https://registry-1.docker.io"]
    assert urls(options, "docker.io", push=True) == ["https://registry-1.docker.io"]
    assert urls(options, "registry.invalid") == ["https://registry.invalid"]


@pytest.mark.parametrize("domain", ["localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"])
def test_this_machine_may_do_without_tls(domain: str) -> None:
    assert urls(RegistryOptions(), domain) == [f"https://{domain}", f"http://{domain}"]


@pytest.mark.parametrize("insecure", ["10.0.0.5:5000", "10.0.0.5", "10.0.0.0/8"])
def test_a_registry_named_insecure_may_do_without_tls(insecure: str) -> None:
    assert urls(RegistryOptions(insecure=(insecure,)), "10.0.0.5:5000")[1:] == ["http://10.0.0.5:5000"]


def test_any_other_registry_may_not() -> None:
    assert urls(RegistryOptions(insecure=("10.0.0.0/8",)), "192.0.2.1:5000") == ["https://192.0.2.1:5000"]


@pytest.mark.parametrize(
    ("registry", "realm", "trusted"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://registry.example.com", "https://registry.example.com/token", True),
        ("https://registry.example.com:5000", "https://registry.example.com/token", True),
        ("https://registry.example.com", "https://example.com/token", True),
        ("https://registry.example.co.uk", "https://auth.example.co.uk/token", True),
        ("http://localhost:5000", "http://localhost:5001/token", True),
        ("https://registry.example.com", "https://evil.com/token", False),
        ("https://registry.example.com", "http://registry.example.com/token", False),
        ("https://registry.example.co.uk", "https://evil.co.uk/token", False),
        ("https://example.co.uk", "https://evil.co.uk/token", False),
        ("https://registry.example.com", "https://example.com.evil.net/token", False),
        ("https://registry.example.com", "https://registry.example.com@evil.com/token", False),
        ("https://192.0.2.1", "https://192.0.2.2/token", False),
        ("http://localhost:5000", "http://evil.com/token", False),
    ],
)
def test_a_password_is_shown_to_the_registrys_own_domain_only(registry: str, realm: str, trusted: bool) -> None:
    scheme, _, host = registry.partition("://")
    assert may_have_credentials(Endpoint(scheme, host), realm) is trusted


def test_a_challenge_is_read_with_its_quotes() -> None:
    challenge = parse_challenge('Bearer realm="https://a/token",service="a, b",scope="repository:x:pull,push"')
    assert challenge.scheme == "bearer"
    assert challenge.parameters == {"realm": "https://a/token", "service": "a, b", "scope": "repository:x:pull,push"}
    assert parse_challenge("Basic realm=simple").parameters == {"realm": "simple"}


def test_a_login_header_is_read_with_and_without_padding() -> None:
    header = base64.urlsafe_b64encode(json.dumps({"username": "me", "password": "p?>"}).encode()).decode()
    assert decode_header(header) == decode_header(header.rstrip("=")) == Credentials("me", "p?>")
    assert not decode_header("")


@pytest.mark.parametrize("header", ["%%%", base64.b64encode(b"[1]").decode(), base64.b64encode(b"{").decode()])
def test_a_login_header_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(InvalidParameter):
        decode_header(header)


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(Credentials("me", "hidden", "hidden", "hidden"))
    assert redacted("https://me:hidden@host/path?signature=hidden") == "https://host/path"


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"registry.corp": {"mirror": []}}, "mirror"),
        ({"registry.corp": {"mirrors": ["ftp://x"]}}, "ftp://x"),
        ({"registry.corp": {"mirrors": ["https://x/path"]}}, "https://x/path"),
        ({"registry.corp": {"mirrors": ["https://me:secret@x"]}}, "invalid mirror"),
        ({"registry.corp/team": {}}, "registry.corp/team"),
        ({"registry.corp": {"ca": "/nowhere/ca.pem"}}, "/nowhere/ca.pem"),
        ({"registry.corp": {"client-cert": "/etc/hostname"}}, "client-key"),
        ({"registry.corp": {"rewrite": {"(": "x"}}}, "rewrite"),
        ({"registry.corp": {"rewrite": {"^(a)$": "$2"}}}, "no group $2"),
        ({"registry.corp": {"insecure": "yes"}}, "bool"),
        ([], "object"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(document: object, named: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(named)):
        hosts.parse(document)


def test_the_first_rule_that_matches_names_the_repository() -> None:
    rules = {"^library/(.*)": "hub/$1", "(.*)": "rest/${1}"}
    assert hosts.rewritten(rules, "library/nginx") == "hub/nginx"
    assert hosts.rewritten(rules, "team/app") == "rest/team/app"
    assert hosts.rewritten({}, "team/app") == "team/app"

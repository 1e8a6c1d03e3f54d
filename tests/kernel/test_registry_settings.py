"""What daemon.json says of single registries, seen at the registry (root: layers are unpacked)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from carrack.distribution import hosts
from carrack.errors import CarrackError, NotFound, Unavailable
from carrack.images.registries import Puller
from tests.rig.certificates import Authority, Pair
from tests.rig.house import House
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed, entry, tar

pytestmark = pytest.mark.root

IMAGE = Packed([tar(entry("a", b"content"))]).gzipped()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "house").mkdir()
    made = House(tmp_path / "house")
    yield made
    made.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def configure(house: House, document: object) -> None:
    house.puller.close()
    house.puller = Puller(house.images, hosts=hosts_document(document))


def hosts_document(document: object) -> dict[str, object]:
    assert isinstance(document, dict)
    return document


def speaking_tls(own: Pair, clients: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.certificate, own.key)
    if clients is not None:
        context.load_verify_locations(clients.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_any_registry_may_have_mirrors_under_other_names(house: House, stack: ExitStack) -> None:
    mirror = stack.enter_context(Registry().serving())
    mirror.put("cache/corp/team/app", "1", IMAGE)
    rewrite = {"^nothing$": "x", "^(team)/(.*)$": "cache/corp/$1/${2}"}
    configure(house, {"registry.invalid": {"mirrors": [{"url": f"http://{mirror.host}", "rewrite": rewrite}]}})
    house.pull("registry.invalid/team/app", "1")
    assert house.names() == ["registry.invalid/team/app:1"]


def test_a_mirror_that_lacks_an_image_sends_on_to_the_next_and_at_last_to_the_registry(house: House, stack: ExitStack) -> None:
    empty, second, own = (stack.enter_context(Registry().serving()) for _ in range(3))
    second.put("in-mirror", "1", IMAGE)
    own.put("in-registry", "1", Packed([tar(entry("b", b"other"))]).gzipped())
    configure(house, {own.host: {"mirrors": [f"http://{empty.host}", f"http://{second.host}"]}})
    for name in ("in-mirror", "in-registry", "in-mirror"):  # what is known of the registry itself does not hide its mirrors
        house.pull(f"{own.host}/{name}", "1")
    assert (own.requests["GET", "manifests"], second.requests["GET", "manifests"]) == (1, 3)


def test_a_push_goes_past_the_mirrors(house: House, stack: ExitStack) -> None:
    mirror, own = (stack.enter_context(Registry().serving()) for _ in range(2))
    mirror.put("app", "1", IMAGE)
    configure(house, {own.host: {"mirrors": [f"http://{mirror.host}"]}})
    house.pull(f"{own.host}/app", "1")
    asked = dict(mirror.requests)
    house.push(f"{own.host}/app", "1")
    assert ("app", "1") in own.manifests
    assert dict(mirror.requests) == asked


def test_a_registry_is_believed_by_the_authority_named_for_it(house: House, stack: ExitStack, authority: Authority) -> None:
    registry = stack.enter_context(Registry().serving(speaking_tls(authority.issue("server"))))
    registry.put("app", "1", IMAGE)
    address = registry.host.replace("localhost", "127.0.0.1")
    configure(house, {address: {"ca": str(authority.certificate)}})
    house.pull(f"{address}/app", "1")
    stranger = Authority(authority.certificate.parent / "other", "stranger")
    configure(house, {address: {"ca": str(stranger.certificate)}})
    with pytest.raises(CarrackError, match="certificate verify failed"):
        house.pull(f"{address}/app", "1")


def test_a_registry_that_asks_who_we_are_is_shown_our_certificate(house: House, stack: ExitStack, authority: Authority) -> None:
    registry = stack.enter_context(Registry().serving(speaking_tls(authority.issue("server"), authority)))
    registry.put("app", "1", IMAGE)
    own = authority.issue("client")
    settings = {"ca": str(authority.certificate), "client-cert": str(own.certificate), "client-key": str(own.key)}
    configure(house, {registry.host: {"ca": str(authority.certificate)}})
    with pytest.raises(Unavailable):
        house.pull(f"{registry.host}/app", "1")
    configure(house, {registry.host: settings})
    house.pull(f"{registry.host}/app", "1")


def test_certs_d_is_read_as_docker_reads_it(
    house: House, stack: ExitStack, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = stack.enter_context(Registry().serving(speaking_tls(authority.issue("server"), authority)))
    registry.put("app", "1", IMAGE)
    monkeypatch.setattr(hosts, "CERTIFICATE_DIRECTORIES", (tmp_path / "missing", tmp_path / "certs.d"))
    place = tmp_path / "certs.d" / registry.host
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(authority.certificate.read_bytes())
    own = authority.issue("client")
    (place / "client.cert").write_bytes(own.certificate.read_bytes())
    (place / "client.key").write_bytes(own.key.read_bytes())
    house.pull(f"{registry.host}/app", "1")


def test_a_host_named_insecure_may_do_without_tls_and_no_other(house: House, stack: ExitStack) -> None:
    registry = stack.enter_context(Registry().serving())
    registry.put("app", "1", IMAGE)
    configure(house, {"registry.invalid": {"mirrors": [f"http://{registry.host}"], "insecure": True}})
    house.pull("registry.invalid/app", "1")
    with pytest.raises((Unavailable, NotFound)):
        house.pull("another.invalid/app", "1")


def test_names_are_searched_in_the_catalog_of_a_registry_without_an_index(house: House, stack: ExitStack) -> None:
    registry = stack.enter_context(Registry(search=False).serving())
    for name in ("team/web", "team/api", "tools/webhook"):
        registry.put(name, "1", IMAGE)
    found = house.puller.search(f"{registry.host}/web", 25, "")
    assert [result.name for result in found] == ["team/web", "tools/webhook"]
    assert [result.name for result in house.puller.search(f"{registry.host}/web", 1, "")] == ["team/web"]

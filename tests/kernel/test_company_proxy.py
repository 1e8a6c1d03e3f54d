"""A pull from inside a company: by way of a proxy with a password, from a registry whose certificate the company itself has signed
(root: layers are unpacked)."""

from __future__ import annotations

import gc
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from carrack.errors import CarrackError
from carrack.images.registries import Puller
from tests.rig.certificates import Authority
from tests.rig.company_proxy import CompanyProxy
from tests.rig.house import House
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed, entry, tar

pytestmark = pytest.mark.root
NAME = "registry.company.example"
IMAGE = Packed([tar(entry("a", b"content"))]).gzipped()


class Company:
    """A registry that only its proxy can find, and an authority that nobody else knows."""

    def __init__(self, folder: Path, stack: ExitStack, *, tls: bool) -> None:
        self.authority = Authority(folder / "authority")
        context = None
        if tls:
            pair = self.authority.issue("server", host=NAME)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(pair.certificate, pair.key)
        self.registry = stack.enter_context(Registry().serving(context))
        self.registry.put("app", "1", IMAGE)
        address = self.registry.host.replace("localhost", "127.0.0.1")
        self.proxy = stack.enter_context(CompanyProxy({NAME: address}, "ann:s@cret").serving())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture
def house(tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> House:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "house").mkdir()
    made = House(tmp_path / "house")
    stack.callback(made.close)
    return made


def test_the_proxy_is_told_who_asks_and_the_system_whom_to_believe(
    house: House, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(tmp_path, stack, tls=True)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:s%40cret@{company.proxy.address}")
    monkeypatch.setenv("SSL_CERT_FILE", str(company.authority.certificate))
    house.pull(f"{NAME}/app", "1")
    assert house.names() == [f"{NAME}/app:1"]
    assert set(company.proxy.asked) == {f"CONNECT {NAME}:443"}


def test_an_authority_that_is_not_known_yet_is_one_sentence_with_where_to_put_it(
    house: House, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(tmp_path, stack, tls=True)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:s%40cret@{company.proxy.address}")
    with pytest.raises(CarrackError, match=rf"certificate verify failed.*/etc/carrack/certs\.d/{NAME}/ca\.crt") as refused:
        house.pull(f"{NAME}/app", "1")
    assert "\n" not in refused.value.message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # http.client before 3.12 forgets the proxy's answer
def test_a_wrong_password_is_one_sentence_without_the_password(
    house: House, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(tmp_path, stack, tls=True)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:wrong-word@{company.proxy.address}")
    expected = f"407 Proxy Authentication Required.*by way of the proxy http://{company.proxy.address}"
    with pytest.raises(CarrackError, match=expected) as refused:
        house.pull(f"{NAME}/app", "1")
    assert "wrong-word" not in refused.value.message
    del refused
    gc.collect()


def test_a_registry_without_tls_is_asked_for_by_its_whole_address(
    house: House, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(tmp_path, stack, tls=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:s%40cret@{company.proxy.address}")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # tried first, as for each insecure registry
    house.puller.close()
    house.puller = Puller(house.images, insecure=(NAME,))
    house.pull(f"{NAME}/app", "1")
    assert house.names() == [f"{NAME}/app:1"]
    assert company.proxy.asked[0] == f"GET http://{NAME}/v2/app/manifests/1"


@pytest.mark.parametrize("name", ["10.1.2.3:5000", "inside.company.example", "127.0.0.1:1", "localhost:1"])
def test_what_no_proxy_names_goes_straight(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from carrack.distribution.proxies import proxy_for

    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8, .company.example")
    assert proxy_for("https", name) is None
    assert proxy_for("https", "elsewhere.example") is not None
    assert proxy_for("https", "11.0.0.1") is not None

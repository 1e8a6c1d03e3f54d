"""`carrack system certs`: what it makes, what it keeps, what it makes again."""

from pathlib import Path

import pytest
from cryptography import x509

from carrack.errors import InvalidParameter, SystemFailure
from carrack.setup.certificates import Wanted, make


def test_the_second_run_writes_nothing(tmp_path: Path) -> None:
    wanted = Wanted(tmp_path / "tls", ["build.example", "10.1.2.3"])
    assert len(make(wanted).written) == 7
    assert make(wanted).written == ()


def test_a_new_name_or_a_near_end_renews_the_servers_certificate_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make(Wanted(folder, ["one"]))
    written = make(Wanted(folder, ["one", "two"])).written
    assert {path.name for path in written} == {"server-cert.pem", "server-key.pem"}
    make(Wanted(folder, ["one", "two"], ("brief",), days=5))
    assert {path.name for path in make(Wanted(folder, ["one", "two"], ("brief",))).written} == {"cert.pem", "key.pem"}


def test_what_another_authority_signed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make(Wanted(folder, ["one"]))
    (folder / "ca.pem").unlink()
    assert len(make(Wanted(folder, ["one"])).written) == 7


def test_the_certificate_names_hosts_and_addresses(tmp_path: Path) -> None:
    made = make(Wanted(tmp_path / "tls", ["build.example", "10.1.2.3", "::1"]))
    certificate = x509.load_pem_x509_certificate(made.server_certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["build.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3", "::1"]


def test_foreign_files_are_not_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "ca.pem").write_text("my notes")
    (folder / "ca-key.pem").write_text("more of them")
    with pytest.raises(SystemFailure, match="move them away first"):
        make(Wanted(folder, ["one"]))
    assert (folder / "ca.pem").read_text() == "my notes"


@pytest.mark.parametrize("client", ["", "../up", ".hidden"])
def test_a_client_cannot_be_a_path(tmp_path: Path, client: str) -> None:
    with pytest.raises(InvalidParameter):
        make(Wanted(tmp_path / "tls", ["one"], (client,)))

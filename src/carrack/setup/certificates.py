"""`carrack system certs`: a CA, a daemon's certificate and a client's, for TCP with mutual TLS.

Written again only where something is missing, does not cover what is asked, or ends within a month: run it as often as you like.
Keys are readable by root alone; the client's folder is what DOCKER_CERT_PATH and `docker context` take.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from carrack.errors import InvalidParameter, SystemFailure

DEFAULT_DAYS = 825
_CA_DAYS = 3650
_RENEW_DAYS = 30
_CLOCKS_DIFFER = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be there."""

    folder: Path
    hosts: Sequence[str]
    """Names and addresses by which clients reach the daemon."""
    clients: Sequence[str] = ("client",)
    days: int = DEFAULT_DAYS


@dataclass(frozen=True, slots=True)
class Made:
    """The files, and which of them were written now."""

    ca: Path
    server_certificate: Path
    server_key: Path
    clients: tuple[Path, ...]
    """A folder each: ca.pem, cert.pem, key.pem."""
    written: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Signed:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def default_hosts() -> list[str]:
    """This machine's names and loopback."""
    names = [socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(name for name in names if name))


def make(wanted: Wanted) -> Made:
    """Write what is missing. Raises InvalidParameter for a name that is none, SystemFailure when a file cannot be had."""
    names = [_general_name(host) for host in wanted.hosts]
    for client in wanted.clients:
        if not client or "/" in client or client.startswith("."):
            raise InvalidParameter(f"invalid name of a client: {client!r}")
    folder = wanted.folder
    written: list[Path] = []
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        ca = _keep_or_sign(folder / "ca.pem", folder / "ca-key.pem", None, "Carrack CA", [], None, _CA_DAYS, written)
        server = folder / "server-cert.pem", folder / "server-key.pem"
        _keep_or_sign(*server, ca, wanted.hosts[0], names, ExtendedKeyUsageOID.SERVER_AUTH, wanted.days, written)
        folders = tuple(folder / name for name in wanted.clients)
        for each in folders:
            each.mkdir(mode=0o700, exist_ok=True)
            use = ExtendedKeyUsageOID.CLIENT_AUTH
            _keep_or_sign(each / "cert.pem", each / "key.pem", ca, each.name, [], use, wanted.days, written)
            content = (folder / "ca.pem").read_bytes()
            if not (each / "ca.pem").exists() or (each / "ca.pem").read_bytes() != content:
                _write(each / "ca.pem", content, 0o644, written)
    except OSError as error:
        raise SystemFailure(f"cannot write {error.filename}: {(error.strerror or '').lower()}") from error
    return Made(folder / "ca.pem", *server, folders, tuple(written))


def _keep_or_sign(
    path: Path,
    key_path: Path,
    ca: _Signed | None,
    name: str,
    names: Sequence[x509.GeneralName],
    use: x509.ObjectIdentifier | None,
    days: int,
    written: list[Path],
) -> _Signed:
    """The pair that is there, when it still does; else a new one, signed by `ca` (by itself without one)."""
    found = _read(path, key_path)
    if found is not None and _will_do(found, ca, names):
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    issuer = ca.certificate.subject if ca else subject
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - _CLOCKS_DIFFER).not_valid_after(now + datetime.timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca is None, path_length=0 if ca is None else None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = (ca.key if ca else key).public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    certificate = builder.sign(ca.key if ca else key, hashes.SHA256())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(key_path, secret, 0o600, written)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644, written)
    return _Signed(certificate, key)


def _read(path: Path, key_path: Path) -> _Signed | None:
    """What is there; None when nothing is. Raises SystemFailure for files that are no certificate and key of one kind."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise SystemFailure(f"{path} and {key_path} are no certificate and key: move them away first") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SystemFailure(f"{key_path} was not made by this command: move it away first")
    return _Signed(certificate, key)


def _will_do(found: _Signed, ca: _Signed | None, names: Sequence[x509.GeneralName]) -> bool:
    left = found.certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left < datetime.timedelta(days=_RENEW_DAYS) or found.certificate.public_key() != found.key.public_key():
        return False
    if ca is not None:
        try:
            found.certificate.verify_directly_issued_by(ca.certificate)
        except Exception:  # whatever is wrong with the signature: it will not do  # noqa: BLE001
            return False
    if not names:
        return True
    try:
        covered = found.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(names) <= set(covered)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode("ascii"))
    except (UnicodeError, ValueError) as error:
        raise InvalidParameter(f"{host!r} is neither a name nor an address") from error


def _write(path: Path, content: bytes, mode: int, written: list[Path]) -> None:
    """In one step, never readable by more than `mode` says."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    scratch.replace(path)
    written.append(path)

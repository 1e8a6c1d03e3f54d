"""What a registry server is told: a JSON file, flags over it, and the rules that hold between them.

The defaults are safe by themselves: loopback, and every address only when users and TLS are set.
"""

from __future__ import annotations

import ipaddress
import os

import msgspec

from carrack.errors import InvalidParameter
from carrack.registry.collect import CollectionRules

DEFAULT_ROOT = "/var/lib/carrack-registry"
DEFAULT_PORT = 5000


class TlsConfig(msgspec.Struct, forbid_unknown_fields=True):
    """A certificate chain and its key, PEM; `client_ca` asks every client for a certificate of that authority."""

    certificate: str
    key: str
    client_ca: str = ""


class TokenConfig(msgspec.Struct, forbid_unknown_fields=True):
    """Bearer tokens of a token service (distribution's token specification)."""

    realm: str
    service: str
    issuer: str
    keys: list[str]


class GarbageConfig(msgspec.Struct, forbid_unknown_fields=True):
    """When collection runs by itself, and what it may take. An interval of 0: only when asked."""

    interval_seconds: int = 86_400
    rules: CollectionRules = CollectionRules()


class RegistryConfig(msgspec.Struct, forbid_unknown_fields=True):
    """The whole configuration. Sizes in bytes, times in seconds."""

    root: str = DEFAULT_ROOT
    listen: list[str] = []
    metrics_listen: str = ""
    insecure: bool = False
    """Permit a listener that others can reach without users or without TLS."""
    htpasswd: str = ""
    realm: str = "Carrack registry"
    token: TokenConfig | None = None
    access_rules: str = ""
    tls: TlsConfig | None = None
    delete: bool = True
    sparse_indexes: bool = False
    max_blob_bytes: int = 0
    max_connections: int = 4096
    access_log: str = "-"
    """A path, `-` for standard output, empty for none."""
    garbage: GarbageConfig = msgspec.field(default_factory=GarbageConfig)
    shutdown_seconds: float = 300.0

    @property
    def has_users(self) -> bool:
        return bool(self.htpasswd) or self.token is not None

    def validate(self) -> None:
        """Raises InvalidParameter naming what cannot be meant, before anything is opened."""
        if self.htpasswd and self.token is not None:
            raise InvalidParameter("htpasswd and token authentication exclude each other")
        if self.max_blob_bytes < 0 or self.max_connections < 1 or self.shutdown_seconds < 0:
            raise InvalidParameter("a limit is negative")
        if '"' in self.realm or "\\" in self.realm or not self.realm.isprintable():
            raise InvalidParameter("the realm must be plain text without quotes")
        self.garbage.rules.validate()
        for host, port in self.addresses():
            if not self.insecure and not is_loopback(host) and not (self.has_users and self.tls is not None):
                raise InvalidParameter(
                    f"refusing to listen on {host}:{port} without users and TLS: set htpasswd or token and tls, or --insecure"
                )

    def addresses(self) -> list[tuple[str, int]]:
        """Where to listen: what was asked, else loopback, else (with users and TLS) everywhere."""
        if self.listen:
            return [parse_address(text) for text in self.listen]
        return [("::", DEFAULT_PORT)] if self.has_users and self.tls is not None else [("127.0.0.1", DEFAULT_PORT)]


def read_config(path: str) -> RegistryConfig:
    """The JSON file. Raises InvalidParameter; a name nobody knows is a mistake, not a wish."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=RegistryConfig)
    except OSError as error:
        raise InvalidParameter(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"{path}: {error}") from error


def parse_address(text: str) -> tuple[str, int]:
    """``host:port``, ``[v6]:port`` or ``:port`` (loopback). Raises InvalidParameter."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise InvalidParameter(f"listen address {text!r}: want host:port")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def existing_root(config: RegistryConfig) -> str:
    """The root folder, made (for its owner only) when it is not there. Raises InvalidParameter when it cannot be used."""
    try:
        os.makedirs(config.root, 0o700, exist_ok=True)
    except OSError as error:
        raise InvalidParameter(f"registry root {config.root}: {error.strerror}") from error
    if not os.access(config.root, os.W_OK | os.X_OK):
        raise InvalidParameter(f"registry root {config.root}: not writable")
    return config.root

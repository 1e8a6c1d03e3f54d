"""What daemon.json says of single registries (`registries`), and what lies in `certs.d`.

    "registries": {
        "docker.io": {"mirrors": ["http://mirror.lan:5000",
                                  {"url": "https://hub.corp", "ca": "/etc/corp.pem", "rewrite": {"^library/(.*)": "hub/$1"}}]},
        "registry.corp": {"ca": "/etc/corp.pem", "client-cert": "/etc/me.pem", "client-key": "/etc/me.key"}}

Docker knows mirrors of Docker Hub only; these stand before any registry, for pulls. A file named here must be readable when the
daemon starts. Of certs.d Docker's rules hold: `HOST/*.crt` are authorities, `HOST/NAME.cert` and `HOST/NAME.key` are ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from carrack.errors import InvalidParameter

CERTIFICATE_DIRECTORIES = (Path("/etc/carrack/certs.d"), Path("/etc/docker/certs.d"))
_GROUP = re.compile(r"\$(?:\{(\d+)\}|(\d+))")


class Trust(msgspec.Struct, frozen=True, rename="kebab"):
    """How TLS with one host goes: whom to believe, and who we are. Paths of PEM files."""

    verify: bool = True
    ca: tuple[str, ...] = ()
    client_cert: str = ""
    client_key: str = ""


BELIEVING = Trust()
"""The authorities of this system, and no certificate of ours."""


class HostSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What is said of a registry's own host."""

    mirrors: tuple[str | MirrorSettings, ...] = ()
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    insecure: bool = False
    rewrite: dict[str, str] = {}


class MirrorSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """A place to ask before a registry itself."""

    url: str
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    insecure: bool = False
    rewrite: dict[str, str] = {}
    """Regular expression of a repository's path → what it is called here (``$1``: the first group). The first match counts."""


def parse(document: object) -> dict[str, HostSettings]:
    """Read the value of `registries`. Raises InvalidParameter that names what is wrong."""
    try:
        hosts = msgspec.convert(document, type=dict[str, HostSettings])
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"registries: {error}") from error
    for host, settings in hosts.items():
        if not host or "/" in host:
            raise InvalidParameter(f"registries: {host!r} is no registry's host")
        _check(host, settings)
        for mirror in settings.mirrors:
            check_mirror(mirror if isinstance(mirror, str) else mirror.url)
            if isinstance(mirror, MirrorSettings):
                _check(host, mirror)
    return hosts


def check_mirror(url: str) -> None:
    """Raises InvalidParameter for what is no mirror's URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise InvalidParameter(f"invalid mirror: {url!r}: want http or https, a host, and nothing else")


def rewritten(rules: Mapping[str, str], path: str) -> str:
    """A repository's path as a host calls it."""
    for pattern, replacement in rules.items():
        changed, count = re.subn(pattern, _GROUP.sub(lambda group: rf"\g<{group[1] or group[2]}>", replacement), path, count=1)
        if count:
            return changed
    return path


def trust_of(host: str, settings: HostSettings | MirrorSettings, *, verify: bool) -> Trust:
    """How to speak TLS with a host: as it is configured, else as certs.d says."""
    if settings.ca or settings.client_cert:
        return Trust(verify, (settings.ca,) if settings.ca else (), settings.client_cert, settings.client_key)
    for directory in CERTIFICATE_DIRECTORIES:
        try:
            names = sorted(os.listdir(directory / host))
        except OSError:
            continue
        place = directory / host
        own = next((name for name in names if name.endswith(".cert") and f"{name[:-5]}.key" in names), "")
        return Trust(
            verify,
            tuple(str(place / name) for name in names if name.endswith(".crt")),
            str(place / own) if own else "",
            str(place / f"{own[:-5]}.key") if own else "",
        )
    return Trust(verify)


def _check(host: str, settings: HostSettings | MirrorSettings) -> None:
    if bool(settings.client_cert) != bool(settings.client_key):
        raise InvalidParameter(f"registries: {host}: client-cert and client-key go together")
    for path in (settings.ca, settings.client_cert, settings.client_key):
        if path and not os.access(path, os.R_OK):
            raise InvalidParameter(f"registries: {host}: cannot read {path}")
    for pattern, replacement in settings.rewrite.items():
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise InvalidParameter(f"registries: {host}: rewrite {pattern!r}: {error}") from error
        for group in _GROUP.finditer(replacement):
            if int(group[1] or group[2]) > groups:
                raise InvalidParameter(f"registries: {host}: rewrite {pattern!r} has no group {group[0]}")

"""Where a registry is reached: its own host, the mirrors before it, and which of them may do without TLS."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from carrack.distribution.hosts import BELIEVING, HostSettings, MirrorSettings, Trust, rewritten, trust_of
from carrack.oci.reference import DOCKER_HUB

_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that serves a registry's repositories."""

    scheme: str
    host: str
    """With a port when it is not the scheme's own."""
    trust: Trust = BELIEVING
    """Whose certificates it may show, and ours."""
    mirror: bool = False
    """Not the registry itself: it gets no credentials, and its failure sends us to the next."""
    rewrite: tuple[tuple[str, str], ...] = ()
    """What it calls repositories (`hosts.rewritten`)."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def path(self, repository: str) -> str:
        """What a repository of the registry is called here."""
        return rewritten(dict(self.rewrite), repository)


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """dockerd's `registry-mirrors` (URLs, for Docker Hub) and `insecure-registries` (hosts or networks); our `registries`."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)

    def before(self, domain: str) -> tuple[Endpoint, ...]:
        """The mirrors to ask before a registry when pulling, in order: its own, then Docker Hub's general ones."""
        settings = self.hosts.get(domain, HostSettings())
        own = tuple(_mirror(MirrorSettings(each) if isinstance(each, str) else each) for each in settings.mirrors)
        return own + (tuple(_mirror(MirrorSettings(url)) for url in self.mirrors) if domain == DOCKER_HUB else ())

    def own(self, domain: str) -> tuple[Endpoint, ...]:
        """The ways to reach a registry itself, in the order to try them."""
        host = _HUB_HOST if domain == DOCKER_HUB else domain
        settings = self.hosts.get(domain, HostSettings())
        rules = tuple(settings.rewrite.items())
        if settings.ca or settings.client_cert or not (settings.insecure or self.is_insecure(host)):
            return (Endpoint("https", host, trust_of(domain, settings, verify=not settings.insecure), rewrite=rules),)
        return (
            Endpoint("https", host, trust_of(domain, settings, verify=False), rewrite=rules),
            Endpoint("http", host, rewrite=rules),
        )

    def is_insecure(self, host: str) -> bool:
        """Whether a host may be reached without TLS: it is named so, or it is this machine."""
        name = host_name(host)
        if host in self.insecure or name in self.insecure:
            return True
        networks = [network for text in self.insecure if (network := _network(text)) is not None]
        return any(address.is_loopback or any(address in network for network in networks) for address in _addresses(name))


def host_name(host: str) -> str:
    """A host without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _mirror(settings: MirrorSettings) -> Endpoint:
    parts = urlsplit(settings.url)
    trust = trust_of(parts.netloc, settings, verify=not settings.insecure)
    return Endpoint(parts.scheme, parts.netloc, trust, mirror=True, rewrite=tuple(settings.rewrite.items()))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _addresses(name: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        pass
    if name == "localhost":
        return [ipaddress.ip_address("127.0.0.1")]
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(address[4][0]).partition("%")[0]) for address in found]

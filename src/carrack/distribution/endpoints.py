"""Where a registry is reached: its own host, the mirrors before it, and which of them may do without TLS."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from carrack.oci.reference import DOCKER_HUB

_HUB_HOST = "registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that serves a registry's repositories."""

    scheme: str
    host: str
    """With a port when it is not the scheme's own."""
    verify: bool = True
    """Whether its certificate must be good."""
    mirror: bool = False
    """Not the registry itself: it gets no credentials, and its failure sends us to the next."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """dockerd's settings: `registry-mirrors` (URLs, for Docker Hub) and `insecure-registries` (hosts or networks)."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()

    def endpoints(self, domain: str, *, push: bool = False) -> tuple[Endpoint, ...]:
        """The places to try for a registry, in order. Mirrors serve pulls of Docker Hub only, as with Docker."""
        own = self._own(_HUB_HOST if domain == DOCKER_HUB else domain)
        if push or domain != DOCKER_HUB:
            return own
        return tuple(_mirror(url) for url in self.mirrors) + own

    def _own(self, host: str) -> tuple[Endpoint, ...]:
        if not self.is_insecure(host):
            return (Endpoint("https", host),)
        return (Endpoint("https", host, verify=False), Endpoint("http", host))

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


def _mirror(url: str) -> Endpoint:
    scheme, _, host = url.rstrip("/").partition("://")
    return Endpoint(scheme, host, mirror=True)


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

"""The network `none`: a namespace with nothing but loopback, no kernel object of its own."""

from __future__ import annotations

from carrack.errors import Forbidden
from carrack.kernel import netns
from carrack.kernel.netlink import Netlink
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network

_LOOPBACK = 1


def loopback_up(namespace_fd: int) -> None:
    """Set lo up in a network namespace, which also gives it 127.0.0.1 and ::1."""
    with netns.inside(namespace_fd, Netlink) as link:
        link.set_link(_LOOPBACK, up=True)


class NoneDriver:
    """Docker's driver `null`."""

    name = "null"
    addressed = False
    has_host_end = False

    def complete(self, network: Network) -> Network:
        if not network.predefined:
            raise Forbidden('only one instance of "null" network is allowed')
        return network

    def create(self, network: Network) -> None:
        pass

    def remove(self, network: Network) -> None:
        pass

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        loopback_up(namespace_fd)

    def unplug(self, network: Network, endpoint: Endpoint, namespace_fd: int = -1) -> None:
        pass

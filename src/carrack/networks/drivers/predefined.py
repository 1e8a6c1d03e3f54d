"""The networks `host` and `none`: there is one of each, with no interface of its own and no kernel object."""

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


class HostDriver:
    """Docker's `Driver` `host`: the container stands in the host's own network namespace."""

    name = "host"
    addressed = False
    has_host_end = False

    def complete(self, network: Network) -> Network:
        if not network.predefined:
            raise Forbidden(f'only one instance of "{self.name}" network is allowed')
        return network

    def create(self, network: Network) -> None:
        pass

    def remove(self, network: Network) -> None:
        pass

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        pass

    def unplug(self, network: Network, endpoint: Endpoint, namespace_fd: int = -1) -> None:
        pass


class NoneDriver(HostDriver):
    """Docker's driver `null`: a namespace with nothing but loopback."""

    name = "null"

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        loopback_up(namespace_fd)

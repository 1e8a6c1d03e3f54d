"""The network `host`: the container stands in the host's own network namespace, so there is nothing to make."""

from __future__ import annotations

from carrack.errors import Forbidden
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network


class HostDriver:
    """Docker's driver `host`."""

    name = "host"
    addressed = False
    has_host_end = False

    def complete(self, network: Network) -> Network:
        if not network.predefined:
            raise Forbidden('only one instance of "host" network is allowed')
        return network

    def create(self, network: Network) -> None:
        pass

    def remove(self, network: Network) -> None:
        pass

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        pass

    def unplug(self, network: Network, endpoint: Endpoint, namespace_fd: int = -1) -> None:
        pass

"""What a kind of network must be able to do. Records, addresses, ports and events are not its affair: `Networks` does those once.

A driver touches kernel objects only after the record that names them is written (law 7), and each undo is idempotent, because the
one who calls it may be a later daemon that does not know how far the first came.
"""

from __future__ import annotations

from typing import Protocol

from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network


class Driver(Protocol):
    """One kind of network."""

    name: str
    addressed: bool
    """Whether endpoints get an interface of their own, with addresses from the network's pools."""
    has_host_end: bool
    """Whether that interface has another end on the host: its end is then told by the kernel, and ports can be published."""

    def complete(self, network: Network) -> Network:
        """Check a new network's options and fill in what the driver chooses. Touches nothing. Raises InvalidParameter."""
        ...

    def create(self, network: Network) -> None:
        """Make the network's kernel objects, or make them right again where they are there already (a daemon's start)."""
        ...

    def remove(self, network: Network) -> None:
        """Remove the network's kernel objects; those that are gone do not matter."""
        ...

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        """Make the endpoint's interface in a container's network namespace, with its addresses and routes, up."""
        ...

    def unplug(self, network: Network, endpoint: Endpoint, namespace_fd: int = -1) -> None:
        """Remove the endpoint's interface now, from a container that lives on. One that is gone does not matter.

        Without a host end that needs the container's namespace; without it the interface goes when that ends.
        """
        ...

"""macvlan networks: each endpoint has a MAC address of its own on the parent's network."""

from __future__ import annotations

from carrack.errors import InvalidParameter
from carrack.kernel.netlink import MacvlanMode
from carrack.networks.drivers.parent import ParentDriver
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network

MODE = "macvlan_mode"
_MODES: dict[str, MacvlanMode] = {"": "bridge", "bridge": "bridge", "private": "private", "vepa": "vepa", "passthru": "passthru"}


class MacvlanDriver(ParentDriver):
    """Docker's driver `macvlan`."""

    name = "macvlan"

    def check_options(self, network: Network) -> None:
        mode = network.options.get(MODE, "")
        if mode not in _MODES:
            raise InvalidParameter(f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default")

    def add_child(self, network: Network, endpoint: Endpoint, parent: int, namespace_fd: int) -> None:
        mode = _MODES[network.options.get(MODE, "")]
        self._netlink.add_macvlan(endpoint.interface, parent, mode, namespace_fd=namespace_fd, mac=endpoint.mac, mtu=endpoint.mtu)

"""ipvlan networks: endpoints share the parent's MAC address and differ by their IP addresses. Where the kernel has it."""

from __future__ import annotations

from carrack.errors import InvalidParameter
from carrack.kernel.netlink import IpvlanMode
from carrack.networks.drivers.parent import ParentDriver
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network

MODE, FLAG = "ipvlan_mode", "ipvlan_flag"
_MODES: dict[str, IpvlanMode] = {"": "l2", "l2": "l2", "l3": "l3", "l3s": "l3s"}
_FLAGS = ("", "bridge", "private", "vepa")


class IpvlanDriver(ParentDriver):
    """Docker's driver `ipvlan`."""

    name = "ipvlan"

    def check_options(self, network: Network) -> None:
        mode, flag = network.options.get(MODE, ""), network.options.get(FLAG, "")
        if mode not in _MODES:
            raise InvalidParameter(f"requested ipvlan mode '{mode}' is not valid, 'l2' mode is the ipvlan driver default")
        if flag not in _FLAGS:
            raise InvalidParameter(f"requested ipvlan flag '{flag}' is not valid, 'bridge' is the ipvlan driver default")

    def add_child(self, network: Network, endpoint: Endpoint, parent: int, namespace_fd: int) -> None:
        mode, flag = _MODES[network.options.get(MODE, "")], network.options.get(FLAG, "") or "bridge"
        self._netlink.add_ipvlan(endpoint.interface, parent, mode, flag, namespace_fd=namespace_fd, mtu=endpoint.mtu)

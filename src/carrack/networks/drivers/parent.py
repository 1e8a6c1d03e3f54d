"""What macvlan and ipvlan networks share: endpoints that are children of one interface of the host, its parent, and so members of
whatever network that is in. The host has no part in their traffic: no masquerading, no published ports.

The parent is named by the option `parent`: an interface, or ``<interface>.<vlan>``, which is made when it is not there (and removed
with the network). An internal network, and one that names none, has a dummy interface of its own as parent, which leads nowhere.
"""

from __future__ import annotations

import errno

import msgspec

from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel import netns
from carrack.kernel.netlink import Netlink
from carrack.networks.drivers.interface import configure_inside, reason
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network

PARENT = "parent"


class ParentDriver:
    """A `Driver` whose endpoints are children of a parent interface."""

    name = ""
    addressed = True
    has_host_end = False

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def check_options(self, network: Network) -> None:
        """Check the options that are this driver's own. Raises InvalidParameter."""
        raise NotImplementedError

    def add_child(self, network: Network, endpoint: Endpoint, parent: int, namespace_fd: int) -> None:
        """Make the endpoint's interface in the namespace. Raises OSError."""
        raise NotImplementedError

    def complete(self, network: Network) -> Network:
        """Check the options; settle which interface is the parent, and whether it is ours."""
        self.check_options(network)
        wished = network.options.get(PARENT, "")
        if network.internal and wished:
            raise InvalidParameter(f"parent interface {wished} cannot be used for an internal network")
        parent = wished or f"dm-{network.id[:12]}"
        link = self._netlink.find_link(parent)
        if link is None and wished:
            self._check_vlan(wished)
        mtu = link.mtu if link is not None else network.mtu
        return msgspec.structs.replace(network, bridge=parent, bridge_is_ours=link is None, mtu=min(network.mtu, mtu))

    def _check_vlan(self, name: str) -> None:
        base, dot, vlan = name.rpartition(".")
        if not dot or not vlan.isdigit() or not 0 < int(vlan) < 4095:
            raise InvalidParameter(f"parent interface {name} does not exist: want <interface> or <interface>.<vlan>")
        if self._netlink.find_link(base) is None:
            raise InvalidParameter(f"invalid subinterface vlan name {name}: the parent interface {base} was not found on the host")

    def create(self, network: Network) -> None:
        """Make the parent where it is ours and not there."""
        link = self._netlink.find_link(network.bridge)
        if link is None and not network.bridge_is_ours:
            raise SystemFailure(f"parent interface {network.bridge} of network {network.name} does not exist")
        try:
            if link is None:
                self._make_parent(network)
            if network.bridge_is_ours:
                self._netlink.set_link(self._netlink.get_link(network.bridge).index, up=True)
        except OSError as error:
            raise SystemFailure(f"cannot make interface {network.bridge}: {reason(error)}") from error

    def _make_parent(self, network: Network) -> None:
        if network.options.get(PARENT):
            base, _, vlan = network.bridge.rpartition(".")
            self._netlink.add_vlan(network.bridge, self._netlink.get_link(base).index, int(vlan))
        else:
            self._netlink.add_dummy(network.bridge)

    def remove(self, network: Network) -> None:
        """Delete the parent if it is ours."""
        link = self._netlink.find_link(network.bridge) if network.bridge_is_ours else None
        if link is not None:
            try:
                self._netlink.delete_link(link.index)
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise SystemFailure(f"cannot remove interface {network.bridge}: {reason(error)}") from error

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        """A child of the parent, made directly in the container's namespace."""
        try:
            parent = self._netlink.get_link(network.bridge).index
            self.add_child(network, endpoint, parent, namespace_fd)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise SystemFailure(f"this kernel has no {self.name} interfaces") from error
            raise SystemFailure(f"cannot make the {self.name} interface of endpoint {endpoint.name}: {reason(error)}") from error
        try:
            netns.inside(namespace_fd, lambda: configure_inside(endpoint, default_route=default_route))
        except OSError as error:
            self.unplug(network, endpoint, namespace_fd)
            raise SystemFailure(f"cannot set up the interface of endpoint {endpoint.name}: {reason(error)}") from error

    def unplug(self, network: Network, endpoint: Endpoint, namespace_fd: int = -1) -> None:
        if namespace_fd >= 0:
            netns.inside(namespace_fd, lambda: _delete(endpoint.interface))


def _delete(name: str) -> None:
    with Netlink() as netlink:
        link = netlink.find_link(name)
        if link is not None:
            netlink.delete_link(link.index)

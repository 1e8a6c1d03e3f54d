"""Bridge networks: a Linux bridge with the gateway's address, and for each endpoint a veth pair whose far end is made directly in
the container's namespace (moving one there costs twenty times as much).

Closed by default: no router advertisements are believed on the bridge or its ports (CVE-2020-13401), an interface without an IPv6
address has IPv6 off (CVE-2024-32473), and route_localnet is set only after the table's loopback guard is in place (law 4).
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Collection
from ipaddress import ip_interface, ip_network

import msgspec

from carrack.errors import Forbidden, InvalidParameter, SystemFailure
from carrack.kernel import netns, sysctl
from carrack.kernel.netlink import Netlink
from carrack.networks.drivers.interface import configure_inside, reason
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network
from carrack.networks.options import LINK_GROUP
from carrack.networks.ruleset import BridgeRules

NAME = "com.docker.network.bridge.name"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
MTU = "com.docker.network.driver.mtu"
GATEWAY_MODE = {4: "com.docker.network.bridge.gateway_mode_ipv4", 6: "com.docker.network.bridge.gateway_mode_ipv6"}
INHIBIT4 = "com.docker.network.bridge.inhibit_ipv4"
TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"

_GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")
_DIRECT = {"nat": "closed", "nat-unprotected": "open", "routed": "published", "isolated": "closed"}
_GLANCE_SECONDS = 0.0005
_BOOLEANS = ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False")


def gateway_mode(network: Network, version: int) -> str:
    """How the network's addresses of this family meet the world: nat (the default), nat-unprotected, routed or isolated."""
    return network.options.get(GATEWAY_MODE[version], "") or "nat"


class BridgeDriver:
    """Docker's `Driver` `bridge`."""

    name = "bridge"
    addressed = True
    has_host_end = True

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    # ── the network ────────────────────────────────────────────────────────────────────────────────────────────────────

    def complete(self, network: Network) -> Network:
        """Check the options; choose the bridge's name where none is asked for."""
        for option in (ICC, MASQUERADE, INHIBIT4):
            if (text := network.options.get(option, "")) not in ("", *_BOOLEANS):
                raise InvalidParameter(f'invalid value for option "{option}": strconv.ParseBool: parsing "{text}": invalid syntax')
        for interface in trusted_interfaces(network):
            if not is_interface_name(interface):
                raise InvalidParameter(f'invalid value for option "{TRUSTED}": {interface!r} is not an interface name')
        for version in (4, 6):
            mode = gateway_mode(network, version)
            if mode not in _GATEWAY_MODES:
                raise InvalidParameter(f"unknown gateway mode {mode}")
            if mode == "isolated" and not network.internal:
                raise InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
            if mode != "isolated" and network.internal and GATEWAY_MODE[version] in network.options:
                raise InvalidParameter(f"gateway mode '{mode}' cannot be used for an internal network")
        name = network.bridge or network.options.get(NAME, "") or f"ck-{network.id[:12]}"
        if not is_interface_name(name):
            raise InvalidParameter(f'invalid value for option "{NAME}": {name!r} is not an interface name')
        return msgspec.structs.replace(
            network, bridge=name, mtu=_mtu(network), bridge_is_ours=network.bridge_is_ours and not self._exists(name)
        )

    def _exists(self, name: str) -> bool:
        link = self._netlink.find_link(name)
        if link is not None and link.kind != "bridge":
            raise Forbidden(f"existing interface {name} is not a bridge")
        return link is not None

    def create(self, network: Network, gateways: Collection[str] = ()) -> None:
        """The bridge, its address and flags. Traffic flows once the table knows of it (`rules`, then `set_loopback_routing`).

        Other addresses that our own bridge has from an earlier configuration go, but for `gateways`: those that containers use.
        """
        link = self._netlink.find_link(network.bridge)
        if link is None:
            if not network.bridge_is_ours:
                raise SystemFailure(f"bridge {network.bridge} of network {network.name} does not exist")
            try:
                self._netlink.add_bridge(network.bridge, mac=_mac_of(network), mtu=network.mtu, group=LINK_GROUP)
            except OSError as error:
                raise SystemFailure(f"cannot make bridge {network.bridge}: {error.strerror}") from error
            link = self._netlink.get_link(network.bridge)
        elif link.group != LINK_GROUP:
            self._netlink.set_link(link.index, group=LINK_GROUP)
        try:
            self._address(network, link.index)
            if network.bridge_is_ours:
                self._drop_addresses(network, link.index, gateways)
            self._netlink.set_link(link.index, up=True)
        except OSError as error:
            raise SystemFailure(f"cannot set up bridge {network.bridge}: {error.strerror}") from error

    def _address(self, network: Network, index: int) -> None:
        sysctl.write_if_there(0, "net", "ipv6", "conf", network.bridge, "accept_ra")
        if network.bridge_is_ours:
            # Nobody else can have the bridge's addresses: the second that duplicate detection takes would be the first container's.
            sysctl.write_if_there(0, "net", "ipv6", "conf", network.bridge, "accept_dad")
            sysctl.write_if_there(0 if network.enable_ipv6 else 1, "net", "ipv6", "conf", network.bridge, "disable_ipv6")
        for version, pool in ((4, network.pool4), (6, network.pool6)):
            if pool is None or not pool.gateway or gateway_mode(network, version) == "isolated":
                continue
            if version == 4 and network.flag(INHIBIT4, default=False):
                continue
            interface = ip_interface(f"{pool.gateway}/{ip_network(pool.subnet).prefixlen}")
            self._netlink.add_address(index, interface)

    def _drop_addresses(self, network: Network, index: int, gateways: Collection[str]) -> None:
        wanted = {*gateways, *(pool.gateway for pool in network.pools)}
        for _, interface in self._netlink.addresses(index):
            if not interface.ip.is_link_local and str(interface.ip) not in wanted:
                self._netlink.delete_address(index, interface)

    def rules(self, network: Network) -> BridgeRules:
        """What the table has to say about the network."""
        masquerade = network.flag(MASQUERADE, default=True) and not network.internal
        subnets = {4: network.pool4.subnet if network.pool4 else "", 6: network.pool6.subnet if network.pool6 else ""}
        modes = {version: gateway_mode(network, version) for version in (4, 6)}
        return BridgeRules(
            bridge=network.bridge,
            subnet4=subnets[4],
            subnet6=subnets[6],
            internal=network.internal,
            icc=network.flag(ICC, default=True),
            masquerade4=masquerade and modes[4] in ("nat", "nat-unprotected"),
            masquerade6=masquerade and modes[6] in ("nat", "nat-unprotected"),
            direct4=_DIRECT[modes[4]],
            direct6=_DIRECT[modes[6]],
            trusted=trusted_interfaces(network),
        )

    def set_loopback_routing(self, network: Network, enabled: bool) -> None:
        """Let answers to 127.0.0.1 come back over the bridge. Only while the loopback guard stands (law 4)."""
        try:
            sysctl.write(int(enabled), "net", "ipv4", "conf", network.bridge, "route_localnet")
        except FileNotFoundError:
            pass  # somebody removed the bridge: nothing comes over it

    def remove(self, network: Network) -> None:
        """Delete the bridge if it is ours, else take our address and flags from it."""
        link = self._netlink.find_link(network.bridge)
        if link is None:
            return
        try:
            if network.bridge_is_ours:
                self._netlink.delete_link(link.index)
            else:
                self.set_loopback_routing(network, False)
                self._netlink.set_link(link.index, group=0)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise SystemFailure(f"cannot remove bridge {network.bridge}: {error.strerror}") from error

    # ── its endpoints ──────────────────────────────────────────────────────────────────────────────────────────────────

    def plug(self, network: Network, endpoint: Endpoint, namespace_fd: int, *, default_route: bool) -> None:
        """The pair, its port's flags, and in the container: address, routes, up, lo as well."""
        try:
            master = self._netlink.get_link(network.bridge).index
            self._netlink.add_veth(
                endpoint.host_interface, endpoint.interface,
                peer_namespace_fd=namespace_fd, peer_mac=endpoint.mac, mtu=endpoint.mtu, master=master,
            )  # fmt: skip
        except OSError as error:
            raise SystemFailure(f"cannot make the interface pair of endpoint {endpoint.name}: {reason(error)}") from error
        try:
            sysctl.write_if_there(1, "net", "ipv6", "conf", endpoint.host_interface, "disable_ipv6")
            self._set_port(network, endpoint)
            netns.inside(namespace_fd, lambda: configure_inside(endpoint, default_route=default_route))
        except OSError as error:
            self.unplug(network, endpoint)
            raise SystemFailure(f"cannot set up the interface of endpoint {endpoint.name}: {reason(error)}") from error

    def _set_port(self, network: Network, endpoint: Endpoint) -> None:
        index = self._netlink.get_link(endpoint.host_interface).index
        self._netlink.set_link(index, up=True, hairpin=True, isolated=_isolated(network))

    def join(self, network: Network, endpoint: Endpoint) -> None:
        """Make the endpoint's end on the host a port of the bridge again. Raises OSError."""
        index = self._netlink.get_link(endpoint.host_interface).index
        self._netlink.set_link(index, master=self._netlink.get_link(network.bridge).index)
        self._set_port(network, endpoint)

    def unplug(self, network: Network, endpoint: Endpoint, namespace_fd: int = -1) -> None:
        """Delete the pair by its end on the host; returns when both ends are out of sight.

        The kernel answers a deletion only when nobody can hold the device any more (an RCU barrier, 15 ms and more); the pair has
        left its namespaces long before, and that is what is waited for.
        """
        link = self._netlink.find_link(endpoint.host_interface)
        if link is None:
            return
        deletion = _Deletion(link.index)
        deletion.start()
        while deletion.error is None and self._netlink.find_link(endpoint.host_interface) is not None:
            deletion.join(_GLANCE_SECONDS)
        if deletion.error is not None and deletion.error.errno != errno.ENODEV:
            raise SystemFailure(f"cannot remove interface {endpoint.host_interface}: {reason(deletion.error)}") from deletion.error


class _Deletion(threading.Thread):
    """Deletes a link, and has the wait for the kernel's answer to itself."""

    def __init__(self, index: int) -> None:
        super().__init__(name="link-deletion", daemon=True)
        self._index = index
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            with Netlink() as kernel:
                kernel.delete_link(self._index)
        except OSError as error:
            self.error = error


def is_interface_name(name: str) -> bool:
    """Whether the kernel would take this for an interface (dev_valid_name); quotes and the like, which no table's text could
    carry, are refused too."""
    return 0 < len(name.encode()) < 16 and name not in (".", "..") and not any(c in '/:"\\' or c.isspace() for c in name)


def trusted_interfaces(network: Network) -> tuple[str, ...]:
    """Interfaces of the host whose packets may go to published ports by the containers' own addresses."""
    return tuple(filter(None, network.options.get(TRUSTED, "").split(":")))


def _isolated(network: Network) -> bool:
    """Whether the bridge itself has to keep ports apart (`enable_icc=false`).

    Where br_netfilter shows bridged packets to the table (bridge-nf-call-iptables, as on any host that ran dockerd or kubelet), the
    table does it, and must: there a translated packet goes from port to port, which an isolated port would never get.
    """
    if network.flag(ICC, default=True):
        return False
    seen = {"iptables": network.enable_ipv4, "ip6tables": network.enable_ipv6}
    for kind, wanted in seen.items():
        try:
            if wanted and sysctl.read("net", "bridge", f"bridge-nf-call-{kind}") != "1":
                return True
        except FileNotFoundError:
            return True
    return False


def _mac_of(network: Network) -> str:
    """A bridge that is made again has the same one: containers go on sending to it."""
    return "02:42:" + hashlib.sha256(network.id.encode()).digest()[:4].hex(":")


def _mtu(network: Network) -> int:
    text = network.options.get(MTU, "")
    if not text:
        return network.mtu
    try:
        mtu = int(text)
    except ValueError:
        raise InvalidParameter(f'invalid value for option "{MTU}": {text!r} is not a number') from None
    if not 0 <= mtu <= 65535:
        raise InvalidParameter(f'invalid value for option "{MTU}": {text!r} is out of range')
    return mtu or network.mtu

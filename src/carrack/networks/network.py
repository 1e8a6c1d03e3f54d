"""A network as it is recorded: Docker's network object, with the addresses that were really given to it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

DEFAULT_GATEWAY = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}
"""The auxiliary address of a bridge network that its containers' default route leads to instead of the bridge: Docker's own key,
which `--aux-address` takes and `--default-gateway` sets on the default bridge."""


class IpamConfig(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """One subnet of a network, in the API's own words (`IPAM.Config`)."""

    subnet: str = msgspec.field(name="Subnet", default="")
    ip_range: str = msgspec.field(name="IPRange", default="")
    gateway: str = msgspec.field(name="Gateway", default="")
    auxiliary_addresses: dict[str, str] = msgspec.field(name="AuxiliaryAddresses", default_factory=dict)

    @property
    def network(self) -> IPv4Network | IPv6Network:
        return ip_network(self.subnet)

    @property
    def way_out(self) -> str:
        """The address that a container's default route leads to."""
        return self.auxiliary_addresses.get(DEFAULT_GATEWAY[self.network.version], self.gateway)


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network. `options` are those that were asked for, as Docker shows them; the bridge's name is in `bridge`."""

    id: str
    name: str
    driver: str
    created_nanoseconds: int
    scope: str = "local"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: str = ""
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    pools: tuple[IpamConfig, ...] = ()
    configured_subnet: bool = False
    """The subnet was asked for: only then may an endpoint ask for its address."""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    bridge: str = ""
    """The host interface that the network is made of; for macvlan its parent."""
    bridge_is_ours: bool = True
    """False: the bridge was there before (`--bridge`), and is left when the network goes."""
    mtu: int = 0

    @property
    def predefined(self) -> bool:
        """One of the three that cannot be removed."""
        return self.name in ("bridge", "host", "none")

    @property
    def pool4(self) -> IpamConfig | None:
        return next((pool for pool in self.pools if "." in pool.subnet), None)

    @property
    def pool6(self) -> IpamConfig | None:
        return next((pool for pool in self.pools if ":" in pool.subnet), None)

    def pool_of(self, address: str) -> IpamConfig | None:
        """The subnet that an address is of."""
        return next((pool for pool in self.pools if address and ip_address(address) in pool.network), None)

    def flag(self, option: str, default: bool) -> bool:
        """A boolean driver option in Go's spelling (strconv.ParseBool), already validated when the network was made."""
        text = self.options.get(option, "")
        return default if text == "" else text in ("1", "t", "T", "true", "TRUE", "True")

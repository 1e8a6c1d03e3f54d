"""How a daemon wants its networks: dockerd's network flags as one value, and the names that an instance gives to kernel objects.

Every kernel object carries the instance in its name, so that several daemons share a host without touching each other's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network
from pathlib import Path

LINK_GROUP = 0xCA44
"""The interface group (`ip link … group`) of every bridge of any Carrack: how one instance's guard knows another's traffic."""

DEFAULT_INSTANCE = "carrack"


@dataclass(frozen=True, slots=True)
class AddressPool:
    """A range that networks without a wish are cut from (`--default-address-pool base=…,size=…`)."""

    base: IPv4Network | IPv6Network
    size: int


def _pool(base: str, size: int) -> AddressPool:
    return AddressPool(ip_network(base), size)


DEFAULT_ADDRESS_POOLS: tuple[AddressPool, ...] = (
    *(_pool(f"172.{second}.0.0/16", 16) for second in range(17, 32)),
    _pool("192.168.0.0/16", 20),
    _pool("10.128.0.0/9", 24),
)
"""Docker's own, in Docker's order (dockerd(8), `--default-address-pool`), which give 31 networks; and one more behind them."""


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """dockerd's network flags. Empty means what dockerd means by absence."""

    bridge: str = ""
    """`--bridge`: use this existing bridge for the default network; ``none``: no default bridge network."""
    bip: IPv4Interface | None = None
    fixed_cidr: IPv4Network | None = None
    bip6: IPv6Interface | None = None
    fixed_cidr_v6: IPv6Network | None = None
    default_gateway: IPv4Address | None = None
    """`--default-gateway`: where the default route of the default bridge's containers leads; None: to the bridge."""
    default_gateway_v6: IPv6Address | None = None
    ipv6: bool = False
    """Give the default bridge IPv6 too (`--ipv6`)."""
    default_address_pools: tuple[AddressPool, ...] = DEFAULT_ADDRESS_POOLS
    mtu: int = 0
    """Bytes; 0: that of the interface with the default route, at most 1500."""
    icc: bool = True
    ip_forward: bool = True
    ip_masq: bool = True
    ip: str = "0.0.0.0"
    """`--ip`: the host address of published ports that name none."""
    default_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`--default-network-opt`: by driver, the options of new networks that ask for no other value."""
    accept_mark: tuple[int, int] | None = None
    """`--bridge-accept-fwmark`: (mark, mask) of packets that pass our rules."""
    direct_routing: bool = False
    """`--allow-direct-routing`: outsiders may reach published ports by the container's own address."""
    relays: bool = True
    """`--userland-proxy`: serve [::1], and IPv6 addresses of the host for containers that have IPv4 only."""
    beside_docker: bool = True
    """Have a running dockerd, whose rules drop what they do not know, let our networks' packets through."""
    dns: tuple[str, ...] = ()
    """`--dns`: what the embedded name server asks for containers that name none; empty: the host's servers."""
    run_directory: Path | None = None
    """The exec-root, where the names process listens; None: user-defined networks have no name server."""


def bridge_name(instance: str) -> str:
    """The default bridge's interface name: ``carrack0``, or one made from the instance's name (15 bytes at most: IFNAMSIZ)."""
    if instance == DEFAULT_INSTANCE:
        return "carrack0"
    return "ck-" + hashlib.sha256(instance.encode()).hexdigest()[:8]


def table_name(instance: str) -> str:
    """The name of the instance's one nftables table, family inet."""
    if instance == DEFAULT_INSTANCE:
        return "carrack"
    return "carrack_" + instance.replace("-", "_")

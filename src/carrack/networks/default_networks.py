"""The networks that every daemon has, `none`, `host` and `bridge`: what their records say, by the daemon's options and the host."""

from __future__ import annotations

import secrets
import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_network

import msgspec

from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel.netlink import Netlink
from carrack.networks.creation import KnownNetworks
from carrack.networks.drivers import bridge
from carrack.networks.host_routes import Prefix, default_mtu, refuse_route, routed
from carrack.networks.ipam import choose_subnet, choose_subnet6, refuse_overlap, with_gateway
from carrack.networks.network import DEFAULT_GATEWAY, IpamConfig, Network
from carrack.networks.options import bridge_name


def add_predefined(networks: KnownNetworks) -> None:
    """Record the networks `none`, `host` and `bridge` where they are not, and follow changed options of the default bridge."""
    known = {network.name: network for network in networks.list()}
    for name, driver in (("none", "null"), ("host", "host")):
        if name not in known:
            networks.adopt(
                Network(id=secrets.token_hex(32), name=name, driver=driver, created_nanoseconds=time.time_ns(), enable_ipv4=True)
            )
    old = known.get("bridge")
    if networks.options.bridge == "none":
        if old is not None:
            networks.abandon(old)
        return
    wanted = _default_bridge(networks, old)
    if old is not None and old.bridge != wanted.bridge:
        networks.abandon(old)
    if old != wanted:
        networks.adopt(wanted)


def _default_bridge(networks: KnownNetworks, old: Network | None) -> Network:
    options = networks.options
    name = options.bridge or bridge_name(networks.instance)
    same = old is not None and old.bridge == name
    configured = {
        bridge.DEFAULT_BRIDGE: "true",
        bridge.ICC: _go_bool(options.icc),
        bridge.MASQUERADE: _go_bool(options.ip_masq),
        bridge.HOST_BINDING: options.ip,
        bridge.NAME: name,
        bridge.MTU: str(options.mtu or default_mtu(networks.kernel)),
    }
    pools = _default_pools(networks, name, old if same else None)
    return Network(
        id=old.id if old is not None else secrets.token_hex(32),
        name="bridge",
        driver="bridge",
        created_nanoseconds=old.created_nanoseconds if old is not None else time.time_ns(),
        enable_ipv6=options.ipv6,
        pools=pools,
        options=configured,
        bridge=name,
        bridge_is_ours=not options.bridge,
        mtu=int(configured[bridge.MTU]),
    )


def _default_pools(networks: KnownNetworks, name: str, old: Network | None) -> tuple[IpamConfig, ...]:
    """The default bridge's pools: those of the options, of the bridge that is there, of the last start, or the first free ones."""
    options, kernel = networks.options, networks.kernel
    taken = [ip_network(pool.subnet) for other in networks.list() if other.name != "bridge" for pool in other.pools if pool.subnet]
    if options.bridge:
        pool4 = _existing_pool(kernel, name)
    elif options.bip is not None:
        refuse_overlap(options.bip.network, taken)
        refuse_route(kernel, options.bip.network, exempt=name)
        pool4 = IpamConfig(subnet=str(options.bip.network), gateway=str(options.bip.ip))
    elif old is not None and old.pool4 is not None and options.fixed_cidr is None:
        pool4 = old.pool4
    else:
        present = kernel.find_link(name)
        ours = [i for index, i in kernel.addresses() if present is not None and index == present.index and i.version == 4]
        if ours and isinstance(ours[0], IPv4Interface):
            pool4 = IpamConfig(subnet=str(ours[0].network), gateway=str(ours[0].ip))
        else:
            pool4 = with_gateway(IpamConfig(subnet=str(choose_subnet(options.default_address_pools, taken, routed(kernel)))))
    if options.fixed_cidr is not None:
        pool4 = _within(pool4, options.fixed_cidr)
    pools = (pool4, *_default_pool6(networks, old, taken))
    if options.default_gateway_v6 is not None and len(pools) == 1:
        raise InvalidParameter(f"default gateway {options.default_gateway_v6}: the default bridge has no IPv6")
    return tuple(
        _leading_out(pool, way) for pool, way in zip(pools, (options.default_gateway, options.default_gateway_v6), strict=False)
    )


def _leading_out(pool: IpamConfig, way: IPv4Address | IPv6Address | None) -> IpamConfig:
    """The pool with this address (or none) for its containers' default route. Raises InvalidParameter for another subnet's."""
    key = DEFAULT_GATEWAY[pool.network.version]
    others = {name: address for name, address in pool.auxiliary_addresses.items() if name != key}
    if way is not None and way not in pool.network:
        raise InvalidParameter(f"default gateway ip {way} must be part of the network {pool.subnet}")
    chosen = {key: str(way)} if way is not None and str(way) != pool.gateway else {}
    return msgspec.structs.replace(pool, auxiliary_addresses={**others, **chosen})


def _within(pool: IpamConfig, area: IPv4Network) -> IpamConfig:
    if not area.subnet_of(ip_network(pool.subnet)):  # type: ignore[arg-type]
        raise InvalidParameter(f"fixed-cidr {area} is not part of the default bridge's subnet {pool.subnet}")
    return IpamConfig(subnet=pool.subnet, ip_range=str(area), gateway=pool.gateway, auxiliary_addresses=pool.auxiliary_addresses)


def _existing_pool(kernel: Netlink, name: str) -> IpamConfig:
    link = kernel.find_link(name)
    if link is None or link.kind != "bridge":
        raise SystemFailure(f"bridge device with non default name {name} must be created manually")
    for index, interface in kernel.addresses():
        if index == link.index and isinstance(interface, IPv4Interface):
            return IpamConfig(subnet=str(interface.network), gateway=str(interface.ip))
    raise SystemFailure(f"bridge {name} has no IPv4 address: give it one, it becomes the gateway of the default network")


def _default_pool6(networks: KnownNetworks, old: Network | None, taken: list[Prefix]) -> tuple[IpamConfig, ...]:
    options = networks.options
    if not options.ipv6:
        return ()
    if options.bip6 is not None:
        return (IpamConfig(subnet=str(options.bip6.network), gateway=str(options.bip6.ip)),)
    if options.fixed_cidr_v6 is not None:
        return (with_gateway(IpamConfig(subnet=str(options.fixed_cidr_v6))),)
    if old is not None and old.pool6 is not None:
        return (old.pool6,)
    return (with_gateway(IpamConfig(subnet=str(choose_subnet6(options.default_address_pools, taken)))),)


def _go_bool(value: bool) -> str:
    return "true" if value else "false"

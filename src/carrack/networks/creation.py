"""How a network is planned: what was asked, checked and completed into a record, before any kernel object; the default three."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING

import msgspec

from carrack.errors import Conflict, Forbidden, InvalidParameter, NotFound, SystemFailure, Unavailable
from carrack.kernel.netlink import Netlink
from carrack.networks.drivers import bridge
from carrack.networks.ipam import checked_pool, choose_subnet, choose_subnet6, refuse_overlap, with_gateway
from carrack.networks.network import DEFAULT_GATEWAY, IpamConfig, Network
from carrack.networks.options import bridge_name

if TYPE_CHECKING:
    from carrack.networks.networks import Networks

Prefix = IPv4Network | IPv6Network
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.\- ]*[a-zA-Z0-9_.\-])?")
_PREDEFINED = ("bridge", "host", "none", "default")


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a new network."""

    name: str
    driver: str = "bridge"
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
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


def plan(networks: Networks, request: NetworkRequest) -> Network:
    """The record of a new network: name free, driver known, pools chosen, options checked. Touches nothing."""
    request = _with_configuration(networks, request)
    _check(networks, request)
    if not request.config_only and not request.config_from:
        defaults = networks.options.default_options.get(request.driver, {})
        request = msgspec.structs.replace(request, options={**defaults, **request.options})
    network = Network(
        id=secrets.token_hex(32),
        name=request.name,
        driver=request.driver,
        created_nanoseconds=time.time_ns(),
        enable_ipv4=request.enable_ipv4,
        enable_ipv6=request.enable_ipv6,
        internal=request.internal,
        attachable=request.attachable,
        config_only=request.config_only,
        config_from=request.config_from,
        ipam_driver=request.ipam_driver,
        ipam_options=request.ipam_options,
        pools=request.pools,
        configured_subnet=any(pool.subnet for pool in request.pools),
        options=request.options,
        labels=request.labels,
        mtu=0,
    )
    if request.config_only:
        return network
    network = msgspec.structs.replace(network, mtu=networks.options.mtu or default_mtu(networks.kernel))
    network = networks.driver(request.driver).complete(network)
    for other in networks.list():
        if network.bridge and other.bridge == network.bridge:
            what = "bridge" if network.driver == "bridge" else "parent interface"
            raise Forbidden(f"network {other.id} is already using {what} {network.bridge}")
    return msgspec.structs.replace(network, pools=_pools(networks, request))


def _check(networks: Networks, request: NetworkRequest) -> None:
    if request.name in _PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    if not request.name.strip():
        raise InvalidParameter("network name cannot be empty")
    if not _NAME.fullmatch(request.name):
        raise InvalidParameter(
            f"invalid network name {request.name!r}: want letters, digits, spaces and the characters _.-, a letter or a digit first"
        )
    if any(other.name == request.name for other in networks.list()):
        raise Conflict(f"network with name {request.name} already exists")
    if request.driver == "overlay":
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
            "and try again."
        )
    if not request.config_only and not networks.has_driver(request.driver):
        raise NotFound(f'could not find plugin "{request.driver}" in v1 plugin registry: plugin not found')
    if request.ingress:
        raise Unavailable(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
            "and try again."
        )
    if request.ipam_driver not in ("", "default"):
        raise InvalidParameter(f"could not find IPAM driver {request.ipam_driver}: the one there is is called default")
    if not (request.enable_ipv4 or request.enable_ipv6) and not request.config_only:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")


def _with_configuration(networks: Networks, request: NetworkRequest) -> NetworkRequest:
    """A request filled from a configuration-only network (`--config-from`)."""
    if not request.config_from:
        return request
    source = networks.get(request.config_from)
    if not source.config_only:
        raise Forbidden(f'network "{source.name}" is not a configuration network')
    if request.config_only:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    if request.options or request.pools or request.labels:
        raise Forbidden("user specified configurations are not supported if the network depends on a configuration network")
    return msgspec.structs.replace(
        request,
        config_from=source.name,
        enable_ipv4=source.enable_ipv4,
        enable_ipv6=source.enable_ipv6,
        pools=source.pools,
        options=source.options,
        labels=source.labels,
    )


def _pools(networks: Networks, request: NetworkRequest) -> tuple[IpamConfig, ...]:
    """The pools a network really gets, one per IP version that it has. Raises InvalidParameter, Forbidden, NotFound."""
    if not networks.driver(request.driver).addressed:
        return ()
    taken = [ip_network(pool.subnet) for other in networks.list() for pool in other.pools if pool.subnet and not other.config_only]
    wished = {4: [], 6: []}  # type: dict[int, list[IpamConfig]]
    for pool in request.pools:
        if pool.subnet:
            checked = checked_pool(pool)
            wished[ip_network(checked.subnet).version].append(checked)
        elif pool.ip_range or pool.gateway or pool.auxiliary_addresses:
            raise InvalidParameter(
                "invalid network config:\nevery ip-range, gateway or aux-address must have a corresponding subnet"
            )
    result = []
    for version, enabled in ((4, request.enable_ipv4), (6, request.enable_ipv6)):
        if not enabled:
            continue
        if len(wished[version]) > 1 and request.driver == "bridge":
            raise Forbidden(f"bridge driver doesn't support multiple subnets (IPv{version})")
        for pool in wished[version] or [_chosen_pool(networks, version, taken)]:
            if ip_network(pool.subnet).network_address.is_unspecified:  # only a size was asked for: 0.0.0.0/24, ::/96
                pool = _chosen_pool(networks, version, taken, size=ip_network(pool.subnet).prefixlen)
            elif wished[version]:
                refuse_overlap(ip_network(pool.subnet), taken)
                if request.driver == "bridge":  # others are part of a network that the host may well be in itself
                    refuse_route(networks.kernel, ip_network(pool.subnet), exempt=request.options.get(bridge.NAME, ""))
            taken.append(ip_network(pool.subnet))
            result.append(with_gateway(pool))
    return tuple(result)


def _chosen_pool(networks: Networks, version: int, taken: list[Prefix], *, size: int = 0) -> IpamConfig:
    """A free subnet of the default pools, of their size or of this one. Raises NotFound, InvalidParameter (larger than a pool)."""
    pools = networks.options.default_address_pools
    if size:
        pools = tuple(replace(pool, size=size) for pool in pools if pool.base.version == version and pool.base.prefixlen <= size)
        if not pools and version == 4:
            raise InvalidParameter(f"invalid subnet size /{size}: no default address pool is that large")
    if version == 4:
        return IpamConfig(subnet=str(choose_subnet(pools, taken, routed(networks.kernel))))
    chosen = choose_subnet6(pools, taken)
    if size and chosen.prefixlen < size:  # of a random unique local /64: its first part
        chosen = next(chosen.subnets(new_prefix=size))
    return IpamConfig(subnet=str(chosen))


# ── the host's own addresses and routes ────────────────────────────────────────────────────────────────────────────────────


def routed(kernel: Netlink, names: dict[int, str] | None = None) -> list[tuple[Prefix, str]]:
    """Every route of the host but the default ones, with the words that name it."""
    names = {link.index: link.name for link in kernel.links()} if names is None else names
    found = []
    for route in kernel.routes():
        if route.destination.prefixlen == 0 or route.destination.is_link_local or route.destination.is_multicast:
            continue
        via = f" via {route.gateway}" if route.gateway else ""
        found.append((route.destination, f"{route.destination}{via} dev {names.get(route.interface, route.interface)}"))
    return found


def refuse_route(kernel: Netlink, subnet: Prefix, *, exempt: str = "") -> None:
    """Refuse a subnet that would take the host's neighbourhood away: one that holds an address of the host, or is a route of it.

    A more special subnet inside a wider route is the administrator's to choose. Raises InvalidParameter naming the route.
    """
    names = {link.index: link.name for link in kernel.links()}
    for index, interface in kernel.addresses():
        if names.get(index) != exempt and interface.version == subnet.version and interface.ip in subnet:
            raise InvalidParameter(
                f"subnet {subnet} collides with the host's route {interface.network} dev {names.get(index, index)}: "
                f"{interface.ip} is the host's own address"
            )
    for prefix, name in routed(kernel, names):
        if prefix == subnet and not name.endswith(f"dev {exempt}"):
            raise InvalidParameter(f"subnet {subnet} collides with the host's route {name}")


def default_mtu(kernel: Netlink) -> int:
    """The packet size of the interface that leads out, at most 1500: a larger one would not pass, a smaller one must be known."""
    ways_out = {route.interface for route in kernel.routes() if route.destination.prefixlen == 0}
    sizes = [link.mtu for link in kernel.links() if link.index in ways_out] if ways_out else []
    return min([1500, *(size for size in sizes if size)])


# ── the default three ──────────────────────────────────────────────────────────────────────────────────────────────────────


def add_predefined(networks: Networks) -> None:
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


def _default_bridge(networks: Networks, old: Network | None) -> Network:
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


def _default_pools(networks: Networks, name: str, old: Network | None) -> tuple[IpamConfig, ...]:
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


def _default_pool6(networks: Networks, old: Network | None, taken: list[Prefix]) -> tuple[IpamConfig, ...]:
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

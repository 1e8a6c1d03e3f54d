"""How a network is planned: what was asked, checked and completed into a record, before any kernel object."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Protocol

import msgspec

from carrack.errors import Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from carrack.kernel.netlink import Netlink
from carrack.networks.drivers import bridge
from carrack.networks.drivers.driver import Driver
from carrack.networks.host_routes import Prefix, default_mtu, refuse_route, routed
from carrack.networks.ipam import checked_pool, choose_subnet, choose_subnet6, refuse_overlap, with_gateway
from carrack.networks.network import IpamConfig, Network
from carrack.networks.options import NetworkOptions

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.\- ]*[a-zA-Z0-9_.\-])?")
_PREDEFINED = ("bridge", "host", "none", "default")


class KnownNetworks(Protocol):
    """The networks that are there, as a new one must know them: `networks.Networks`."""

    instance: str
    options: NetworkOptions

    @property
    def kernel(self) -> Netlink: ...
    def driver(self, name: str) -> Driver:
        """What makes networks of that kind."""

    def has_driver(self, name: str) -> bool:
        """Whether there is such a kind of network."""

    def get(self, ref: str) -> Network: ...
    def list(self) -> Sequence[Network]: ...
    def adopt(self, network: Network) -> None: ...
    def abandon(self, network: Network) -> None: ...


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


def plan(networks: KnownNetworks, request: NetworkRequest) -> Network:
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


def _check(networks: KnownNetworks, request: NetworkRequest) -> None:
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


def _with_configuration(networks: KnownNetworks, request: NetworkRequest) -> NetworkRequest:
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


def _pools(networks: KnownNetworks, request: NetworkRequest) -> tuple[IpamConfig, ...]:
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


def _chosen_pool(networks: KnownNetworks, version: int, taken: list[Prefix], *, size: int = 0) -> IpamConfig:
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

"""Who can reach which port of a container, and why: read from what the firewall was told and from the host's own addresses. Pure.

A published port is reached by what reaches the host's address that it is published on. An address on an interface says who that may
be: a global one is the internet's, a private one that of the network it stands in, a loopback one this machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

import msgspec

from carrack.networks.drivers.bridge import gateway_mode, trusted_interfaces
from carrack.networks.endpoint import Endpoint, Publication
from carrack.networks.naming import relays_of
from carrack.networks.network import Network

Address = IPv4Interface | IPv6Interface
MACHINE = "this machine"


class Exposure(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One port that somebody beyond its own network can reach."""

    container_id: str
    container_name: str
    network: str
    protocol: str
    host_ip: str = msgspec.field(name="HostIP", default="")
    """Empty for a port that is reached at the container's own address."""
    host_port: int = 0
    container_ip: str = msgspec.field(name="ContainerIP", default="")
    container_port: int = 0
    """0: every port."""
    reached_from: tuple[str, ...] = ()
    internet: bool = False
    """Whether an address of the internet leads there."""
    because: tuple[str, ...] = ()
    """Why, and what else has a say."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the answer depends on beside networks and endpoints."""

    addresses: Sequence[tuple[str, Address]] = ()
    """(interface, address) of the host."""
    bridges: frozenset[str] = frozenset()
    direct_routing: bool = False
    user_rules: int = 0
    """How many rules the administrator's chain has."""
    other_firewalls: Sequence[str] = field(default=())
    """Chains of others that drop what is forwarded, unless they accept it."""


def exposures(pairs: Iterable[tuple[Network, Endpoint]], around: Surroundings) -> list[Exposure]:
    """Every port that is reachable from beyond its network, of endpoints with their networks."""
    found = []
    for network, endpoint in pairs:
        relayed = {spec.key for spec in relays_of(endpoint)}
        for port in endpoint.publications:
            by_relay = (port.protocol, port.host_ip, port.host_port) in relayed
            found.append(
                _published(network, endpoint, port, around, relayed=by_relay and (not endpoint.ipv6 or port.host_ip == "::1"))
            )
        found += _unprotected(network, endpoint, around)
    return sorted(
        found, key=lambda each: (each.container_name, each.protocol, each.container_port, ":" in each.host_ip, each.host_ip)
    )


def _published(network: Network, endpoint: Endpoint, port: Publication, around: Surroundings, *, relayed: bool) -> Exposure:
    version = 6 if ":" in port.host_ip else 4
    target = endpoint.ipv6 if version == 6 and endpoint.ipv6 else endpoint.ipv4
    if not port.host_port:
        reached, internet = _routed_from(target)
        because = [f"gateway mode routed: the port is open at the container's own address {target}"]
    else:
        reached, internet = _reached(port.host_ip, around)
        because = [_binding(port.host_ip)]
        direct = _direct(network, around)
        if direct and not relayed:
            reached = (*reached, *(f"{who}, at {target}" for who in direct))
            because.append("those may use the container's own address")
    if relayed:
        because.append("relayed by a process of this machine: its own input rules judge it, the container sees this machine")
    beyond = reached != (MACHINE,)
    if beyond and around.user_rules:
        because.append(f"{around.user_rules} rules of the chain user are asked first")
    if beyond and not relayed and around.other_firewalls:
        because.append(f"unless {', '.join(around.other_firewalls)} drops it")
    return Exposure(
        container_id=endpoint.container_id,
        container_name=endpoint.name,
        network=network.name,
        protocol=port.protocol,
        host_ip=port.host_ip if port.host_port else "",
        host_port=port.host_port,
        container_ip=target,
        container_port=port.container_port,
        reached_from=reached,
        internet=internet,
        because=tuple(because),
    )


def _unprotected(network: Network, endpoint: Endpoint, around: Surroundings) -> list[Exposure]:
    """An endpoint whose own addresses are open, all ports of them (nat-unprotected), unless its network is internal."""
    found = []
    for version, address in ((4, endpoint.ipv4), (6, endpoint.ipv6)):
        if address and not network.internal and network.driver == "bridge" and gateway_mode(network, version) == "nat-unprotected":
            reached, internet = _routed_from(address)
            rules = [f"{around.user_rules} rules of the chain user are asked first"] if around.user_rules else []
            found.append(
                Exposure(
                    container_id=endpoint.container_id,
                    container_name=endpoint.name,
                    network=network.name,
                    protocol="any",
                    container_ip=address,
                    reached_from=reached,
                    internet=internet,
                    because=("gateway mode nat-unprotected: every port is open at the container's own address", *rules),
                )
            )
    return found


def _routed_from(address: str) -> tuple[tuple[str, ...], bool]:
    internet = ip_address(address).is_global
    return (f"whoever has a route to {address}{', the internet included' if internet else ''}",), internet


def _direct(network: Network, around: Surroundings) -> list[str]:
    if around.direct_routing:
        return ["whoever has a route"]
    return [f"interface {name}" for name in trusted_interfaces(network)]


def _binding(host_ip: str) -> str:
    if host_ip in ("0.0.0.0", "::"):
        return f"published on every IPv{6 if ':' in host_ip else 4} address of this machine"
    if ip_address(host_ip).is_loopback:
        return "published on a loopback address, which nothing from outside is let through to"
    return f"published on {host_ip}"


def _reached(host_ip: str, around: Surroundings) -> tuple[tuple[str, ...], bool]:
    """Who reaches a host address, and whether the internet is among them."""
    wished = ip_address(host_ip)
    if wished.is_loopback:
        return (MACHINE,), False
    reached, internet = [MACHINE], False
    for interface, address in around.addresses:
        if address.ip.is_loopback or address.ip.is_link_local or address.version != wished.version:
            continue
        if not wished.is_unspecified and address.ip != wished:
            continue
        if interface in around.bridges:
            continue  # that is said of all of them at once
        internet = internet or address.ip.is_global
        reached.append(_neighbours(interface, address))
    if around.bridges and wished.is_unspecified:
        reached.append("containers of other networks")
    return tuple(reached), internet


def _neighbours(interface: str, address: Address) -> str:
    if address.ip.is_global:
        return f"the internet, at {address.ip} ({interface})"
    return f"the network {ip_interface(address).network} and what is routed there ({interface})"

"""An endpoint before anything is made: what is wished, checked, and the record that follows from it. Pure."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address, ip_address

from carrack.errors import Conflict, InvalidParameter
from carrack.networks.drivers.bridge import INTERFACE_PREFIX, gateway_mode, is_interface_name
from carrack.networks.drivers.interface import INTERFACE_NAME, endpoint_sysctls
from carrack.networks.endpoint import Endpoint, EndpointWish
from carrack.networks.network import Network

VETH_PREFIX = "ve"
VETH_LENGTH = len(VETH_PREFIX) + 12


def check_wish(network: Network, wish: EndpointWish) -> None:
    """Raises InvalidParameter in Docker's words for what a network cannot give."""
    for version, text in ((4, wish.ipv4), (6, wish.ipv6)):
        if text:
            _check_address(network, version, text)
    for text in wish.link_local:
        _check_link_local(text)
    endpoint_sysctls(wish.driver_options)
    name = wish.driver_options.get(INTERFACE_NAME, "")
    if name and (not is_interface_name(name) or name == "lo"):
        raise InvalidParameter(f"invalid interface name {name!r}: it is none that the kernel takes")
    if wish.mac:
        _check_mac(wish.mac)


def _check_address(network: Network, version: int, text: str) -> None:
    try:
        if ip_address(text).version != version:
            raise ValueError(text)
    except ValueError:
        raise InvalidParameter(f"invalid IPv{version} address: {text}") from None
    if network.predefined:
        raise InvalidParameter("user specified IP address is supported on user defined networks only")
    if not network.configured_subnet:
        raise InvalidParameter(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )


def _check_link_local(text: str) -> None:
    try:
        link_local = ip_address(text).is_link_local
    except ValueError:
        raise InvalidParameter(f"invalid link-local IP address: {text}") from None
    if not link_local:
        raise InvalidParameter(f"invalid link-local IP address: {text}: want one of 169.254.0.0/16 or fe80::/10")


def _check_mac(text: str) -> None:
    octets = text.replace("-", ":").split(":")
    try:
        packed = bytes.fromhex("".join(octets))
    except ValueError:
        packed = b""
    if len(packed) != 6 or any(len(octet) != 2 for octet in octets):
        raise InvalidParameter(f"invalid MAC address: {text}")
    if packed[0] & 1:
        raise InvalidParameter(f"invalid MAC address: {text}: it is a group's address")


def endpoint_for(
    network: Network, container_id: str, wish: EndpointWish, addresses: dict[int, str], *, linked: bool, host_end: bool
) -> Endpoint:
    """The record of a new endpoint with these addresses (by IP version), without its interface's name.

    `linked`: it will have an interface of its own; `host_end`: with another end on the host.
    """
    ipv4, ipv6 = addresses.get(4, ""), addresses.get(6, "")
    return Endpoint(
        id=secrets.token_hex(32),
        network_id=network.id,
        network_name=network.name,
        driver=network.driver,
        container_id=container_id,
        wish=wish,
        ipv4=ipv4,
        prefix=_prefix(network, ipv4),
        gateway=_gateway(network, ipv4),
        ipv6=ipv6,
        prefix6=_prefix(network, ipv6),
        gateway6=_gateway(network, ipv6),
        mac=(wish.mac.lower().replace("-", ":") or _mac_for(ipv4)) if linked else "",
        host_interface=VETH_PREFIX + secrets.token_hex(6) if host_end else "",
        mtu=network.mtu,
    )


def free_interface(network: Network, wish: EndpointWish, used: set[str]) -> str:
    """The name that is asked for, else the first that none of the container's endpoints has: ``eth0``, ``eth1``, …

    Raises Conflict when the one asked for is had.
    """
    if wished := wish.driver_options.get(INTERFACE_NAME, ""):
        if wished in used:
            raise Conflict(f"interface name {wished} is in use by another network of the container")
        return wished
    prefix = network.options.get(INTERFACE_PREFIX) or "eth"
    number = 0
    while f"{prefix}{number}" in used:
        number += 1
    return f"{prefix}{number}"


def _prefix(network: Network, address: str) -> int:
    pool = network.pool_of(address)
    return pool.network.prefixlen if pool is not None else 0


def _gateway(network: Network, address: str) -> str:
    """The address the default route leads to: none in an internal or isolated network."""
    pool = network.pool_of(address)
    if pool is None or network.internal or gateway_mode(network, pool.network.version) == "isolated":
        return ""
    return pool.way_out if network.driver == "bridge" else pool.gateway


def _mac_for(ipv4: str) -> str:
    """A MAC that follows from the address (so a neighbour's cache stays right when the address is reused), else a random one."""
    tail = IPv4Address(ipv4).packed if ipv4 else secrets.token_bytes(4)
    return (b"\x02\x42" + tail).hex(":")

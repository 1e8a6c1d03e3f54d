"""An endpoint before anything is made: what is wished, checked, and the record that follows from it. Pure."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address, ip_address, ip_network

from carrack.errors import InvalidParameter
from carrack.networks.drivers.bridge import INTERFACE_PREFIX, gateway_mode
from carrack.networks.drivers.interface import endpoint_sysctls
from carrack.networks.endpoint import Endpoint, EndpointWish
from carrack.networks.network import Network

VETH_PREFIX = "ve"
VETH_LENGTH = len(VETH_PREFIX) + 12


def check_wish(network: Network, wish: EndpointWish) -> None:
    """Raises InvalidParameter in Docker's words for what a network cannot give."""
    for version, text in ((4, wish.ipv4), (6, wish.ipv6)):
        if text:
            _check_address(network, version, text)
    endpoint_sysctls(wish.driver_options)
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
        prefix=_prefix(network, 4) if ipv4 else 0,
        gateway=_gateway(network, 4) if ipv4 else "",
        ipv6=ipv6,
        prefix6=_prefix(network, 6) if ipv6 else 0,
        gateway6=_gateway(network, 6) if ipv6 else "",
        mac=(wish.mac.lower().replace("-", ":") or _mac_for(ipv4)) if linked else "",
        host_interface=VETH_PREFIX + secrets.token_hex(6) if host_end else "",
        mtu=network.mtu,
    )


def free_interface(network: Network, used: set[str]) -> str:
    """The first name inside the container that none of its endpoints has: ``eth0``, ``eth1``, …"""
    prefix = network.options.get(INTERFACE_PREFIX) or "eth"
    number = 0
    while f"{prefix}{number}" in used:
        number += 1
    return f"{prefix}{number}"


def _prefix(network: Network, version: int) -> int:
    pool = network.pool4 if version == 4 else network.pool6
    return ip_network(pool.subnet).prefixlen if pool is not None else 0


def _gateway(network: Network, version: int) -> str:
    """The address the default route leads to: none in an internal or isolated network."""
    pool = network.pool4 if version == 4 else network.pool6
    if pool is None or network.internal or gateway_mode(network, version) == "isolated":
        return ""
    return pool.gateway


def _mac_for(ipv4: str) -> str:
    """A MAC that follows from the address (so a neighbour's cache stays right when the address is reused), else a random one."""
    tail = IPv4Address(ipv4).packed if ipv4 else secrets.token_bytes(4)
    return (b"\x02\x42" + tail).hex(":")

"""The container's side of an endpoint, whatever the driver made it of: addresses, routes, sysctls, up."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface

from carrack.errors import InvalidParameter
from carrack.kernel import sysctl
from carrack.kernel.netlink import Netlink
from carrack.networks.endpoint import Endpoint

INTERFACE_NAME = "com.docker.network.endpoint.ifname"
ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"
_ANY4, _ANY6 = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")
_LOOPBACK = 1


def configure_inside(endpoint: Endpoint, *, default_route: bool) -> None:
    """Give an endpoint's interface its addresses and routes. Runs in a thread that stands in the container's namespace.

    Nothing inside can be believed or named in a path: the namespace is new, or its container can change it at any time, and then
    harms itself only.
    """
    name = endpoint.interface
    if endpoint.ipv6 or any(":" in address for address in endpoint.wish.link_local):
        for setting in ("accept_ra", "accept_dad", "disable_ipv6"):
            sysctl.write_if_there(0, "net", "ipv6", "conf", name, setting)
    else:
        sysctl.write_if_there(1, "net", "ipv6", "conf", name, "disable_ipv6")
    if endpoint.wish.mac:
        # An address that is reused with another MAC: tell the neighbours when it comes up.
        sysctl.write_if_there(1, "net", "ipv4", "conf", name, "arp_notify")
    for key, value in endpoint_sysctls(endpoint.wish.driver_options):
        sysctl.write(value, *(name if part == "IFNAME" else part for part in key))
    with Netlink() as netlink:
        index = netlink.get_link(name).index
        if endpoint.ipv4:
            netlink.add_address(index, ip_interface(f"{endpoint.ipv4}/{endpoint.prefix}"))
        if endpoint.ipv6:
            netlink.add_address(index, ip_interface(f"{endpoint.ipv6}/{endpoint.prefix6}"))
        for address in endpoint.wish.link_local:
            netlink.add_address(index, ip_interface(f"{address}/{16 if '.' in address else 64}"))
        netlink.set_link(_LOOPBACK, up=True)
        netlink.set_link(index, up=True)
        if default_route:
            add_default_routes(netlink, endpoint, index)


def add_default_routes(netlink: Netlink, endpoint: Endpoint, index: int) -> None:
    """Lead everything unknown to the endpoint's gateways."""
    if endpoint.gateway:
        netlink.add_route(_ANY4, gateway=ip_address(endpoint.gateway), index=index)
    if endpoint.gateway6:
        netlink.add_route(_ANY6, gateway=ip_address(endpoint.gateway6), index=index)


def endpoint_sysctls(options: dict[str, str]) -> list[tuple[tuple[str, ...], str]]:
    """The sysctls of an endpoint's driver options (API 1.46): ``net.ipv4.conf.IFNAME.log_martians=1,…``, as key parts and value.

    Raises InvalidParameter unless each is a per-interface one of this endpoint: anything else would reach past it.
    """
    found = []
    for item in filter(None, options.get(ENDPOINT_SYSCTLS, "").split(",")):
        key, separator, value = item.partition("=")
        parts = tuple(key.split("."))
        sound = len(parts) == 5 and parts[0] == "net" and parts[3] == "IFNAME" and all(p.replace("_", "").isalnum() for p in parts)
        if not separator or not sound:
            raise InvalidParameter(f"invalid endpoint sysctl setting {item!r}: want net.<family>.<kind>.IFNAME.<name>=<value>")
        found.append((parts, value))
    return found


def reason(error: OSError) -> str:
    """What the kernel said, without the errno and the file name that str() adds."""
    return error.strerror or str(error)

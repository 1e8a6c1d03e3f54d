"""The host's own addresses and routes: what a network of ours must not take away, and how large a packet leads out."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from carrack.errors import InvalidParameter
from carrack.kernel.netlink import Netlink

Prefix = IPv4Network | IPv6Network


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

"""--network and its older companions (--ip, --link, --network-alias, …) as the API's EndpointSettings, one per network."""

from __future__ import annotations

from carrack.cli.containers.mounts import NetworkChoice
from carrack.cli.values import go_quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed

_NOT_USER_DEFINED = ("default", "bridge", "host", "none", "nat")


def check_mac(text: str) -> str:
    """A hardware address. Raises ValueError with Docker's text."""
    digits = text.strip().replace("-", ":").replace(".", "")
    parts = digits.split(":")
    hexadecimal = "".join(parts)
    plain = len(hexadecimal) in (12, 16, 40) and not hexadecimal.strip("0123456789abcdefABCDEF")
    if not plain or (len(parts) > 1 and any(len(part) != 2 for part in parts)):
        raise ValueError(f"{text} is not a valid mac address")
    return text


def build_endpoints(parsed: Parsed) -> dict[str, dict[str, Any]]:
    """The networks a command line names, as NetworkingConfig.EndpointsConfig. Raises ValueError with Docker's text."""
    choices: list[NetworkChoice] = list(parsed.value("network"))
    if not choices:
        choice = NetworkChoice("default")
        _apply_old_flags(choice, parsed)
        return {"default": _endpoint(choice)}
    endpoints: dict[str, dict[str, Any]] = {}
    user_defined = {_is_user_defined(choice.target) for choice in choices}
    for index, choice in enumerate(choices):
        if index == 0:
            _apply_old_flags(choice, parsed)
        endpoint = _endpoint(choice)
        if choice.target in endpoints:
            raise ValueError(f"network {go_quote(choice.target)} is specified multiple times")
        if len(choices) == 1 and endpoint == _EMPTY_ENDPOINT:
            continue  # the daemon joins the network of NetworkMode by itself
        endpoints[choice.target] = endpoint
    if len(user_defined) > 1:
        raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return endpoints


def _is_user_defined(target: str) -> bool:
    return target not in _NOT_USER_DEFINED and not target.startswith("container:")


def _apply_old_flags(choice: NetworkChoice, parsed: Parsed) -> None:
    """--network-alias, --link, --ip and their like belong to the first network."""
    aliases, links, link_local = parsed.items("network-alias"), parsed.items("link"), parsed.items("link-local-ip")
    ipv4, ipv6, mac = parsed.text("ip"), parsed.text("ip6"), parsed.text("mac-address")
    conflicts = (
        (choice.aliases and aliases, "--network-alias and per-network alias"),
        (choice.links and links, "--link and per-network links"),
        (choice.ipv4 and ipv4, "--ip and per-network IPv4 address"),
        (choice.ipv6 and ipv6, "--ip6 and per-network IPv6 address"),
        (choice.mac and mac, "--mac-address and per-network MAC address"),
        (choice.link_local and link_local, "--link-local-ip and per-network link-local IP addresses"),
    )
    for conflict, names in conflicts:
        if conflict:
            raise ValueError(f"conflicting options: cannot specify both {names}")
    choice.aliases = aliases or choice.aliases
    if links and _is_user_defined(choice.target):
        choice.links = links
    choice.ipv4 = ipv4 or choice.ipv4
    choice.ipv6 = ipv6 or choice.ipv6
    choice.mac = mac or choice.mac
    choice.link_local = link_local or choice.link_local


_EMPTY_ENDPOINT: dict[str, Any] = {
    "IPAMConfig": None,
    "Links": None,
    "Aliases": None,
    "MacAddress": "",
    "DriverOpts": None,
    "GwPriority": 0,
    "NetworkID": "",
    "EndpointID": "",
    "Gateway": "",
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "DNSNames": None,
}


def _endpoint(choice: NetworkChoice) -> dict[str, Any]:
    """The API's EndpointSettings for one network."""
    if not choice.target.strip():
        raise ValueError("no name set for network")
    if not _is_user_defined(choice.target):
        if choice.aliases:
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if choice.links:
            raise ValueError("links are only supported for user-defined networks")
    address = {"IPv4Address": choice.ipv4, "IPv6Address": choice.ipv6, "LinkLocalIPs": choice.link_local}
    return {
        **_EMPTY_ENDPOINT,
        "IPAMConfig": {name: value for name, value in address.items() if value} or None,
        "Links": choice.links or None,
        "Aliases": choice.aliases or None,
        "MacAddress": check_mac(choice.mac) if choice.mac else "",
        "DriverOpts": choice.driver_options or None,
        "GwPriority": choice.gateway_priority,
    }


def empty_endpoint() -> dict[str, Any]:
    """EndpointSettings that ask for nothing."""
    return dict(_EMPTY_ENDPOINT)

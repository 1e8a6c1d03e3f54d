"""What the instance's one nftables table says: a pure function of the networks and published ports.

Maps and sets keep the cost of a packet and of a change independent of their number. A network's coming or going replaces all that
is ours in one transaction; a published port adds or deletes elements.

    raw      loopback_guard     127.0.0.0/8 and ::1 arriving on anything but lo is dropped
    dstnat   prerouting,output  local destination only → publish: map (address, protocol, port) → container
    filter   forward            the administrator's chain `user`; what belongs to a connection whose first packet passed here;
                                internal networks closed; into a network: published ports, its own; out of it: anything; with the
                                guard: nothing else is forwarded by this machine
    filter   input              ports that a process relays, which are of IPv6: the chain `user` judges them too
    srcnat   postrouting        what leaves a network is masqueraded; so are translated packets whose answer must come back this way

The chain `user` is made when it is not there, and otherwise the administrator's: no transaction of ours changes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from carrack.networks.options import LINK_GROUP
from carrack.networks.table_marks import TOKEN_SET, USER_CHAIN

_ANY = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class BridgeRules:
    """What the table has to know of one bridge network. Subnets in CIDR, empty where the network has none of that family."""

    bridge: str
    subnet4: str = ""
    subnet6: str = ""
    internal: bool = False
    icc: bool = True
    masquerade4: bool = True
    masquerade6: bool = True
    direct4: str = "closed"
    """How an address of the network answers outsiders without translation: closed, published (routed), open (nat-unprotected)."""
    direct6: str = "closed"
    trusted: tuple[str, ...] = ()
    """Interfaces of the host whose packets may go to published ports by the container's own address."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """One published port: packets for `host_ip`:`host_port` go to `target_ip`:`target_port`. `host_ip` any: every local address.

    `host_port` 0: nothing is translated, the container's own port may be reached (routed networks).
    """

    protocol: str
    host_ip: str
    host_port: int
    target_ip: str
    target_port: int
    relayed: bool = False
    """Nothing is translated: a process of the host has the port."""

    @property
    def version(self) -> int:
        return 6 if ":" in self.target_ip else 4

    @property
    def key(self) -> tuple[str, str, int, int, bool]:
        return self.protocol, self.host_ip, self.host_port, self.version, self.relayed

    def elements(self) -> list[tuple[str, str]]:
        """(set or map, element) of all that stands for this port in the table."""
        if self.relayed:
            return [("relayed", f"{self.protocol} . {self.host_port}")]
        own = f"{self.target_ip} . {self.protocol} . {self.target_port}"
        if self.host_port == 0:
            return [(f"opened{self.version}", own)]
        wanted = f"{self.protocol} . {self.host_port}"
        name = f"ports{self.version}_any"
        if self.host_ip not in _ANY:
            name, wanted = f"ports{self.version}", f"{self.host_ip} . {wanted}"
        return [(name, f"{wanted} : {self.target_ip} . {self.target_port}"), (f"published{self.version}", own)]


@dataclass(slots=True)
class Ruleset:
    """Everything that the table follows from."""

    networks: dict[str, BridgeRules] = field(default_factory=dict)
    ports: dict[tuple[str, str, int, int, bool], list[Forwarding]] = field(default_factory=dict)
    """By `Forwarding.key`. Only of routed ports, which have no number on the host, several share a key."""
    elements: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many of the ports need each element of the table."""
    links: frozenset[str] = frozenset()
    """(from, to, protocol, port) between containers of networks that keep them apart: see links.py."""
    guard4: bool = False
    """We turned IPv4 forwarding on: nothing but the networks of Carrack instances is forwarded."""
    guard6: bool = False
    accept_mark: tuple[int, int] | None = None
    """(mark, mask): packets that carry it pass (`--bridge-accept-fwmark`)."""
    direct_routing: bool = False
    """Outsiders may reach published ports by the container's own address (`--allow-direct-routing`)."""


_SETS = {
    TOKEN_SET: "mark",
    "bridges": "ifname",
    "internal": "ifname",
    "within": "ifname . ifname",
    "trusted": "ifname . ifname",
    "subnets4": "ipv4_addr; flags interval",
    "subnets6": "ipv6_addr; flags interval",
    "masquerade4": "ipv4_addr; flags interval",
    "masquerade6": "ipv6_addr; flags interval",
    "open4": "ifname",
    "open6": "ifname",
    "opened4": "ipv4_addr . inet_proto . inet_service",
    "opened6": "ipv6_addr . inet_proto . inet_service",
    "linked4": "ipv4_addr . ipv4_addr . inet_proto . inet_service",
    "published4": "ipv4_addr . inet_proto . inet_service",
    "published6": "ipv6_addr . inet_proto . inet_service",
    "relayed": "inet_proto . inet_service",
}
_MAPS = {
    "ports4": "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "ports4_any": "inet_proto . inet_service : ipv4_addr . inet_service",
    "ports6": "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
    "ports6_any": "inet_proto . inet_service : ipv6_addr . inet_service",
}


def _contents(ruleset: Ruleset) -> dict[str, set[str]]:
    """The elements of every set and map that has some."""
    found: dict[str, set[str]] = {}
    for network in ruleset.networks.values():
        bridge = f'"{network.bridge}"'
        for name, element, belongs in (
            ("bridges", bridge, True),
            ("internal", bridge, network.internal),
            ("within", f"{bridge} . {bridge}", network.icc),
            ("subnets4", network.subnet4, network.subnet4),
            ("subnets6", network.subnet6, network.subnet6),
            ("masquerade4", network.subnet4, network.subnet4 and network.masquerade4),
            ("masquerade6", network.subnet6, network.subnet6 and network.masquerade6),
            ("open4", bridge, network.direct4 == "open"),
            ("open6", bridge, network.direct6 == "open"),
            *(("trusted", f'"{interface}" . {bridge}', True) for interface in network.trusted),
        ):
            if belongs:
                found.setdefault(name, set()).add(element)
    for name, element in ruleset.elements:
        found.setdefault(name, set()).add(element)
    if ruleset.links:
        found["linked4"] = set(ruleset.links)
    return found


_BRIDGES_OF_OTHERS = ("docker*", "br-*", "podman*", "cni*", "virbr*", "lxcbr*", "lxdbr*", "incusbr*")
"""As dockerd, podman, CNI, libvirt, LXC and Incus name what they forward for."""


def _guard(ruleset: Ruleset) -> str:
    if not (ruleset.guard4 or ruleset.guard6):
        return ""
    if ruleset.guard4 and ruleset.guard6:
        verdict = "    drop"
    else:
        verdict = f"    meta nfproto {'ipv4' if ruleset.guard4 else 'ipv6'} drop"
    # Another instance's networks are closed by its own table; its bridges are known by their group.
    passing = [f"meta iifgroup {LINK_GROUP} accept", f"meta oifgroup {LINK_GROUP} accept"]
    # Other engines' networks would be cut off by a guard that they know nothing of. New connections from outside to their
    # addresses, which dockerd leaves open where it finds forwarding on already, stay closed.
    passing += ["ct state established,related accept", "ct status dnat accept"]
    passing += [f'iifname "{name}" accept' for name in _BRIDGES_OF_OTHERS]
    return "".join(f"    {rule}\n" for rule in passing) + f"{verdict}\n"


def _exceptions(ruleset: Ruleset) -> str:
    if ruleset.accept_mark is None:
        return ""
    mark, mask = ruleset.accept_mark
    return f"    meta mark and {mask:#x} == {mark:#x} accept\n"


CHAINS = {
    "loopback_guard": "filter hook prerouting priority -300",
    "prerouting": "nat hook prerouting priority -100",
    "output": "nat hook output priority -100",
    "publish": "",
    "forward": "filter hook forward priority 0",
    "inbound": "",
    "direct": "",
    "input": "filter hook input priority 0",
    "postrouting": "nat hook postrouting priority 100",
}
"""Every chain of ours and where the kernel comes to it; nowhere: it is only jumped to."""
_RULES = """\
  chain loopback_guard {{
    iif lo accept
    ip daddr 127.0.0.0/8 drop
    ip saddr 127.0.0.0/8 iifname @bridges drop
    ip6 daddr ::1 drop
  }}
  chain prerouting {{
    fib daddr type local jump publish
  }}
  chain output {{
    fib daddr type local jump publish
  }}
  chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports4
    dnat ip to meta l4proto . th dport map @ports4_any
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
    ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @ports6_any
  }}
  chain forward {{
    jump user
    ct state established,related accept
{exceptions}    iifname . oifname @within accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges jump inbound
    iifname @bridges accept
{guard}  }}
  chain inbound {{
    ct status dnat accept
    ip saddr . ip daddr . meta l4proto . th dport @linked4 accept
    ip daddr . meta l4proto . th dport @opened4 accept
    ip6 daddr . meta l4proto . th dport @opened6 accept
    {direct} jump direct
    iifname != @bridges oifname @open4 meta nfproto ipv4 accept
    iifname != @bridges oifname @open6 meta nfproto ipv6 accept
    drop
  }}
  chain direct {{
    ip daddr . meta l4proto . th dport @published4 accept
    ip6 daddr . meta l4proto . th dport @published6 accept
  }}
  chain input {{
    meta nfproto ipv6 meta l4proto . th dport @relayed jump user
  }}
  chain postrouting {{
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ct status dnat ip saddr @subnets4 masquerade
    oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
    oifname != @bridges ip saddr @masquerade4 masquerade
    oifname != @bridges ip6 saddr @masquerade6 masquerade
  }}
"""


def render(table: str, ruleset: Ruleset) -> str:
    """The commands that make everything of ours in the table what the ruleset says, whatever it was before, in one transaction."""
    contents = _contents(ruleset)
    chains = [f"{name} {{ {f'type {hook}; policy accept;' if hook else ''} }}" for name, hook in CHAINS.items()]
    kinds = [*(("set", name, kind) for name, kind in _SETS.items()), *(("map", name, kind) for name, kind in _MAPS.items())]
    declared = [f"chain {USER_CHAIN} {{ }}", *(f"chain {chain}" for chain in chains)]
    declared += [f"{what} {name} {{ type {kind}; }}" for what, name, kind in kinds]
    lines = [f"table inet {table} {{", *(f"  {each}" for each in declared), "}"]
    lines += [f"flush chain inet {table} {name}" for name in CHAINS]
    for what, name, _ in kinds:
        lines.append(f"flush {what} inet {table} {name}")
        if elements := contents.get(name):
            lines.append(f"add element inet {table} {name} {{ {', '.join(sorted(elements))} }}")
    direct = "iifname != @bridges" if ruleset.direct_routing else "iifname . oifname @trusted"
    rules = _RULES.format(guard=_guard(ruleset), exceptions=_exceptions(ruleset), direct=direct)
    return "\n".join([*lines, f"table inet {table} {{", f"{rules}}}", ""])

"""The instance's one nftables table: what it says is a pure function of the networks and published ports that it is told of.

Maps and sets keep the cost of a packet and of a change independent of their number. A network's coming or going replaces all that
is ours in one transaction; a published port adds or deletes elements. The order of what must be closed before what is opened
(law 4) is kept by those who call: the loopback guard stands in the table before route_localnet is set on a bridge.

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

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from carrack.kernel.nftables import Nftables, NftablesError, new_token
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


_HOOKS = {
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
    chains = [f"{name} {{ {f'type {hook}; policy accept;' if hook else ''} }}" for name, hook in _HOOKS.items()]
    kinds = [*(("set", name, kind) for name, kind in _SETS.items()), *(("map", name, kind) for name, kind in _MAPS.items())]
    declared = [f"chain {USER_CHAIN} {{ }}", *(f"chain {chain}" for chain in chains)]
    declared += [f"{what} {name} {{ type {kind}; }}" for what, name, kind in kinds]
    lines = [f"table inet {table} {{", *(f"  {each}" for each in declared), "}"]
    lines += [f"flush chain inet {table} {name}" for name in _HOOKS]
    for what, name, _ in kinds:
        lines.append(f"flush {what} inet {table} {name}")
        if elements := contents.get(name):
            lines.append(f"add element inet {table} {name} {{ {', '.join(sorted(elements))} }}")
    direct = "iifname != @bridges" if ruleset.direct_routing else "iifname . oifname @trusted"
    rules = _RULES.format(guard=_guard(ruleset), exceptions=_exceptions(ruleset), direct=direct)
    return "\n".join([*lines, f"table inet {table} {{", f"{rules}}}", ""])


class Firewall:
    """The table in the kernel, kept equal to a `Ruleset`. Each change is one transaction; refused, neither of the two changes."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.rules = Ruleset()
        self._nft = Nftables()
        self._turn = threading.Lock()
        self._tokens: set[int] = set()

    def assert_table(self) -> None:
        """Put the whole table there, replacing what is."""
        with self._turn:
            self._replace()

    def _replace(self) -> None:
        try:
            self._commit(render(self.table, self.rules))
        except NftablesError:
            # Somebody made objects of our names that are of another kind: the table goes whole, but for the user's chain.
            kept = "".join(f"add rule inet {self.table} {USER_CHAIN} {rule}\n" for rule in self.user_rules())
            self._commit(f"add table inet {self.table}\ndelete table inet {self.table}\n{render(self.table, self.rules)}{kept}")

    def user_rules(self) -> list[str]:
        """The administrator's own rules."""
        try:
            listed = self._nft.run(f"list chain inet {self.table} {USER_CHAIN}\n")
        except NftablesError:
            return []
        lines = [line.strip() for line in listed.splitlines()]
        return [line for line in lines if line and not line.startswith(("table ", "chain ")) and line != "}"]

    def others_that_drop(self) -> list[str]:
        """The base chains of other tables that forwarded packets must pass, and whose policy is to drop them."""
        try:
            listed = self._nft.run("list chains\n")
        except NftablesError:
            return []
        found, table, chain = [], "", ""
        for words in map(str.split, listed.splitlines()):
            if words[:1] == ["table"]:
                table = " ".join(words[1:3])
            elif words[:1] == ["chain"]:
                chain = words[1]
            elif {"hook", "forward"} <= set(words) and "drop;" in words and table != f"inet {self.table}":
                found.append(f"{table} {chain}")
        return found

    def set_network(self, network_id: str, rules: BridgeRules | None) -> None:
        """Add or change a network; None removes it."""
        with self._turn:
            before = dict(self.rules.networks)
            if rules is None:
                self.rules.networks.pop(network_id, None)
            else:
                self.rules.networks[network_id] = rules
            try:
                self._replace()
            except NftablesError:
                self.rules.networks = before
                raise

    def set_links(self, links: frozenset[str]) -> None:
        """What containers of networks that keep them apart may reach of each other."""
        with self._turn:
            gone, new = self.rules.links - links, links - self.rules.links
            self.rules.links = links
            changes = {"delete": gone, "add": new}
            commands = "".join(
                f"{verb} element inet {self.table} linked4 {{ {', '.join(sorted(elements))} }}\n"
                for verb, elements in changes.items()
                if elements
            )
            if commands:
                try:
                    self._commit(commands)
                except NftablesError:
                    self._replace()  # as for ports: the table was edited under us

    def set_guard(self, *, ipv4: bool | None = None, ipv6: bool | None = None) -> None:
        """Forward nothing that belongs to no network (or go back to forwarding the rest untouched)."""
        with self._turn:
            before = self.rules.guard4, self.rules.guard6
            if ipv4 is not None:
                self.rules.guard4 = ipv4
            if ipv6 is not None:
                self.rules.guard6 = ipv6
            try:
                self._replace()
            except NftablesError:
                self.rules.guard4, self.rules.guard6 = before
                raise

    def publish(self, ports: Iterable[Forwarding]) -> None:
        """Lead host ports to a container, or open its own."""
        with self._turn:
            self._change("add", list(ports))

    def unpublish(self, ports: Iterable[Forwarding]) -> None:
        """Take published ports away; those that are not there do not matter."""
        with self._turn:
            self._change("delete", list(ports))

    def restore(self, ports: Iterable[Forwarding]) -> None:
        """Enter published ports that a later `assert_table` puts into the kernel."""
        for port in ports:
            self._note("add", port)

    def close(self, *, keep: bool) -> None:
        """Free the context; without `keep` the table goes too."""
        with self._turn:
            if not keep:
                self._nft.run(f"add table inet {self.table}\ndelete table inet {self.table}\n")
            self._nft.close()

    def run_beside(self, commands: str, *, handles: bool = False) -> str:
        """Run commands that concern other tables too, known as ours to those who watch; or list something with its handles.

        Raises NftablesError.
        """
        with self._turn:
            if handles:
                return self._nft.run(commands, handles=True)
            self._commit(commands)
            return ""

    def recognise(self, token: int | None) -> bool:
        """Whether a transaction that the monitor saw was one of ours (each is recognised once)."""
        if token is None or token not in self._tokens:
            return False
        self._tokens.discard(token)
        return True

    def forget_tokens(self) -> None:
        """Reports were lost: those of ours that still wait to be recognised may be among them."""
        self._tokens.clear()

    def intact(self) -> bool:
        """Whether the table is there with all its chains: a look for when reports were lost."""
        try:
            with self._turn:
                listed = self._nft.run(f"list table inet {self.table}\n")
        except NftablesError:
            return False
        return all(f"chain {name} {{" in listed for name in _HOOKS)

    def _change(self, verb: str, ports: list[Forwarding]) -> None:
        elements: dict[str, list[str]] = {}
        for port in ports:
            for name, element in self._note(verb, port):
                elements.setdefault(name, []).append(element)
        if not elements:
            return
        commands = "".join(f"{verb} element inet {self.table} {name} {{ {', '.join(e)} }}\n" for name, e in elements.items())
        try:
            self._commit(commands)
        except NftablesError:
            # The table was flushed or edited under us: what the rules now say goes there whole.
            self._replace()

    def _note(self, verb: str, port: Forwarding) -> list[tuple[str, str]]:
        """Change the rules in memory; return the elements that the table needs or loses, if any."""
        known = self.rules.ports.setdefault(port.key, [])
        if verb == "add":
            known.append(port)
        elif port in known:
            known.remove(port)
        else:
            return []
        if not known:
            del self.rules.ports[port.key]
        changed = []
        for element in port.elements():
            self.rules.elements[element] += 1 if verb == "add" else -1
            if self.rules.elements[element] == (1 if verb == "add" else 0):
                changed.append(element)
            if not self.rules.elements[element]:
                del self.rules.elements[element]
        return changed

    def _commit(self, commands: str) -> None:
        token = new_token()
        self._tokens.add(token)
        mark = f"flush set inet {self.table} {TOKEN_SET}\nadd element inet {self.table} {TOKEN_SET} {{ {token:#x} }}\n"
        try:
            self._nft.run(commands + mark)
        except NftablesError:
            self._tokens.discard(token)
            raise

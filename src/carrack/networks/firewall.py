"""The instance's one nftables table: what it says is a pure function of the networks and published ports that it is told of.

Maps and sets keep the cost of a packet and of a change independent of their number. A network's coming or going replaces the whole
table in one transaction; a published port adds or deletes elements. The order of what must be closed before what is opened (law 4)
is kept by those who call: the loopback guard stands in the table before route_localnet is set on a bridge.

    raw      loopback_guard   127.0.0.0/8 and ::1 arriving on anything but lo is dropped
    dstnat   prerouting,output  local destination only → publish: map (address, protocol, port) → container
    filter   forward          internal networks closed; into a network: replies, published ports, its own; out of it: anything;
                              with the guard: nothing else is forwarded by this machine
    srcnat   postrouting      what leaves a network is masqueraded; so are translated packets whose answer must come back this way
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from carrack.kernel.nftables import Nftables, NftablesError, new_token
from carrack.networks.options import LINK_GROUP

TOKEN_SET = "transactions"
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

    @property
    def version(self) -> int:
        return 6 if ":" in self.target_ip else 4

    def element(self) -> tuple[str, str]:
        """(map, element) that stands for this port in the table."""
        key = f"{self.protocol} . {self.host_port}"
        if self.host_ip in _ANY:
            name = f"ports{self.version}_any"
        else:
            name = f"ports{self.version}"
            key = f"{self.host_ip} . {key}"
        return name, f"{key} : {self.target_ip} . {self.target_port}"

    def opening(self) -> tuple[str, str]:
        """(set, element) for networks whose published ports are reached by the container's own address."""
        return f"opened{self.version}", f"{self.target_ip} . {self.protocol} . {self.target_port}"


@dataclass(slots=True)
class Ruleset:
    """Everything that the table follows from."""

    networks: dict[str, BridgeRules] = field(default_factory=dict)
    ports: dict[tuple[str, str, int, int], Forwarding] = field(default_factory=dict)
    """By protocol, host address, host port, IP version."""
    openings: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """How many publications open each container port of a routed network."""
    guard4: bool = False
    """We turned IPv4 forwarding on: nothing but the networks of Carrack instances is forwarded."""
    guard6: bool = False


def _set(name: str, kind: str, elements: Iterable[str], flags: str = "") -> str:
    lines = [f"  set {name} {{", f"    type {kind}"]
    if flags:
        lines.append(f"    flags {flags}")
    if listed := ", ".join(sorted(set(elements))):
        lines.append(f"    elements = {{ {listed} }}")
    return "\n".join([*lines, "  }"])


def _map(name: str, key: str, value: str, elements: Iterable[str]) -> str:
    lines = [f"  map {name} {{", f"    type {key} : {value}"]
    if listed := ", ".join(sorted(elements)):
        lines.append(f"    elements = {{ {listed} }}")
    return "\n".join([*lines, "  }"])


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _sets(ruleset: Ruleset) -> list[str]:
    networks = list(ruleset.networks.values())
    targets: dict[str, list[str]] = {name: [] for name in ("ports4", "ports4_any", "ports6", "ports6_any")}
    for port in ruleset.ports.values():
        name, element = port.element()
        targets[name].append(element)
    opened = {
        version: [" . ".join(map(str, key)) for key in ruleset.openings if (":" in key[0]) == (version == 6)] for version in (4, 6)
    }
    return [
        _set(TOKEN_SET, "mark", ()),
        _set("bridges", "ifname", _quoted(network.bridge for network in networks)),
        _set("internal", "ifname", _quoted(network.bridge for network in networks if network.internal)),
        _set("within", "ifname . ifname", (f'"{network.bridge}" . "{network.bridge}"' for network in networks if network.icc)),
        _set("subnets4", "ipv4_addr", (network.subnet4 for network in networks if network.subnet4), "interval"),
        _set("subnets6", "ipv6_addr", (network.subnet6 for network in networks if network.subnet6), "interval"),
        _set("masquerade4", "ipv4_addr", (n.subnet4 for n in networks if n.subnet4 and n.masquerade4), "interval"),
        _set("masquerade6", "ipv6_addr", (n.subnet6 for n in networks if n.subnet6 and n.masquerade6), "interval"),
        _set("open4", "ifname", _quoted(network.bridge for network in networks if network.direct4 == "open")),
        _set("open6", "ifname", _quoted(network.bridge for network in networks if network.direct6 == "open")),
        _set("opened4", "ipv4_addr . inet_proto . inet_service", opened[4]),
        _set("opened6", "ipv6_addr . inet_proto . inet_service", opened[6]),
        _map("ports4", "ipv4_addr . inet_proto . inet_service", "ipv4_addr . inet_service", targets["ports4"]),
        _map("ports4_any", "inet_proto . inet_service", "ipv4_addr . inet_service", targets["ports4_any"]),
        _map("ports6", "ipv6_addr . inet_proto . inet_service", "ipv6_addr . inet_service", targets["ports6"]),
        _map("ports6_any", "inet_proto . inet_service", "ipv6_addr . inet_service", targets["ports6_any"]),
    ]


def _guard(ruleset: Ruleset) -> str:
    if not (ruleset.guard4 or ruleset.guard6):
        return ""
    if ruleset.guard4 and ruleset.guard6:
        verdict = "    drop"
    else:
        verdict = f"    meta nfproto {'ipv4' if ruleset.guard4 else 'ipv6'} drop"
    # Another instance's networks are closed by its own table; its bridges are known by their group.
    return f"    meta iifgroup {LINK_GROUP} accept\n    meta oifgroup {LINK_GROUP} accept\n{verdict}\n"


_CHAINS = """\
  chain loopback_guard {{
    type filter hook prerouting priority -300; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    iifname != "lo" ip6 daddr ::1 drop
    iifname @bridges ip saddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
  }}
  chain publish {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports4
    dnat ip to meta l4proto . th dport map @ports4_any
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
    ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @ports6_any
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname . oifname @within accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges jump inbound
    iifname @bridges accept
{guard}  }}
  chain inbound {{
    ct state established,related accept
    ct status dnat accept
    ip daddr . meta l4proto . th dport @opened4 accept
    ip6 daddr . meta l4proto . th dport @opened6 accept
    iifname != @bridges oifname @open4 meta nfproto ipv4 accept
    iifname != @bridges oifname @open6 meta nfproto ipv6 accept
    drop
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ct status dnat ip saddr @subnets4 masquerade
    oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
    oifname != @bridges ip saddr @masquerade4 masquerade
    oifname != @bridges ip6 saddr @masquerade6 masquerade
  }}
"""


def render(table: str, ruleset: Ruleset) -> str:
    """The commands that replace the table by what the ruleset says, whatever it was before, in one transaction."""
    body = "\n".join([*_sets(ruleset), _CHAINS.format(guard=_guard(ruleset))])
    return f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}}}\n"


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
            self._commit(render(self.table, self.rules))

    def set_network(self, network_id: str, rules: BridgeRules | None) -> None:
        """Add or change a network; None removes it."""
        with self._turn:
            before = dict(self.rules.networks)
            if rules is None:
                self.rules.networks.pop(network_id, None)
            else:
                self.rules.networks[network_id] = rules
            try:
                self._commit(render(self.table, self.rules))
            except NftablesError:
                self.rules.networks = before
                raise

    def set_guard(self, *, ipv4: bool | None = None, ipv6: bool | None = None) -> None:
        """Forward nothing that belongs to no network (or go back to forwarding the rest untouched)."""
        with self._turn:
            before = self.rules.guard4, self.rules.guard6
            if ipv4 is not None:
                self.rules.guard4 = ipv4
            if ipv6 is not None:
                self.rules.guard6 = ipv6
            try:
                self._commit(render(self.table, self.rules))
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
        return all(f"chain {name} {{" in listed for name in ("loopback_guard", "publish", "forward", "inbound", "postrouting"))

    def _change(self, verb: str, ports: list[Forwarding]) -> None:
        elements: dict[str, list[str]] = {}
        for port in ports:
            name, element = self._note(verb, port)
            if name:
                elements.setdefault(name, []).append(element)
        if not elements:
            return
        commands = "".join(f"{verb} element inet {self.table} {name} {{ {', '.join(e)} }}\n" for name, e in elements.items())
        try:
            self._commit(commands)
        except NftablesError:
            # The table was flushed or edited under us: what the rules now say goes there whole.
            self._commit(render(self.table, self.rules))

    def _note(self, verb: str, port: Forwarding) -> tuple[str, str]:
        """Change the rules in memory; return the element that the table needs or loses, if any."""
        if port.host_port:
            key = (port.protocol, port.host_ip, port.host_port, port.version)
            known = self.rules.ports.get(key)
            if verb == "add":
                self.rules.ports[key] = port
                return port.element()
            if known != port:
                return "", ""
            del self.rules.ports[key]
            return port.element()
        opening = (port.target_ip, port.protocol, port.target_port)
        count = self.rules.openings.get(opening, 0) + (1 if verb == "add" else -1)
        if count > 0:
            self.rules.openings[opening] = count
        else:
            self.rules.openings.pop(opening, None)
        changed = count == 1 if verb == "add" else count == 0
        return port.opening() if changed else ("", "")

    def _commit(self, commands: str) -> None:
        token = new_token()
        self._tokens.add(token)
        mark = f"flush set inet {self.table} {TOKEN_SET}\nadd element inet {self.table} {TOKEN_SET} {{ {token:#x} }}\n"
        try:
            self._nft.run(commands + mark)
        except NftablesError:
            self._tokens.discard(token)
            raise

"""The instance's one nftables table in the kernel, kept equal to a ruleset (`ruleset.py`): each change is one transaction.

The order of what must be closed before what is opened (law 4) is kept by those who call: the loopback guard stands in the table
before route_localnet is set on a bridge.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from carrack.kernel.nftables import Nftables, NftablesError, new_token
from carrack.networks.ruleset import CHAINS, BridgeRules, Forwarding, Ruleset, render
from carrack.networks.table_marks import TOKEN_SET, USER_CHAIN


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
        return all(f"chain {name} {{" in listed for name in CHAINS)

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

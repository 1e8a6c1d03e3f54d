"""Living beside a running dockerd: its iptables rules set the policy of FORWARD to DROP, which would hit our networks as well.

dockerd leaves one chain to others, DOCKER-USER, and consults it first. While that chain exists (in the tables that iptables-nft
keeps), it jumps to a chain of ours that accepts what comes from or goes to one of our bridges. Nothing is opened by that: an accept
there ends dockerd's judgement only, our own table still judges every one of these packets. The rules are of the kind that iptables
itself writes, so that dockerd and iptables(8) can go on reading their table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from carrack.kernel.nftables import NftablesError
from carrack.networks.firewall import Firewall
from carrack.networks.options import DEFAULT_INSTANCE

FILTER_TABLE = "filter"
_CHAIN = "DOCKER-USER"
_FAMILIES = ("ip", "ip6")
_HANDLE = re.compile(r"jump (\S+) # handle (\d+)")


class BesideDocker:
    """The rules of one instance in dockerd's chain."""

    def __init__(self, instance: str, firewall: Firewall) -> None:
        self._firewall = firewall
        self._name = "CARRACK" if instance == DEFAULT_INSTANCE else "CARRACK-" + hashlib.sha256(instance.encode()).hexdigest()[:8]

    def assert_rules(self, bridges: Sequence[str]) -> None:
        """Let these bridges' packets through wherever dockerd's chain exists. Idempotent; writes only what is missing."""
        wanted = [f'{way} "{bridge}" counter accept' for bridge in sorted(bridges) for way in ("iifname", "oifname")]
        for family in _FAMILIES:
            jumps = self._jumps(family)
            if jumps is None or (jumps and self._present(family) == wanted):
                continue
            chain = f"{family} {FILTER_TABLE} {self._name}"
            commands = [f"add chain {chain}", f"flush chain {chain}", *(f"add rule {chain} {rule}" for rule in wanted)]
            if not jumps:
                commands.append(f"insert rule {family} {FILTER_TABLE} {_CHAIN} counter jump {self._name}")
            self._run(commands)

    def remove_rules(self) -> None:
        """Take everything of ours away again; what is not there does not matter."""
        for family in _FAMILIES:
            jumps = self._jumps(family)
            if jumps is None:
                continue
            commands = [f"delete rule {family} {FILTER_TABLE} {_CHAIN} handle {handle}" for handle in jumps]
            if self._present(family) is not None:
                chain = f"{family} {FILTER_TABLE} {self._name}"
                commands += [f"flush chain {chain}", f"delete chain {chain}"]
            if commands:
                self._run(commands)

    def _jumps(self, family: str) -> list[str] | None:
        """The handles of the rules in dockerd's chain that lead to ours; None: there is no such chain."""
        try:
            listed = self._firewall.run_beside(f"list chain {family} {FILTER_TABLE} {_CHAIN}\n", handles=True)
        except NftablesError:
            return None
        return [handle for name, handle in _HANDLE.findall(listed) if name == self._name]

    def _present(self, family: str) -> list[str] | None:
        """The rules of our chain, without their counts; None: there is no such chain."""
        try:
            listed = self._firewall.run_beside(f"list chain {family} {FILTER_TABLE} {self._name}\n", handles=True)
        except NftablesError:
            return None
        lines = (
            re.sub(r"counter packets \d+ bytes \d+", "counter", line.split(" # handle")[0].strip()) for line in listed.splitlines()
        )
        return [line for line in lines if line.endswith("accept")]

    def _run(self, commands: Sequence[str]) -> None:
        try:
            self._firewall.run_beside("".join(f"{command}\n" for command in commands))
        except NftablesError:
            pass  # dockerd is changing its chain this instant: the watch hears of it and we come again

"""Who else on this machine drops what is forwarded to and from containers, and the command that has it let them pass.

Our table judges our packets; an accept there ends no other table's judgement. ufw and dockerd set the policy of iptables' FORWARD
to drop; firewalld rejects at the end of its own chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from carrack.doctor.finding import Finding, Verdict
from carrack.errors import CarrackError
from carrack.kernel.nftables import Nftables

_SUBJECT = "other firewalls"
_CHAIN = re.compile(r"chain (\S+) \{\s*type filter hook forward [^}]*policy (\w+);")


def other_firewalls() -> Iterator[Finding]:
    """One finding for each that is there."""
    tables = {name: listing for name in _tables() if (listing := _run(f"list table {name}"))}
    legacy = {name: text for name, text in tables.items() if name in ("ip filter", "ip6 filter")}
    dropping = [f"{name} {chain}" for name, text in tables.items() for chain, policy in _CHAIN.findall(text) if policy == "drop"]
    if any("chain DOCKER-USER " in text for text in legacy.values()):
        # dockerd's chain is asked first, and what it accepts is accepted by all that iptables has, ufw's included
        yield Finding(_SUBJECT, Verdict.GOOD, "dockerd's: carrackd lets its own networks through (--beside-docker, on by default)")
        dropping = [chain for chain in dropping if not chain.startswith(("ip filter ", "ip6 filter "))]
    elif any("chain ufw-" in text for text in legacy.values()) and any(chain.startswith("ip filter ") for chain in dropping):
        yield _ufw(legacy)
        dropping = [chain for chain in dropping if not chain.startswith(("ip filter ", "ip6 filter "))]
    if "inet firewalld" in tables:
        yield _firewalld(tables["inet firewalld"])
        dropping = [chain for chain in dropping if not chain.startswith("inet firewalld ")]
    if dropping:
        advice = (
            'have it accept what is forwarded from and to containers, in nftables\' words: iifname { "carrack0", "br-*" } accept; '
            'oifname { "carrack0", "br-*" } accept'
        )
        yield Finding(_SUBJECT, Verdict.LACKING, f"forwarded packets are dropped by {', '.join(dropping)}", advice)


def _ufw(tables: dict[str, str]) -> Finding:
    if "carrack" in tables.get("ip filter", "").partition("chain ufw-user-forward ")[2].partition("}")[0]:
        return Finding(_SUBJECT, Verdict.GOOD, "ufw lets containers' packets through")
    advice = "ufw route allow in on carrack0; ufw route allow out on carrack0 (the networks that users make: br-+ instead)"
    return Finding(_SUBJECT, Verdict.LACKING, "ufw drops what containers send out and what published ports receive", advice)


def _firewalld(table: str) -> Finding:
    if "carrack0" in table:
        return Finding(_SUBJECT, Verdict.GOOD, "firewalld knows carrack0's zone")
    advice = "firewall-cmd --permanent --zone=trusted --add-interface=carrack0 && firewall-cmd --reload (each network's br-… too)"
    return Finding(_SUBJECT, Verdict.LACKING, "firewalld rejects what containers send out and published ports receive", advice)


def _tables() -> list[str]:
    """Of others, as `family name`."""
    found = [line.split()[1:3] for line in _run("list tables").splitlines() if line.startswith("table ")]
    return [f"{family} {name}" for family, name in found if not name.startswith("carrack")]


def _run(command: str) -> str:
    try:
        return Nftables().run(command)
    except (CarrackError, OSError):
        return ""

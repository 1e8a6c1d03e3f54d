"""Turning the host into a router, which containers need to reach the world, without turning it into an open one.

Forwarding that is on already is the administrator's: nothing is touched. When it is off, it is turned on only after the table drops
every forwarded packet that belongs to no network; that it was us is recorded with the boot it is true for, so that a later daemon
keeps that guard.
"""

from __future__ import annotations

import logging
import os

from carrack.kernel import sysctl
from carrack.networks.firewall import Firewall
from carrack.networks.records import Records

log = logging.getLogger(__name__)

_KEYS = {4: ("net", "ipv4", "ip_forward"), 6: ("net", "ipv6", "conf", "all", "forwarding")}


class ForwardingSwitch:
    """Forwarding of this network namespace, per IP version."""

    def __init__(self, records: Records, firewall: Firewall) -> None:
        self._records = records
        self._firewall = firewall

    def turn_on(self, version: int) -> bool:
        """See that packets of this version are forwarded, with the guard when it is or was us who began. True: we just did."""
        if self._ours(version):
            self._guard(version, True)
        if self._is_on(version):
            return False
        self._guard(version, True)
        self._records.set_forwarding_boot(version, _boot())
        if version == 6:
            _keep_router_advertisements()
        sysctl.write(1, *_KEYS[version])
        log.warning(
            "IPv%d forwarding was off: it is on now, and packets that belong to no container network are not forwarded", version
        )
        return True

    def turn_off(self) -> None:
        """Undo what `turn_on` did in this boot: forwarding goes off before the guard does."""
        for version in (4, 6):
            if self._ours(version):
                sysctl.write(0, *_KEYS[version])
                self._records.set_forwarding_boot(version, "")

    def _is_on(self, version: int) -> bool:
        try:
            return sysctl.read(*_KEYS[version]) != "0"
        except FileNotFoundError:
            return True  # a kernel without this version has nothing to turn on

    def _guard(self, version: int, on: bool) -> None:
        if version == 4:
            self._firewall.set_guard(ipv4=on)
        else:
            self._firewall.set_guard(ipv6=on)

    def _ours(self, version: int) -> bool:
        return self._records.forwarding_boot(version) == _boot()


def _boot() -> str:
    return sysctl.read("kernel", "random", "boot_id")


def _keep_router_advertisements() -> None:
    """A forwarding host stops listening to its own router unless accept_ra is 2 (ip-sysctl.rst): raise 1 to 2 where it is 1."""
    for name in os.listdir("/proc/sys/net/ipv6/conf"):
        if sysctl.read("net", "ipv6", "conf", name, "accept_ra") == "1" and name != "all":
            sysctl.write(2, "net", "ipv6", "conf", name, "accept_ra")

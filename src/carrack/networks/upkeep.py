"""What an instance does when the kernel says that something of its networks is gone or was changed, and what it looks at now and
then in case nothing was said.
"""

from __future__ import annotations

import logging
import threading

from carrack.errors import CarrackError
from carrack.kernel.netlink import Link, Netlink
from carrack.kernel.nftables import Transaction
from carrack.networks.addresses import Addresses
from carrack.networks.beside_docker import FILTER_TABLE, BesideDocker
from carrack.networks.book import Book
from carrack.networks.drivers.bridge import BridgeDriver
from carrack.networks.firewall import Firewall
from carrack.networks.naming import Naming
from carrack.networks.network import Network

log = logging.getLogger(__name__)


class Upkeep:
    """Repairs of one instance, called by its watch."""

    def __init__(
        self,
        *,
        book: Book,
        kernel: Netlink,
        firewall: Firewall,
        bridges: BridgeDriver,
        addresses: Addresses,
        beside_docker: BesideDocker | None,
        naming: Naming,
        shaping: threading.Lock,
    ) -> None:
        self._book = book
        self._kernel = kernel
        self._firewall = firewall
        self._bridges = bridges
        self._addresses = addresses
        self._beside_docker = beside_docker
        self._naming = naming
        self._shaping = shaping
        """Held while a network is made or removed: what goes then is meant to."""

    def link_gone(self, name: str | None) -> None:
        """A link is no more; None: reports were lost."""
        if name is None:
            present = {link.name for link in self._kernel.links()}
            for resting in self._addresses.resting_links():
                if resting not in present:
                    self._addresses.link_gone(resting)
            self._mend_bridges()
            return
        self._addresses.link_gone(name)
        if any(network.bridge == name for network in self._book.bridged()):
            self._mend_bridges()

    def ruleset_changed(self, transaction: Transaction | None) -> None:
        """Somebody changed a table that is watched; None: reports were lost."""
        if transaction is None:
            self._firewall.forget_tokens()
        elif self._firewall.recognise(transaction.token):
            return
        touched = self._firewall.table in transaction.tables if transaction is not None else not self._firewall.intact()
        if touched:
            self.put_back()
        if transaction is None or FILTER_TABLE in transaction.tables:
            self.stand_beside_docker()

    def look(self) -> None:
        """See that everything is as it should be, in case a report never came."""
        self._mend_bridges()
        self._naming.refresh()

    def put_back(self) -> None:
        """Assert the whole table; loopback routing is off until it stands (law 4)."""
        log.warning("table inet %s was changed by somebody else: putting it back", self._firewall.table)
        bridged = self._book.bridged()
        for network in bridged:
            self._bridges.set_loopback_routing(network, False)
        self._firewall.assert_table()
        for network in bridged:
            self._bridges.set_loopback_routing(network, True)

    def stand_beside_docker(self) -> None:
        """Have a running dockerd's rules pass our packets, unless that was turned off."""
        if self._beside_docker is not None:
            self._beside_docker.assert_rules([network.bridge for network in self._book.bridged()])

    def _mend_bridges(self) -> None:
        """Make bridges again that somebody deleted, and set up those that somebody set down."""
        with self._shaping:
            links = {link.name: link for link in self._kernel.links()}
            for network in self._book.bridged():
                bridge = links.get(network.bridge)
                if bridge is None or not bridge.up:
                    self._mend(network, links)

    def _mend(self, network: Network, links: dict[str, Link]) -> None:
        log.warning("bridge %s of network %s was taken away by somebody else: making it again", network.bridge, network.name)
        try:
            self._bridges.create(network, {endpoint.gateway for endpoint in self._book.endpoints_in(network.id)})
            self._bridges.set_loopback_routing(network, True)
            for endpoint in self._book.endpoints_in(network.id):
                if endpoint.host_interface in links:
                    self._bridges.join(network, endpoint)
        except (CarrackError, OSError) as error:
            log.error("network %s: %s", network.name, error)

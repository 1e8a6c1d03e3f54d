"""What links of old open in the default bridge where it keeps its containers apart (`--icc=false`): the ports that the linked
container exposes, for the one that has the link. Answers come back as those of every connection do.

Docker's own behaviour: https://docs.docker.com/engine/network/links/. It follows from the endpoints' wishes and addresses alone.
"""

from __future__ import annotations

import threading

from carrack.networks.book import Book
from carrack.networks.drivers.bridge import ICC
from carrack.networks.firewall import Firewall


class Links:
    """Keeps the table's set of links equal to what the book says. Thread-safe."""

    def __init__(self, book: Book, firewall: Firewall) -> None:
        self._book = book
        self._firewall = firewall
        self._turn = threading.Lock()

    def refresh(self) -> None:
        """An endpoint has come or gone, or asks for something else. Raises SystemFailure."""
        with self._turn:
            self._firewall.set_links(self.elements())

    def elements(self) -> frozenset[str]:
        """What the set has to hold."""
        with self._book.lock:
            asking = [each for each in self._book.endpoints.values() if each.wish.reaches and each.ipv4]
            found = set()
            for endpoint in asking:
                network = self._book.find(endpoint.network_id)
                if network is None or network.flag(ICC, default=True):
                    continue
                for target, protocol, port in endpoint.wish.reaches:
                    for other in self._book.endpoints_of(target):
                        if other.network_id == endpoint.network_id and other.ipv4:
                            found.add(f"{endpoint.ipv4} . {other.ipv4} . {protocol} . {port}")
            return frozenset(found)

"""The records of networks and endpoints in the state database: what a later daemon knows of what this one made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network
from carrack.state.database import Database


class Records:
    """Networks and endpoints on disk. A write has happened when the call returns, or when the future that it returns is done."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def networks(self) -> list[Network]:
        """Every recorded network."""
        rows = self.database.read("SELECT document FROM networks")
        return [msgspec.json.decode(row[0], type=Network) for row in rows]

    def endpoints(self) -> list[Endpoint]:
        """Every recorded endpoint."""
        rows = self.database.read("SELECT document FROM endpoints")
        return [msgspec.json.decode(row[0], type=Endpoint) for row in rows]

    def put_network(self, network: Network) -> None:
        """Record a network, or what it has become."""
        document = msgspec.json.encode(network)
        self._write(
            lambda connection: connection.execute(
                "INSERT INTO networks (id, name, document) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET name = excluded.name, document = excluded.document",
                (network.id, network.name, document),
            )
        )

    def remove_network(self, network_id: str) -> None:
        self._write(lambda connection: connection.execute("DELETE FROM networks WHERE id = ?", (network_id,)))

    def put_endpoint(self, endpoint: Endpoint) -> Future[None]:
        """The record of an endpoint; to be awaited before the first kernel object that it names is made."""
        document = msgspec.json.encode(endpoint)

        def change(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO endpoints (id, network_id, container_id, document) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                (endpoint.id, endpoint.network_id, endpoint.container_id, document),
            )

        return self.database.write(change)

    def remove_endpoints(self, endpoint_ids: list[str]) -> Future[None]:
        """Nothing waits for it: an endpoint whose record outlives it is found without a link at the next start."""

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM endpoints WHERE id = ?", [(each,) for each in endpoint_ids])

        return self.database.write(change)

    def forwarding_boot(self, version: int) -> str:
        """The boot in which this instance turned forwarding on; empty: it did not."""
        rows = self.database.read("SELECT document FROM journal WHERE kind = 'forwarding' AND subject = ?", (f"ipv{version}",))
        return bytes(rows[0][0]).decode() if rows else ""

    def set_forwarding_boot(self, version: int, boot: str) -> None:
        """Record it; empty: forget it."""

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM journal WHERE kind = 'forwarding' AND subject = ?", (f"ipv{version}",))
            if boot:
                connection.execute(
                    "INSERT INTO journal (kind, subject, document) VALUES ('forwarding', ?, ?)", (f"ipv{version}", boot.encode())
                )

        self._write(change)

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        self.database.write(change).result()

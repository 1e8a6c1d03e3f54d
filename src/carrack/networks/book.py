"""Which networks and endpoints there are, as all parts of `Networks` see it: in memory, equal to the records, behind one lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from carrack.errors import InvalidParameter, NotFound
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network


class Book:
    """The networks and endpoints of one instance. Thread-safe; a read is a snapshot."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """For those who read and write in one step."""
        self.networks: dict[str, Network] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.plugged: set[str] = set()
        """The endpoints whose interface was made."""

    # ── networks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, ref: str) -> Network:
        """A network by id, name or unique beginning of its id. Raises NotFound, InvalidParameter when ambiguous."""
        with self.lock:
            if network := self.networks.get(ref):
                return network
            named = [network for network in self.networks.values() if network.name == ref]
            if named:
                return named[0]
            begun = [network for network in self.networks.values() if ref and network.id.startswith(ref)]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise InvalidParameter(f"network {ref} is ambiguous ({len(begun)} matches found based on ID prefix)")
        raise NotFound(f"network {ref} not found")

    def find(self, network_id: str) -> Network | None:
        """One network, None when there is none of that id."""
        with self.lock:
            return self.networks.get(network_id)

    def all(self) -> Sequence[Network]:
        """Every network."""
        with self.lock:
            return [*self.networks.values()]

    def bridged(self) -> Sequence[Network]:
        """The networks that are bridges of this host."""
        return [network for network in self.all() if network.driver == "bridge" and not network.config_only]

    def put(self, network: Network) -> None:
        """Write a network in, or what it has become."""
        with self.lock:
            self.networks[network.id] = network

    def remove(self, network_id: str) -> None:
        """Strike a network out. Idempotent."""
        with self.lock:
            self.networks.pop(network_id, None)

    # ── endpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def endpoints_in(self, network_id: str) -> Sequence[Endpoint]:
        """Every endpoint of a network."""
        with self.lock:
            return [endpoint for endpoint in self.endpoints.values() if endpoint.network_id == network_id]

    def endpoints_of(self, container_id: str) -> Sequence[Endpoint]:
        """A container's endpoints, the one that gives the default route first."""
        with self.lock:
            found = [endpoint for endpoint in self.endpoints.values() if endpoint.container_id == container_id]
        return sorted(found, key=_gateway_order)

    def has_address(self, network_id: str, address: str) -> bool:
        """Whether an endpoint of the network has this address; a gateway and the like are nobody's."""
        pools = network.pools if (network := self.find(network_id)) else ()
        if any(address == pool.gateway or address in pool.auxiliary_addresses.values() for pool in pools):
            return True
        return any(address in (endpoint.ipv4, endpoint.ipv6) for endpoint in self.endpoints_in(network_id))

    def current(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint as it is by now; as it was given when it is known no more."""
        with self.lock:
            return self.endpoints.get(endpoint.id, endpoint)

    def replace(self, endpoint: Endpoint) -> None:
        """Change a known endpoint. Raises NotFound when it was released meanwhile."""
        with self.lock:
            if endpoint.id not in self.endpoints:
                raise NotFound(f"endpoint {endpoint.id} not found")
            self.endpoints[endpoint.id] = endpoint

    def mark_plugged(self, endpoint_id: str, plugged: bool) -> None:
        """Note whether an endpoint's interface is in its container."""
        with self.lock:
            if plugged:
                self.plugged.add(endpoint_id)
            else:
                self.plugged.discard(endpoint_id)

    def take_out(self, container_id: str, endpoint_id: str) -> Sequence[Endpoint]:
        """Forget a container's endpoints, or the one named; return those that were known."""
        with self.lock:
            found = [e for e in self.endpoints.values() if e.container_id == container_id and endpoint_id in ("", e.id)]
            for endpoint in found:
                del self.endpoints[endpoint.id]
                self.plugged.discard(endpoint.id)
            return found


def _gateway_order(endpoint: Endpoint) -> tuple[bool, int, str]:
    return not (endpoint.gateway or endpoint.gateway6), -endpoint.wish.gateway_priority, endpoint.network_name

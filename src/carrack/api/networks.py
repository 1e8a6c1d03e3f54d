"""The routes of networks. What concerns only networks goes straight to `Networks`; what concerns a container too, to the engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from carrack.api import pruning
from carrack.api.blocking import in_thread
from carrack.api.json import read, reply
from carrack.api.network_json import (
    NetworkConnect,
    NetworkCreate,
    NetworkCreated,
    NetworkDisconnect,
    NetworkResource,
    NetworksPruned,
    request_of,
    resource,
    status,
)
from carrack.api.pruning import Tell
from carrack.api.router import Route
from carrack.api.until import parse_until
from carrack.api.versions import at_least
from carrack.engine.config import EndpointSettings
from carrack.engine.filters import Filters
from carrack.errors import CarrackError, InvalidParameter, NotFound, Unavailable
from carrack.http import Reply, Request, Response
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import Network
from carrack.networks.networks import Networks

_LIST_FILTERS = ("driver", "id", "label", "name", "scope", "type", "idOrName")
_PRUNE_FILTERS = ("label", "label!", "until")


class EndpointBackend(Protocol):
    """Containers that join and leave networks while they run or stand still: `engine.connections.Connections`."""

    def without_address(self, network: Network) -> Sequence[Endpoint]: ...
    async def connect(self, network: str, container: str, settings: EndpointSettings) -> None: ...
    async def disconnect(self, network: str, container: str) -> None: ...


def routes(networks: Networks, endpoints: EndpointBackend | None = None) -> list[Route]:
    """Every route under /networks; without an `EndpointBackend` connect and disconnect are not among them."""
    orders = Orders(networks, endpoints.without_address if endpoints is not None else lambda network: ())
    found = [
        Route("GET", "/networks", orders.list),
        Route("GET", "/networks/", orders.list),
        Route("POST", "/networks/create", orders.create),
        Route("POST", "/networks/prune", orders.prune, since="1.25"),
        Route("GET", "/carrack/exposure", orders.exposure),
        Route("GET", "/networks/{id}", orders.inspect),
        Route("DELETE", "/networks/{id}", orders.remove),
    ]
    if endpoints is not None:
        joining = Joining(endpoints)
        found += [
            Route("POST", "/networks/{id}/connect", joining.connect),
            Route("POST", "/networks/{id}/disconnect", joining.disconnect),
        ]
    return found


class Orders:
    """Networks made, shown and removed."""

    def __init__(self, networks: Networks, without_address: Callable[[Network], Sequence[Endpoint]]) -> None:
        self._networks = networks
        self._without_address = without_address

    async def list(self, request: Request) -> Response:
        filters = Filters.parse(request.query.get("filters")).accept(*_LIST_FILTERS, flags=("dangling",))
        check_types(filters)
        detailed = not at_least(request.version, "1.28")
        shown = [
            self._resource(network, request.version, detailed=detailed)
            for network in self._networks.list()
            if matches(network, filters, unused=not self._endpoints(network))
        ]
        if at_least(request.version, "1.52"):
            for each in shown:
                each.Containers = msgspec.UNSET
        return reply(shown)

    async def inspect(self, request: Request) -> Response:
        network = self._networks.get(request.params["id"])
        scope = request.query.get("scope")
        if scope and scope != network.scope:
            raise NotFound(f"network {request.params['id']} not found")
        shown = self._resource(network, request.version, detailed=True)
        if at_least(request.version, "1.52"):
            shown.Status = status(self._networks.subnet_use(network))
        return reply(shown)

    def _resource(self, network: Network, version: str, *, detailed: bool) -> NetworkResource:
        return resource(network, self._endpoints(network) if detailed else (), version)

    def _endpoints(self, network: Network) -> Sequence[Endpoint]:
        return self._networks.in_use(network) or self._without_address(network)

    async def create(self, request: Request) -> Response:
        body = await read(request, NetworkCreate, required=True)
        if not at_least(request.version, "1.48"):
            body.EnableIPv4 = None
        if body.Scope == "swarm":
            raise Unavailable(
                'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
                "and try again."
            )
        network = await in_thread(self._networks.create, request_of(body))
        return reply(NetworkCreated(network.id), 201)

    async def remove(self, request: Request) -> Response:
        await in_thread(self._networks.remove, request.params["id"])
        return Response(204)

    async def exposure(self, request: Request) -> Response:
        """Ours alone: who can reach each published port, and why."""
        return reply(await in_thread(self._networks.exposures))

    async def prune(self, request: Request) -> Reply:
        filters = Filters.parse(request.query.get("filters")).accept(*_PRUNE_FILTERS)
        until = prune_until(filters)

        async def work(tell: Tell) -> object:
            return NetworksPruned([*await in_thread(self._prune, filters, until, tell)] or None)

        return await pruning.prune(request, work)

    def _prune(self, filters: Filters, until: int | None, tell: Tell) -> Sequence[str]:
        removed = []
        for network in self._networks.list():
            too_young = until is not None and network.created_nanoseconds > until
            if network.predefined or too_young or self._networks.in_use(network) or not labels_allow(network.labels, filters):
                continue
            try:
                self._networks.remove(network.id)
            except CarrackError:
                continue  # somebody uses it by now
            removed.append(network.name)
            tell(network.name)
        self._networks.tell_prune()
        return removed


class Joining:
    """Containers that join and leave networks."""

    def __init__(self, endpoints: EndpointBackend) -> None:
        self._endpoints = endpoints

    async def connect(self, request: Request) -> Response:
        body = await read(request, NetworkConnect, required=True)
        await self._endpoints.connect(request.params["id"], body.Container, body.EndpointConfig or EndpointSettings())
        return Response(200)

    async def disconnect(self, request: Request) -> Response:
        body = await read(request, NetworkDisconnect, required=True)
        await self._endpoints.disconnect(request.params["id"], body.Container)
        return Response(200)


def matches(network: Network, filters: Filters, *, unused: bool) -> bool:
    """Whether a list with these filters shows the network; `unused`: no container has a place in it."""
    if "dangling" in filters and filters.flag("dangling") != (unused and not network.predefined):
        return False
    kind = "builtin" if network.predefined else "custom"
    either = filters.get("idOrName")
    return (
        _any_of(filters.get("driver"), lambda wanted: wanted == network.driver)
        and _any_of(filters.get("name"), lambda wanted: found_in(wanted, network.name))
        and _any_of(filters.get("id"), lambda wanted: found_in(wanted, network.id))
        and _any_of(filters.get("scope"), lambda wanted: wanted == network.scope)
        and _any_of(filters.get("type"), lambda wanted: wanted == kind)
        and _any_of(either, lambda wanted: wanted == network.name or found_in(wanted, network.id))
        and filters.matches_labels(network.labels)
    )


def check_types(filters: Filters) -> None:
    """Raises InvalidParameter for a type of network that cannot be."""
    for wanted in filters.get("type"):
        if wanted not in ("custom", "builtin"):
            raise InvalidParameter(f"invalid filter: 'type'='{wanted}'")


def _any_of(wanted: Sequence[str], test: Callable[[str], bool]) -> bool:
    return not wanted or any(test(each) for each in wanted)


def found_in(pattern: str, text: str) -> bool:
    """Docker's partial match: the same, or a regular expression that is found in it."""
    if pattern == text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def labels_allow(labels: dict[str, str], filters: Filters) -> bool:
    """Whether the `label` filters of a prune take an object with these labels and its `label!` filters spare it not."""
    if not filters.matches_labels(labels):
        return False
    return not any(Filters({"label": (spared,)}).matches_labels(labels) for spared in filters.get("label!"))


def prune_until(filters: Filters) -> int | None:
    """The moment of the `until` filter in nanoseconds, None without one. Raises InvalidParameter."""
    values = filters.get("until")
    if len(values) > 1:
        raise InvalidParameter("more than one until filter specified")
    return parse_until(values[0]) if values else None

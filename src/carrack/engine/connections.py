"""Containers that join and leave networks while they live."""

from __future__ import annotations

import asyncio
import os

import msgspec

from carrack.engine import launch
from carrack.engine.config import EndpointSettings
from carrack.engine.container import Container
from carrack.engine.container_events import tell_network
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.open_init import open_init
from carrack.engine.state import LIVE
from carrack.engine.threads import in_thread
from carrack.errors import Conflict, Forbidden, InvalidParameter
from carrack.networks.endpoint import Endpoint, EndpointWish
from carrack.networks.network import Network


class Connections:
    """What `network connect` and `network disconnect` order."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle
        self._rooms = lifecycle.rooms

    def without_address(self, network: Network) -> list[Endpoint]:
        """The running containers in a network that gives no addresses: host and none."""
        return [
            Endpoint(
                id=settings.endpoint_id,
                network_id=network.id,
                network_name=network.name,
                driver=network.driver,
                container_id=container.id,
                wish=EndpointWish(container_name=container.name),
            )
            for container in (self._rooms.table if network.driver in ("host", "null") else ())
            if (settings := container.networks.get(network.name)) is not None and settings.endpoint_id
        ]

    async def connect(self, network: str, container: str, settings: EndpointSettings) -> None:
        """Join a container to one more network, at once when it runs, else from its next start on.

        Raises NotFound, Forbidden (it runs in that network), InvalidParameter (it has no network of its own, or a bad address).
        """
        record = self._rooms.table.get(container)
        found = self._rooms.networks.get(network)
        live = self._life.live(record)
        async with live.lock:
            _check(record, found)
            if found.name in record.networks:
                if record.state.status not in LIVE:
                    return  # it will join it as it was asked to before; Docker says nothing of it either
                raise Forbidden(f"endpoint with name {record.name} already exists in network {found.name}")
            wished = msgspec.structs.replace(settings, network_id=found.id)
            if record.state.status in LIVE:
                endpoint = await in_thread(self._join, record, found, wished)
                record.networks[found.name] = wished
                launch.describe_endpoint(record, endpoint)
                tell_network(record, "connect", found.id, found.name, found.driver, self._life.rooms)
            else:
                record.networks[found.name] = wished
            await asyncio.wrap_future(self._rooms.table.save(record))

    async def disconnect(self, network: str, container: str) -> None:
        """Take a container out of a network. Raises NotFound, Conflict (it is not in it)."""
        record = self._rooms.table.get(container)
        found = self._rooms.networks.get(network)
        live = self._life.live(record)
        async with live.lock:
            settings = record.networks.get(found.name)
            if settings is None:
                raise Conflict(f"container {record.id} is not connected to network {found.name}")
            if found.driver == "host":
                raise Conflict("container cannot be disconnected from host network or connected to host network")
            if record.state.status in LIVE:
                await in_thread(self._leave, record, found)
                tell_network(record, "disconnect", found.id, found.name, found.driver, self._life.rooms)
            del record.networks[found.name]
            await asyncio.wrap_future(self._rooms.table.save(record))

    def _join(self, container: Container, network: Network, settings: EndpointSettings) -> Endpoint:
        networks = self._rooms.networks
        endpoint = networks.allocate(network, container.id, launch.wish(container, settings, self._rooms.table))
        try:
            try:
                namespace, pidfd = open_init(container)
            except OSError:
                raise Conflict(f"container {container.id} is not running") from None
            try:
                networks.plug(endpoint, namespace, pidfd=pidfd)
            finally:
                os.close(namespace)
                os.close(pidfd)
        except BaseException:
            networks.release(container.id, endpoint.id)
            raise
        self._write_files(container, network)
        return endpoint

    def _leave(self, container: Container, network: Network) -> None:
        networks = self._rooms.networks
        for endpoint in networks.endpoints(container.id):
            if endpoint.network_id != network.id:
                continue
            namespace = _namespace(container)
            if namespace is not None:
                try:
                    networks.unplug(endpoint, now=True, netns_fd=namespace)
                finally:
                    os.close(namespace)
            networks.release(container.id, endpoint.id)
        self._write_files(container, network)

    def _write_files(self, container: Container, changed: Network) -> None:
        """The files under /etc that follow from the networks; resolv.conf only where the name server may be another now."""
        endpoints = self._rooms.networks.endpoints(container.id)
        launch.write_hosts(container, self._rooms, endpoints)
        if self._rooms.networks.resolver([changed]):
            launch.write_resolv_conf(container, self._rooms, endpoints)


def _namespace(container: Container) -> int | None:
    """The container's network namespace; None when it has just ended."""
    try:
        return os.open(f"/proc/{container.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _check(container: Container, network: Network) -> None:
    mode = container.host_config.network_mode
    if mode == "host" or network.driver == "host":
        raise InvalidParameter("container cannot be disconnected from host network or connected to host network")
    if mode.startswith("container:"):
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if mode == "none" or network.driver == "null":
        raise InvalidParameter("container cannot be connected to multiple networks with one of the networks in private (none) mode")

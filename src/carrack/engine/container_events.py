"""What the world is told of a container's networks and volumes: events with Docker's attributes."""

from __future__ import annotations

from carrack.engine.container import Container
from carrack.engine.rooms import Rooms
from carrack.errors import NotFound


def tell_networks(container: Container, action: str, rooms: Rooms) -> None:
    """Emit an event for each network that the container is in."""
    for name, settings in container.networks.items():
        if settings.endpoint_id:
            try:
                driver = rooms.networks.get(settings.network_id).driver
            except NotFound:  # removed by force
                driver = ""
            tell_network(container, action, settings.network_id, name, driver, rooms)


def tell_volumes(container: Container, action: str, rooms: Rooms) -> None:
    """Emit an event for each volume that the container has."""
    for point in container.mounts:
        if point.type == "volume":
            attributes = {"container": container.id, "driver": point.driver or "local"}
            if action == "mount":
                attributes |= {
                    "destination": point.destination,
                    "propagation": point.propagation,
                    "read/write": str(point.writable).lower(),
                }
            rooms.events.emit("volume", action, point.name, attributes)


def tell_network(container: Container, action: str, network_id: str, name: str, driver: str, rooms: Rooms) -> None:
    """Emit an event about a container in a network."""
    attributes = {"container": container.id, "name": name, "type": driver or "bridge"}
    rooms.events.emit("network", action, network_id, attributes)

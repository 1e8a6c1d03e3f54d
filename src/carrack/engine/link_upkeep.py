"""Keeping what links promise while containers run: lines of /etc/hosts and ways through the firewall follow who begins anew."""

from __future__ import annotations

import logging

from carrack.engine import launch, links
from carrack.engine.container import Container
from carrack.engine.rooms import Rooms
from carrack.engine.state import LIVE
from carrack.engine.threads import in_thread
from carrack.errors import CarrackError

log = logging.getLogger("carrack.lifecycle")


async def _rewrite_hosts(container: Container, rooms: Rooms) -> None:
    """Bring /etc/hosts of a running container in line with its links."""
    if container.state.status in LIVE and launch.uses_own_network(container):
        endpoints = await in_thread(rooms.networks.endpoints, container.id)
        await in_thread(launch.write_hosts, container, rooms, endpoints)


async def rewrite_links(container: Container, rooms: Rooms) -> None:
    """Bring what a running container finds and reaches by its links in line with them."""
    await _rewrite_hosts(container, rooms)
    await in_thread(rooms.networks.relink, container.id, links.reaches(container, rooms.table))


async def tell_linking(container: Container, rooms: Rooms) -> None:
    """A container has begun, perhaps with another address: those that link to it learn of it."""
    for other in rooms.table:
        if container.id in other.links.values():
            try:
                await rewrite_links(other, rooms)
            except CarrackError as error:
                log.warning("hosts of %s: %s", other.id[:12], error)

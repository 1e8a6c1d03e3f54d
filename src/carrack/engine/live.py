"""What the daemon holds for a container beyond its record: the conversation with its shim, and clients that wait for a start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from carrack.engine.doorway import Doorway
from carrack.engine.shims import Shim
from carrack.engine.streams import WaitCondition
from carrack.engine.work import Work
from carrack.shim.messages import Attach


@dataclass(slots=True)
class HeldAttach:
    """A client that attached before the start. The descriptor is ours until the shim has it."""

    order: Attach
    fd: int


@dataclass(slots=True)
class HeldWait:
    """A client that waits for the end of a container that has not begun."""

    condition: WaitCondition
    fd: int


class Live:
    """One container's perishable side. Lives as long as its record."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Held by start, restart, pause, remove …: orders about one container's life happen one after the other."""
        self.shim: Shim | None = None
        self.attached: list[HeldAttach] = []
        self.waiting: list[HeldWait] = []
        self.settled = asyncio.Event()
        """Set while no exit is being worked on: after it, what the exit had to bring about is done."""
        self.settled.set()
        self.ended = asyncio.Event()
        """Set when the container has no init process."""
        self.ended.set()
        self.restart: asyncio.Task[None] | None = None
        self.health: asyncio.Task[None] | None = None
        self.removing = False
        self.begins_again = False
        """Whether a start follows the end that is brought about now (`docker restart`): it removes nothing, and the container is
        restarting in between."""
        self.doorway = Doorway()
        """Execs go in by it, and a pause closes it."""
        self.init_fd = -1
        """The pidfd of the container's init, by which workers join its namespaces; -1: it does not run."""
        self.works: set[Work] = set()
        """Workers that change the container's files: they end before the root is mounted once more, or removed."""
        self.idle = asyncio.Event()
        """Set while there are none."""
        self.idle.set()

    def hold_init(self, pidfd: int) -> None:
        """Keep the pidfd of init, which is ours to close now."""
        self.drop_init()
        self.init_fd = pidfd

    def drop_init(self) -> None:
        """Close the descriptor of init. Idempotent."""
        if self.init_fd >= 0:
            os.close(self.init_fd)
            self.init_fd = -1

    async def without_works(self, patience_seconds: float) -> None:
        """Wait until nobody changes the container's files; cut short those who take longer."""
        try:
            await asyncio.wait_for(self.idle.wait(), patience_seconds)
        except TimeoutError:
            for work in tuple(self.works):
                work.cancel()
            await self.idle.wait()

    def cancel_restart(self) -> None:
        """Take back a restart that is planned. Idempotent."""
        if self.restart is not None:
            self.restart.cancel()
            self.restart = None

    def cancel_health(self) -> None:
        """End the health check. Idempotent."""
        if self.health is not None:
            self.health.cancel()
            self.health = None

    def for_shim(self, *, auto_remove: bool) -> list[HeldWait]:
        """Those of the waiting whom a shim can answer: a removal is told by it only when the exit brings the removal about."""
        return [client for client in self.waiting if auto_remove or client.condition is not WaitCondition.REMOVED]

    def drop_clients(self, attached: list[HeldAttach], waiting: list[HeldWait]) -> None:
        """The shim has its own descriptors of everyone it was handed: close ours. Others may have come meanwhile."""
        for fd in [client.fd for client in attached] + [client.fd for client in waiting]:
            os.close(fd)
        self.attached = [client for client in self.attached if client not in attached]
        self.waiting = [client for client in self.waiting if client not in waiting]

    def drop_attached(self) -> None:
        """End the sessions of those who attached; nothing will come."""
        for client in self.attached:
            os.close(client.fd)
        self.attached = []

    def take_waiting(self, suits: Callable[[WaitCondition], bool]) -> list[int]:
        """The descriptors of those whose condition suits; the caller answers and closes them."""
        taken = [client.fd for client in self.waiting if suits(client.condition)]
        self.waiting = [client for client in self.waiting if not suits(client.condition)]
        return taken

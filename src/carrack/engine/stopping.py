"""How a container is asked to end, and how long it may take over it."""

from __future__ import annotations

from carrack.engine import request
from carrack.engine.container import Container

SIGTERM, SIGKILL = 15, 9
STOP_SECONDS = 10
"""Docker's own patience."""


def stop_seconds(container: Container) -> int:
    """How long it may take to end when it is asked to; negative: as long as it likes."""
    configured = container.config.stop_timeout
    return STOP_SECONDS if configured is None else configured


def stop_signal(container: Container) -> int:
    """The number of the signal that asks this container to end."""
    return request.parse_signal(container.config.stop_signal) if container.config.stop_signal else SIGTERM

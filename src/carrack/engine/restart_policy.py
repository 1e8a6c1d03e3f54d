"""Restart policies, as Docker means them: who begins again, when, and with the daemon. Pure but for the clock."""

from __future__ import annotations

import time

from carrack.engine.container import Container

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 60.0
STEADY_SECONDS = 10.0
"""A container that ran this long is steady: its delay begins anew."""


def wants(container: Container) -> bool:
    """Whether the restart policy wants a container that has just ended to run again."""
    policy = container.host_config.restart_policy
    if container.stopped_by_user:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure" and container.state.exit_code != 0:
        return policy.maximum_retry_count == 0 or container.restart_count < policy.maximum_retry_count
    return False


def begins_with_the_daemon(container: Container) -> bool:
    """Docker's rule for a container that stands still when a daemon starts: `always` begins even if someone had stopped it."""
    policy = container.host_config.restart_policy.name
    return policy == "always" or (policy == "unless-stopped" and not container.stopped_by_user)


def plan(container: Container, ran_seconds: float) -> None:
    """Decide when a container begins again: at once the first time, then after twice the wait of the time before."""
    if ran_seconds >= STEADY_SECONDS or not container.restart_delay_seconds:
        container.restart_delay_seconds = FIRST_SECONDS
    else:
        container.restart_delay_seconds = min(container.restart_delay_seconds * 2, LONGEST_SECONDS)
    container.restart_at_nanoseconds = time.time_ns() + int(container.restart_delay_seconds * 1e9)


def remaining_seconds(container: Container) -> float:
    """How long until a restart that was planned is due, be it by an earlier daemon, whatever the clock has done since."""
    remaining = (container.restart_at_nanoseconds - time.time_ns()) / 1e9
    return min(max(remaining, 0.0), LONGEST_SECONDS)

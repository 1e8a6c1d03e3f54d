"""The states of a container and which may follow which: one enum, one table.

created ──start──▶ running ──pause──▶ paused
   │                │  ▲ ▲                │
   │                │  │ └──unpause───────┘
   │                │  └────start──────────────┐
   │                ├──exit──▶ exited ─────────┤
   │                └──exit, policy──▶ restarting
   └───────── any of these ──remove──▶ removing ──failed──▶ dead
"""

from __future__ import annotations

import enum

from carrack.errors import Conflict


class Status(enum.StrEnum):
    """Docker's seven words."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


_FOLLOWS: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset((Status.RUNNING, Status.EXITED, Status.REMOVING)),
    Status.RUNNING: frozenset((Status.PAUSED, Status.RESTARTING, Status.EXITED)),
    Status.PAUSED: frozenset((Status.RUNNING, Status.RESTARTING, Status.EXITED)),
    Status.RESTARTING: frozenset((Status.RUNNING, Status.EXITED, Status.REMOVING)),
    Status.EXITED: frozenset((Status.RUNNING, Status.RESTARTING, Status.REMOVING)),
    Status.REMOVING: frozenset((Status.DEAD,)),
    Status.DEAD: frozenset((Status.REMOVING,)),
}

LIVE = frozenset((Status.RUNNING, Status.PAUSED))
"""The states in which the container has an init process."""


def follow(now: Status, after: Status, name: str) -> Status:
    """`after`, if it may follow `now`; staying is always allowed. Raises Conflict naming the container."""
    if after is not now and after not in _FOLLOWS[now]:
        raise Conflict(f"container {name} is {now.value} and cannot become {after.value}")
    return after

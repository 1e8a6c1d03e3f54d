"""Actions, identities and permits: the values that authentication hands to authorisation, and that to the routes."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Action(enum.Enum):
    """What may be done to a repository. `push` includes `create`, which moves no tag that exists."""

    PULL = "pull"
    CREATE = "create"
    PUSH = "push"
    DELETE = "delete"


IMPLIED = {
    "pull": frozenset((Action.PULL,)),
    "create": frozenset((Action.CREATE,)),
    "push": frozenset((Action.CREATE, Action.PUSH)),
    "delete": frozenset((Action.DELETE,)),
    "*": frozenset(Action),
}
"""What each word in a rule or in a token's claim stands for."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Actions on one repository, from a token's `access` claim."""

    repository: str
    actions: frozenset[Action]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: the empty name is nobody in particular. `grants` is what a token brought; None where rules decide."""

    name: str = ""
    grants: tuple[Grant, ...] | None = None
    may_list: bool = False
    """A token that grants ``registry:catalog:*``."""

    @property
    def is_anonymous(self) -> bool:
        return not self.name and self.grants is None


@dataclass(frozen=True, slots=True)
class Permit:
    """An admitted request: who it is from, and what else that one may do (a tag moved, another repository mounted from)."""

    identity: Identity
    allows: Callable[[str, Action], bool]
    may_list: bool = True

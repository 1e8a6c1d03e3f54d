"""Per-repository rules: who may pull, create, push, delete where. A JSON file, read again when it changes.

    {"groups": {"web": ["ann", "bob"]},
     "rules": [{"repositories": ["web/**"], "groups": ["web"], "actions": ["pull", "push"]},
               {"repositories": ["public/*"], "anonymous": true, "actions": ["pull"]}]}

`*` stands for one component of a name, `**` for any number, `@all` among the users for everybody who has signed in. What no rule
grants is refused. Rights come from this file alone: nothing in a request adds to them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from carrack.errors import InvalidParameter
from carrack.registry.auth.permits import IMPLIED, Action, Identity

EVERYBODY = "@all"


class RuleDocument(msgspec.Struct, forbid_unknown_fields=True):
    """One rule as written."""

    repositories: list[str]
    actions: list[str]
    users: list[str] = []
    groups: list[str] = []
    anonymous: bool = False


class RulesDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    rules: list[RuleDocument] = []
    groups: dict[str, list[str]] = {}


@dataclass(frozen=True, slots=True)
class _Rule:
    patterns: tuple[re.Pattern[str], ...]
    actions: frozenset[Action]
    users: frozenset[str]
    anonymous: bool

    def grants(self, identity: Identity, repository: str, action: Action) -> bool:
        return (
            action in self.actions
            and (self.anonymous or (bool(identity.name) and (identity.name in self.users or EVERYBODY in self.users)))
            and any(pattern.fullmatch(repository) for pattern in self.patterns)
        )


class Rules:
    """A rule set, ready to be asked."""

    def __init__(self, document: RulesDocument) -> None:
        self._rules = tuple(_compile(rule, document.groups) for rule in document.rules)

    @classmethod
    def parse(cls, content: bytes) -> Rules:
        """Raises InvalidParameter naming what is wrong; a file with a mistake grants nothing rather than something else."""
        try:
            return cls(msgspec.json.decode(content, type=RulesDocument))
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"access rules: {error}") from error

    def allows(self, identity: Identity, repository: str, action: Action) -> bool:
        """Whether any rule grants the action."""
        return any(rule.grants(identity, repository, action) for rule in self._rules)


def _compile(rule: RuleDocument, groups: dict[str, list[str]]) -> _Rule:
    users = set(rule.users)
    for group in rule.groups:
        if group not in groups:
            raise InvalidParameter(f"access rules: group {group!r} is not defined")
        users.update(groups[group])
    for word in rule.actions:
        if word not in IMPLIED:
            raise InvalidParameter(f"access rules: action {word!r} is none of {', '.join(sorted(IMPLIED))}")
    actions = frozenset[Action]().union(*(IMPLIED[word] for word in rule.actions))
    if rule.anonymous and actions - {Action.PULL}:
        raise InvalidParameter("access rules: an anonymous rule may grant pull only")
    return _Rule(tuple(map(repository_pattern, rule.repositories)), actions, frozenset(users), rule.anonymous)


def repository_pattern(glob: str) -> re.Pattern[str]:
    """A pattern of names: `*` within one component, `**` across components. Raises InvalidParameter on other letters."""
    if re.fullmatch(r"[a-z0-9._/*-]+", glob) is None:
        raise InvalidParameter(f"repository pattern {glob!r}: want a name with * or **")
    parts = re.split(r"(\*\*|\*)", glob)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))

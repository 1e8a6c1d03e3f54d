"""Names of containers: which are allowed, and the ones made up for those that nobody named."""

from __future__ import annotations

import re
import secrets

from carrack.errors import InvalidParameter

ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(f"/?{ALLOWED}+")

_MOODS = (
    "amber ample bold brave breezy bright brisk calm candid cheery clever cosy crisp daring deft eager early easy "
    "fair fleet fond frank fresh gentle glad golden grand happy hardy hearty jolly keen kind lively loyal lucid "
    "lucky mellow merry mighty neat nimble noble patient placid plucky polite prompt proud quick quiet rapid ready "
    "robust rosy serene sharp sleek smart snug solid sound spry stable steady stout sunny swift tidy tranquil true "
    "upbeat valiant vivid warm wise witty zesty"
).split()
_SAILORS = (
    "amundsen bering bougainville cabot cabral cartier cavendish champlain clipperton columbus cook dampier davis "
    "dias drake elcano eriksson flinders franklin frobisher gama gilbert hudson jansz kotzebue krusenstern magellan "
    "mcclure mendana nansen nelson ortelius parry peary pytheas quiros raleigh ross saavedra schouten scott "
    "shackleton tasman torres urdaneta vancouver vespucci wallis weddell wilkes yermak zheng"
).split()


def check(name: str) -> str:
    """The name without its leading slash. Raises InvalidParameter in Docker's words."""
    if _NAME.fullmatch(name) is None:
        raise InvalidParameter(f"Invalid container name ({name}), only {ALLOWED} are allowed")
    return name.removeprefix("/")


def invent() -> str:
    """A name a person can say."""
    return f"{secrets.choice(_MOODS)}_{secrets.choice(_SAILORS)}"


def new_id() -> str:
    """A fresh container, exec or session id: 64 hexadecimal letters whose first twelve are not all digits.

    A short id of digits alone would be read as a number by programs that are given it as a host name.
    """
    while True:
        identity = secrets.token_hex(32)
        if not identity[:12].isdigit():
            return identity

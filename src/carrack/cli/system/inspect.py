"""`carrack inspect`: an object of whichever kind has that name."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.values import go_quote
from carrack.client.failure import ApiError, ApiNotFound
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")
_PLACES = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
    "service": "/services/{}",
    "task": "/tasks/{}",
    "node": "/nodes/{}",
    "plugin": "/plugins/{}/json",
    "secret": "/secrets/{}",
    "config": "/configs/{}",
}
_SWARM = ("service", "task", "node", "secret", "config")


class _Finder:
    """Tries one kind after the other, in Docker's order."""

    def __init__(self, session: Session, kind: str, *, size: bool) -> None:
        self._session = session
        self._kind = kind
        self._size = size
        self._in_swarm: bool | None = None

    def find(self, name: str) -> bytes:
        for kind, place in _PLACES.items():
            if (self._kind and kind != self._kind) or (not self._kind and kind in _SWARM and not self._has_swarm()):
                continue
            try:
                raw = self._fetch(kind, place, name)
            except ApiError as error:
                skippable = (
                    isinstance(error, ApiNotFound)
                    or "not supported" in error.message
                    or "invalid reference format" in error.message
                )
                if self._kind or not skippable:
                    raise
                continue
            if self._size and kind != "container":
                self._session.err.line(f"WARNING: --size ignored for {kind}")
            return raw
        raise CommandFailure(f"Error: No such object: {name}")

    def _fetch(self, kind: str, place: str, name: str) -> bytes:
        query = {"size": "1"} if self._size and kind == "container" else {"insertDefaults": "true"} if kind == "service" else None
        keep = "/:@" if kind in ("image", "container", "plugin") else ""
        return self._session.engine.request("GET", place.format(percent_encode(name, keep=keep)), query).read_all()

    def _has_swarm(self) -> bool:
        if self._in_swarm is None:
            try:
                self._in_swarm = bool((self._session.engine.json("GET", "/info").get("Swarm") or {}).get("ControlAvailable"))
            except CarrackError as error:
                self._session.err.line(str(error))
                self._in_swarm = False
        return self._in_swarm


def _inspect(session: Session, parsed: Parsed) -> None:
    kind = parsed.text("type")
    choices = '", "'.join(TYPES)
    if parsed.changed("type") and not kind:
        raise CommandFailure(f'type is empty: must be one of "{choices}"')
    if kind and kind not in TYPES:
        raise CommandFailure(f'unknown type: {go_quote(kind)}: must be one of "{choices}"')
    inspect_each(session.out, parsed.arguments, parsed.text("format"), _Finder(session, kind, size=parsed.flag("size")).find)


COMMANDS = (
    Command(
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Print everything about objects of any kind",
        _inspect,
        at_least=1,
        flags=f"""
            {FORMAT_FLAG}
        -s, --size bool   Print the size of a container's files too
            --type string Look only among objects of this type
        """,
    ),
)

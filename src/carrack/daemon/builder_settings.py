"""`builder` of daemon.json: the ceiling of the build cache, and the rights that a build may ask for. Docker's keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carrack.errors import InvalidParameter
from carrack.volumes.drivers.sizes import parse_size

_SIZES = ("defaultKeepStorage", "defaultReservedSpace", "defaultMaxUsedSpace")
_ENTITLEMENTS = {"network-host": "network.host", "security-insecure": "security.insecure", "device": "device"}
UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """What the administrator says of building."""

    ceiling_bytes: int = 0
    """0: a tenth of the disk."""
    entitlements: frozenset[str] = frozenset({"network.host", "device"})
    """The rights a client may ask for with ``--allow``."""


def read(document: Mapping[str, object]) -> BuilderSettings:
    """Read the table. Raises InvalidParameter for what has no meaning here."""
    _known("builder", document, ("gc", "entitlements", "Entitlements"))
    gc = _table("builder.gc", document.get("gc", {}))
    _known("builder.gc", gc, ("enabled", *_SIZES, "policy"))
    if gc.get("policy"):
        raise InvalidParameter("builder.gc.policy cannot be set: the build cache has one ceiling, defaultMaxUsedSpace")
    sizes = [size for name in _SIZES if (size := _size(name, gc.get(name, "")))]
    ceiling = UNBOUNDED if gc.get("enabled") is False else max(sizes, default=0)
    wanted = _table("builder.entitlements", document.get("entitlements", document.get("Entitlements", {})))
    _known("builder.entitlements", wanted, tuple(_ENTITLEMENTS))
    granted = {"network-host": True, "security-insecure": False, "device": True, **wanted}
    return BuilderSettings(ceiling, frozenset(_ENTITLEMENTS[name] for name, on in granted.items() if on))


def _table(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidParameter(f"{name}: want a table")
    return value


def _known(name: str, table: Mapping[str, object], keys: tuple[str, ...]) -> None:
    if unknown := sorted(set(table) - set(keys)):
        raise InvalidParameter(f"{name}: unknown {', '.join(map(str, unknown))}")


def _size(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return parse_size(value) if value else 0
    raise InvalidParameter(f"builder.gc.{name}: want a size")

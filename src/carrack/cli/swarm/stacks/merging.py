"""Several Compose files made one: what a later file says joins, or replaces, what an earlier one said."""

from __future__ import annotations

from carrack.cli.swarm.stacks.schema import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Document = dict[str, Any]

_KEYS: dict[str, Callable[[Document], Any]] = {
    "ports": lambda port: (port.get("target"), port.get("published"), port.get("protocol"), port.get("mode")),
    "volumes": lambda volume: volume.get("target"),
    "secrets": lambda reference: reference.get("source"),
    "configs": lambda reference: reference.get("source"),
}
_SORTED_BY: dict[str, Callable[[Document], Any]] = {
    **_KEYS,
    "ports": lambda port: (port.get("published") or 0, port.get("target") or 0),
}
_REPLACED = ("command", "entrypoint")


def merge_files(base: Document, other: Document) -> None:
    """Put what a later file says, in its long form, into an earlier one."""
    for kind, entries in other.items():
        if kind == "services":
            services = base.setdefault("services", {})
            for name, service in entries.items():
                services[name] = _merge_service(services[name], service) if name in services else service
        elif kind in KINDS:
            base[kind] = {**(base.get(kind) or {}), **entries}


def _merge_service(base: Document, other: Document) -> Document:
    merged = {field: sorted(value, key=_SORTED_BY[field]) if field in _SORTED_BY else value for field, value in base.items()}
    for field, value in other.items():
        before = merged.get(field)
        if field in _KEYS and before:
            key = _KEYS[field]
            replaced = {key(item) for item in value}
            kept = [item for item in before if key(item) not in replaced]
            merged[field] = sorted(kept + value, key=_SORTED_BY[field])
        elif isinstance(before, list) and isinstance(value, list) and field not in _REPLACED:
            merged[field] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            merged[field] = _merge_tables(before, value)
        else:
            merged[field] = value
    return merged


def _merge_tables(base: Document, other: Document) -> Document:
    merged = dict(base)
    for key, value in other.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merge_tables(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = before + value
        else:
            merged[key] = value
    return merged

"""Queries of the API from a caller's values."""

from __future__ import annotations

from carrack.client import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Filters = Mapping[str, Sequence[str]]


def filters_query(filters: Filters | None) -> dict[str, str]:
    """Filters, name → values, as the API takes them; nothing without any."""
    return {"filters": codec.encode({name: list(values) for name, values in filters.items()})} if filters else {}


def flags_query(**flags: bool) -> dict[str, str]:
    """The flags that are on."""
    return {name: "1" for name, wanted in flags.items() if wanted}

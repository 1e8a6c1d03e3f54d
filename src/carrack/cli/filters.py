"""The filters of a command line as the API takes them."""

from __future__ import annotations

from carrack.client.codec import encode

Filters = dict[str, list[str]]


def filters_query(filters: Filters) -> dict[str, str]:
    """Filters as a query, if there are any: name → value → true, which every version of the API understands."""
    if not filters:
        return {}
    document = {name: dict.fromkeys(values, True) for name, values in filters.items()}
    return {"filters": encode(document, escape_html=True)}

"""The table of what is missing stays true: nothing stands in it that a noun module serves."""

from __future__ import annotations

import re
from typing import Any

from carrack.api import absent, containers, debug, disk_usage, events, exec, images, networks, not_yet, registries, system, volumes
from carrack.api.router import Product, Route, compile_pattern


def served() -> list[Route]:
    """Every route of the noun modules; none of them touches its backend before it is called."""
    backend: Any = None
    nouns = (containers, disk_usage, events, exec, images, networks, registries, volumes)
    return [
        *(route for noun in nouns for route in noun.routes(backend)),
        *system.routes(backend, Product("1")),
        *debug.routes(),
        *absent.routes(),
    ]


def shape(pattern: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", pattern)


def test_nothing_that_is_served_is_called_missing() -> None:
    found = {(route.method, shape(route.pattern)) for route in served()}
    assert not [line for line in not_yet.NOT_YET if (line[0], shape(line[1])) in found]


def test_no_route_is_written_twice() -> None:
    shapes = [(route.method, shape(route.pattern)) for route in (*served(), *not_yet.routes())]
    assert sorted(shapes) == sorted(set(shapes))


def test_no_fixed_path_is_hidden_by_a_pattern_before_it() -> None:
    routes = [*served(), *not_yet.routes()]
    for place, route in enumerate(routes):
        if "{" in route.pattern:
            continue
        hiding = [
            earlier.pattern
            for earlier in routes[:place]
            if earlier.method == route.method and compile_pattern(earlier.pattern).fullmatch(route.pattern)
        ]
        assert not hiding, route.pattern

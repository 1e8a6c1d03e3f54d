"""What a daemon loads before it answers: each module is time at every start, and memory for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from carrack.api import build
from carrack.daemon import builder_on_demand

SOURCES = Path(__file__).parents[3] / "src"
BEFORE_THE_ZYGOTE = 66
"""Modules of ours that may be loaded before the zygote is on its way: now 61."""
IN_ALL = 315
"""Modules of ours that a daemon may load before it answers: now 302."""


def loaded(module: str) -> set[str]:
    return {name for name in all_loaded(module) if name.startswith("carrack.")}


def all_loaded(module: str) -> set[str]:
    program = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); import {module}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return set(output.split())


def test_a_daemon_that_does_not_build_loads_no_builder() -> None:
    found = loaded("carrack.daemon.wiring")
    assert not {name for name in found if name.startswith(("carrack.build", "carrack.api.build"))}
    assert len(found) <= IN_ALL


def test_little_is_loaded_before_the_zygote_is_on_its_way() -> None:
    found = all_loaded("carrack.daemon.run")
    assert not found & {"carrack.daemon.wiring", "carrack.daemon.serving", "asyncio", "ssl"}
    assert len({name for name in found if name.startswith("carrack.")}) <= BEFORE_THE_ZYGOTE


def test_the_doors_of_the_builder_are_the_routes_it_serves() -> None:
    from carrack.api.build_sessions import BuildSessions
    from carrack.api.buildkit.doors import BuildKit

    nothing: object = None
    sessions, buildkit = object.__new__(BuildSessions), object.__new__(BuildKit)
    served = build.routes(nothing, nothing, sessions, nothing, nothing, buildkit)  # type: ignore[arg-type]
    assert {(route.method, route.pattern, route.since) for route in served} == set(builder_on_demand._DOORS)
    assert all(route.until is None for route in served)

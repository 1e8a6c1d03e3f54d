"""What a daemon loads before it answers: each module is time at every start, and memory for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from carrack.api import build
from carrack.daemon import builder_on_demand

SOURCES = Path(__file__).parents[3] / "src"
BEFORE_THE_ZYGOTE = 80
"""Modules of ours that may be loaded before the zygote is on its way: now 66."""
IN_ALL = 315
"""Modules of ours that a daemon may load before it answers: now 302."""


def loaded(module: str) -> set[str]:
    program = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); import {module}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return {name for name in output.split() if name.startswith("carrack.")}


def test_a_daemon_that_does_not_build_loads_no_builder() -> None:
    found = loaded("carrack.daemon.wiring")
    assert not {name for name in found if name.startswith(("carrack.build", "carrack.api.build"))}
    assert len(found) <= IN_ALL


def test_little_is_loaded_before_the_zygote_is_on_its_way() -> None:
    found = loaded("carrack.daemon.run")
    assert "carrack.daemon.wiring" not in found
    assert len(found) <= BEFORE_THE_ZYGOTE


def test_the_doors_of_the_builder_are_the_routes_it_serves() -> None:
    from carrack.api.build_sessions import BuildSessions

    nothing: object = None
    sessions = object.__new__(BuildSessions)
    served = build.routes(nothing, nothing, sessions, nothing, nothing)  # type: ignore[arg-type]
    assert {(route.method, route.pattern, route.since) for route in served} == set(builder_on_demand._DOORS)
    assert all(route.until is None for route in served)

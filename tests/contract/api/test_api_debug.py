"""The daemon looked at from inside."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from carrack.api import debug
from tests.contract.api.test_api_router import StartApi, ask


@pytest.fixture
def look(start_api: StartApi) -> Callable[[str], tuple[int, bytes]]:
    server = start_api(debug.routes())

    def get(path: str) -> tuple[int, bytes]:
        status, _, body = ask(server, "GET", path)
        return status, body

    return get


@pytest.mark.observes("GET /debug/vars", "GET /debug/pprof/", "GET /debug/pprof/cmdline", "GET /debug/pprof/symbol")
def test_variables_and_the_list_of_profiles(look: Callable[[str], tuple[int, bytes]]) -> None:
    status, body = look("/debug/vars")
    assert status == 200
    assert json.loads(body)["memstats"]["Sys"] > 1 << 20
    assert b"goroutine" in look("/debug/pprof/")[1]
    assert b"python" in look("/v1.48/debug/pprof/cmdline")[1]
    assert look("/debug/pprof/symbol") == (200, b"num_symbols: 0\n")


@pytest.mark.observes("GET /debug/pprof/{name}", "GET /debug/pprof/profile", "GET /debug/pprof/trace")
def test_profiles_are_stacks_with_names(look: Callable[[str], tuple[int, bytes]]) -> None:
    assert b"snapshot" in look("/debug/pprof/goroutine")[1]
    assert b"dict" in look("/debug/pprof/heap")[1]
    assert b"MainThread" in look("/debug/pprof/threadcreate")[1]
    assert look("/debug/pprof/mutex") == (404, b'{"message":"Unknown profile: mutex"}\n')
    for name in ("profile", "trace"):
        status, body = look(f"/debug/pprof/{name}?seconds=1")
        assert (status, b";" in body) == (200, True)
    assert look("/debug/pprof/profile?seconds=0")[0] == 400

"""Each test of the server runs on asyncio's loop and on uvloop, over a unix socket and over TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from carrack.http import Handler, Limits
from tests.contract.http.live_server import LiveServer

Start = Callable[..., LiveServer]


@pytest.fixture(params=["asyncio-unix", "uvloop-unix", "asyncio-tcp", "uvloop-tcp"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Starts a server with a handler; stopped when the test ends."""
    loop, family = str(request.param).split("-")
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with ExitStack() as stack:

        def begin(handler: Handler, limits: Limits | None = None) -> LiveServer:
            address = tmp_path / "s.sock" if family == "unix" else None
            return stack.enter_context(LiveServer(handler, address, limits, new_loop))

        yield begin

"""The API on a real unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop
from tests.contract.http.live_server import LiveServer

from carrack.api.router import Api, Product, Route

StartApi = Callable[..., LiveServer]


@pytest.fixture
def start_api(tmp_path: Path) -> Iterator[StartApi]:
    """Starts a server of these routes; stopped when the test ends."""
    with ExitStack() as stack:

        def begin(routes: Sequence[Route], **bounds: str) -> LiveServer:
            api = Api(routes, product=Product("24.0.9+carrack0.1.0"), **bounds)
            return stack.enter_context(LiveServer(api, tmp_path / "api.sock", None, uvloop.new_event_loop))

        yield begin

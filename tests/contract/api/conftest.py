"""The API on a real unix socket, with nothing or with a double of the engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from carrack.api import absent, containers, disk_usage, events, exec, not_yet, system
from carrack.api.router import Api, Product, Route
from carrack.engine.container import Container
from tests.contract.api.engine_double import FakeEngine
from tests.contract.http.live_server import Client, LiveServer

StartApi = Callable[..., LiveServer]

PRODUCT = Product("24.0.9+carrack0.1.0")


@pytest.fixture
def start_api(tmp_path: Path) -> Iterator[StartApi]:
    """Starts a server of these routes; stopped when the test ends."""
    with ExitStack() as stack:

        def begin(routes: Sequence[Route], **bounds: str) -> LiveServer:
            api = Api(routes, product=PRODUCT, **bounds)
            return stack.enter_context(LiveServer(api, tmp_path / "api.sock", None, uvloop.new_event_loop))

        yield begin


@dataclass
class Daemon:
    """A served double, and the ways a test talks to it."""

    engine: FakeEngine
    server: LiveServer

    @property
    def host(self) -> str:
        return f"unix://{self.server.address}"

    def connect(self) -> Client:
        return self.server.connect()

    def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1", "Host: d", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
            if not any(line.lower().startswith("content-type") for line in headers):
                lines.append("Content-Type: application/json")
        with self.connect() as client:
            client.send(*lines, body=body)
            return client.answer()


@pytest.fixture
def daemon_of(start_api: StartApi) -> Callable[..., Daemon]:
    """Serves a double with these containers."""

    def begin(*found: Container, **bounds: str) -> Daemon:
        engine = FakeEngine(*found)
        routes = [
            *containers.routes(engine),
            *exec.routes(engine),
            *events.routes(engine),
            *system.routes(engine, PRODUCT),
            *disk_usage.routes(engine),
            *absent.routes(),
            *not_yet.routes(),
        ]
        server = start_api(routes, **bounds)

        async def listen() -> None:
            engine.start_events()
            await asyncio.sleep(0)

        server.run(listen())
        return Daemon(engine, server)

    return begin

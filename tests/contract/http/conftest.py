"""Each test of the server runs on asyncio's loop and on uvloop, over a unix socket, over TCP and over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from carrack.http import Handler, Limits
from tests.contract.http.live_server import Certificates, LiveServer
from tests.rig.certificates import Authority

Start = Callable[..., LiveServer]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """What both ends of a TLS connection need, each insisting on the other's certificate."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context, pair in ((server, authority.issue("server")), (client, authority.issue("client"))):
        context.load_cert_chain(pair.certificate, pair.key)
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return Certificates(server, client)


@pytest.fixture(params=["asyncio-unix", "uvloop-unix", "asyncio-tcp", "uvloop-tcp", "asyncio-tls", "uvloop-tls"])
def start(request: pytest.FixtureRequest, tmp_path: Path, certificates: Certificates) -> Iterator[Start]:
    """Starts a server with a handler; stopped when the test ends."""
    loop, family = str(request.param).split("-")
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with ExitStack() as stack:

        def begin(handler: Handler, limits: Limits | None = None) -> LiveServer:
            address = tmp_path / "s.sock" if family == "unix" else None
            return stack.enter_context(
                LiveServer(handler, address, limits, new_loop, certificates=certificates if family == "tls" else None)
            )

        yield begin

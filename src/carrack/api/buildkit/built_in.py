"""`POST /build?version=2`: the build of a client that docker before 23 has built in, by a session, BuildKit's status in the stream.

The query says what attributes say elsewhere. There is a line for each status (``moby.buildkit.trace``); the last has the image's
id.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from carrack.api.buildkit.grpc import GRPCError
from carrack.api.buildkit.services import Services
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter
from carrack.http import Request

T = TypeVar("T")
_SAME = {"target": "target", "platform": "platform", "cgroupparent": "cgroup-parent", "shmsize": "shm-size"}


class _Output(msgspec.Struct, rename="pascal"):
    type: str
    attrs: dict[str, str] | None = None


class _Ulimit(msgspec.Struct, rename="pascal"):
    name: str
    soft: int = 0
    hard: int = 0


def solve_request(request: Request) -> wire.SolveRequest:
    """What the query asks for, as the protocol has it. Raises InvalidParameter."""
    query = request.query
    remote = query.get("remote")
    if remote == "upload-request":
        raise InvalidParameter(
            "an archive on standard input is not supported by this way: install buildx, or set DOCKER_BUILDKIT=0"
        )
    attributes = {ours: query.get(name) for name, ours in _SAME.items() if query.get(name) not in ("", "0")}
    attributes["filename"] = query.get("dockerfile") or "Dockerfile"
    if remote not in ("", "client-session"):
        attributes["context"] = remote
    attributes |= {f"build-arg:{name}": value for name, value in _texts(query.get("buildargs")).items()}
    attributes |= {f"label:{name}": value for name, value in _texts(query.get("labels")).items()}
    if query.flag("nocache"):
        attributes["no-cache"] = ""
    if query.flag("pull"):
        attributes["image-resolve-mode"] = "pull"
    network = query.get("networkmode")
    if network not in ("", "default"):
        attributes["force-network-mode"] = network
    hosts = [each.partition(":") for each in query.all("extrahosts")]
    attributes["add-hosts"] = ",".join(f"{name}={address}" for name, _, address in hosts)
    limits = _decoded(query.get("ulimits"), list[_Ulimit]) or ()
    attributes["ulimit"] = ",".join(f"{each.name}={each.soft}:{each.hard}" for each in limits)
    attributes["cache-from"] = ",".join(_decoded(query.get("cachefrom"), list[str]) or ())
    outputs = _decoded(query.get("outputs"), list[_Output]) or [_Output("moby")]
    names = ",".join(query.all("t"))
    exporters = [
        wire.Exporter(Type=each.type, Attrs={**(each.attrs or {}), **({"name": names} if names else {})})
        for each in outputs
        if each.type != "cacheonly"
    ]
    is_inline = attributes.get("build-arg:BUILDKIT_INLINE_CACHE") in ("1", "true")
    return wire.SolveRequest(
        Ref=os.urandom(12).hex(),
        Session=query.get("session"),
        Frontend="dockerfile.v0",
        FrontendAttrs={name: value for name, value in attributes.items() if value or name == "no-cache" or ":" in name},
        Exporters=exporters,
        Cache=wire.CacheOptions(Exports=[wire.CacheOptionsEntry(Type="inline")] if is_inline else []),
        Entitlements=["network.host"] if network == "host" else [],
    )


async def lines(services: Services, request: Request, wanted: wire.SolveRequest, cancel: Cancellation) -> AsyncIterator[bytes]:
    """The build's stream. Whoever leaves, or cancels, takes the build back."""
    loop, is_quiet = asyncio.get_running_loop(), request.query.flag("q")
    solving = asyncio.ensure_future(services.solve(wanted))
    leaving = asyncio.ensure_future(_watch(request.disconnected, solving))
    try:
        with cancel.calling(lambda: _later(loop, solving)):
            async for status in services.status(wanted.Ref):
                if not is_quiet:
                    yield _line({"id": "moby.buildkit.trace", "aux": base64.b64encode(status.SerializeToString()).decode()})
            try:
                response = await solving
            except GRPCError as error:
                yield _failure(str(error.message))
            except CarrackError as error:
                yield _failure(error.message)
            except asyncio.CancelledError:
                if not solving.cancelled():
                    raise
                yield _failure("the build was cancelled")
            else:
                if image := response.ExporterResponse.get("containerimage.digest"):
                    yield _line({"id": "moby.image.id", "aux": {"ID": image}})
                    if is_quiet:
                        yield _line({"stream": f"{image}\n"})
    finally:
        leaving.cancel()
        solving.cancel()
        await asyncio.gather(solving, leaving, return_exceptions=True)


def _later(loop: asyncio.AbstractEventLoop, solving: asyncio.Future[wire.SolveResponse]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nothing is left to be taken back
        loop.call_soon_threadsafe(solving.cancel)


async def _watch(gone: asyncio.Event, solving: asyncio.Future[wire.SolveResponse]) -> None:
    await gone.wait()
    solving.cancel()


def _line(document: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(document) + b"\r\n"


def _failure(message: str) -> bytes:
    return _line({"errorDetail": {"message": message}, "error": message})


def _texts(text: str) -> dict[str, str]:
    return {name: value for name, value in (_decoded(text, dict[str, str | None]) or {}).items() if value is not None}


def _decoded(text: str, type: type[T]) -> T | None:
    """A parameter that is a document; None when it is not given."""
    try:
        return msgspec.json.decode(text, type=type) if text not in ("", "null") else None
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"error reading the query of a build: {error}") from error

"""What a client calls on `/grpc`: Control, and the gateway (LLBBridge) of a build function that runs at the client.

A build of buildx is a conversation: it calls Control.Solve, which says where the result is to go; beside it, by the same
reference, the gateway's Solve, which says what to build and is answered with a name for the result at once; and Return, which says
that this name is what Control.Solve is to deliver. So nothing is built before Return but what another build of the client needs.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from carrack import __version__
from carrack.api.blocking import in_own_thread, in_thread
from carrack.api.buildkit import attributes, failures
from carrack.api.buildkit.grpc import (
    Call,
    GRPCError,
    Method,
    ServerStream,
    Serving,
    Status,
    conversation,
    metadata_of,
    unary,
    updates,
)
from carrack.api.buildkit.session import Sessions
from carrack.api.buildkit.solving import Means, Solving
from carrack.api.buildkit.status import StatusFeed, moment
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from carrack.build.builder import Builder
from carrack.build.collect import Collector, Kept, Pruning
from carrack.build.contexts.reception import Reception
from carrack.build.emulation import emulator
from carrack.errors import CarrackError, Conflict, InvalidParameter, NotFound
from carrack.http.request import HandedOver
from carrack.images.progress import Progress
from carrack.oci.platform import Platform, machine

log = logging.getLogger("carrack.buildkit")

_CONTROL = "/moby.buildkit.v1.Control/"
_GATEWAY = "/moby.buildkit.v1.frontend.LLBBridge/"
_SPEAKS = "v0.25.0"
"""The release of BuildKit whose protocol this is; tools choose by it what to ask for."""
_BUILD_ID = "buildkit-controlapi-buildid"
_REMEMBERED_SECONDS = 10.0
"""How long the status of a build that has ended waits for a reader who comes late."""
_JOBS_LIMIT = 1000
_PIECE_BYTES = 64 << 10
_FRONTEND_ABILITIES = (
    "solve.base", "return", "returnmap", "proto.refarray", "frontend.inputs", "frontend.caps", "gateway.solve.metadata",
    "gateway.evaluate", "importcaches", "reference.output",
)  # fmt: skip
_LLB_ABILITIES = (
    "source.image", "source.local", "source.local.unique", "source.local.sessionid", "source.local.includepatterns",
    "source.local.excludepatterns", "source.local.followpaths", "source.local.sharedkeyhint", "source.local.differ", "source.git",
    "source.git.keepgitdir", "source.git.fullurl", "source.git.httpauth", "source.git.subdir", "source.git.checksum", "source.http",
    "source.http.checksum", "exec.meta.base", "exec.meta.cgroup.parent", "exec.meta.network", "exec.meta.security",
    "exec.meta.ulimit", "exec.meta.linux.resources", "exec.mount.bind", "exec.mount.cache", "exec.mount.cache.sharing",
    "exec.mount.secret", "exec.mount.ssh", "exec.mount.tmpfs", "exec.secretenv", "file.base", "platform", "constraints",
    "meta.ignorecache", "meta.description", "exporter.image.annotations", "exporter.image.attestations",
    "exporter.sourcedateepoch", "exporter.multiple", "gc.freespacefilter",
)  # fmt: skip
_EMULATED = ("arm64", "amd64", "arm/v7", "386", "riscv64", "ppc64le", "s390x")


@dataclass(slots=True)
class _Job:
    """One build by its client's reference, which several calls name, in whatever order they come."""

    feed: StatusFeed
    session: asyncio.Future[str]
    returned: asyncio.Future[wire.ReturnRequest]
    users: int = 0
    begun: bool = False
    ended: bool = False
    results: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Result:
    """A name that the gateway's Solve gave: what would be built, and for other builds of the client is built at once."""

    job: _Job
    order: attributes.Order
    image: asyncio.Task[str] | None = None
    """The build of its image, which has no name."""
    holders: int = 0
    """How many builds use it."""


class Services:
    """All of it, for every connection. Lives on the event loop."""

    def __init__(
        self,
        builder: Builder,
        reception: Reception,
        collector: Collector,
        push: Callable[[str, str], Iterator[Progress]],
        sockets: Path,
    ) -> None:
        self.sessions = Sessions()
        self._means = Means(builder, reception, collector, push, sockets, self.sessions)
        self._jobs: dict[str, _Job] = {}
        self._results: dict[str, _Result] = {}
        control: dict[str, Method[Any, Any]] = {
            "Solve": unary(self._solve, wire.SolveRequest, wire.SolveResponse),
            "Session": conversation(self._session, wire.BytesMessage, wire.BytesMessage),
            "Status": updates(self._status, wire.StatusRequest, wire.StatusResponse),
            "ListWorkers": unary(self._list_workers, wire.Empty, wire.ListWorkersResponse),
            "Info": unary(self._info, wire.Empty, wire.InfoResponse),
            "DiskUsage": unary(self._disk_usage, wire.DiskUsageRequest, wire.DiskUsageResponse),
            "Prune": updates(self._prune, wire.PruneRequest, wire.UsageRecord),
        }
        gateway: dict[str, Method[Any, Any]] = {
            "Ping": unary(self._ping, wire.Empty, wire.PongResponse),
            "Solve": unary(self._gateway_solve, wire.GatewaySolveRequest, wire.GatewaySolveResponse),
            "Evaluate": unary(self._evaluate, wire.EvaluateRequest, wire.Empty),
            "Inputs": unary(self._inputs, wire.Empty, wire.Empty),
            "Return": unary(self._return, wire.ReturnRequest, wire.Empty),
        }
        methods = {f"{_CONTROL}{name}": method for name, method in control.items()}
        methods |= {f"{_GATEWAY}{name}": method for name, method in gateway.items()}
        self.calls = Serving(methods, failures.told)

    # ── Control ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _solve(self, request: wire.SolveRequest, call: Call) -> wire.SolveResponse:
        return await self.solve(request)

    async def solve(self, request: wire.SolveRequest) -> wire.SolveResponse:
        """One build. Raises GRPCError for its failure, CarrackError for what cannot be meant; who is cancelled takes it back."""
        _check(request)
        with self._using(request.Ref) as job:
            if job.begun:
                raise Conflict(f"build {request.Ref} has begun already")
            job.begun = True
            job.session.set_result(request.Session)
            try:
                if request.Frontend:
                    order: attributes.Order | None = attributes.read(
                        request.Frontend, request.FrontendAttrs, request.FrontendInputs
                    )
                else:
                    order = await self._returned(job)
                if order is None or order.call:
                    return wire.SolveResponse()
                for name in job.results:
                    if (image := self._results[name].image) is not None:
                        await asyncio.shield(image)  # what is built already is then in the cache
                solving = await self._solving(job)
                caches = attributes.caches_to(request.Cache)
                response, _ = await solving.build(order, _exporters(request), caches, request.Entitlements)
                return wire.SolveResponse(ExporterResponse=response)
            except CarrackError as error:
                raise failures.build_failure(error, job.feed.dockerfile) from error
            finally:
                job.ended = True
                job.feed.end()
                for name in job.results:
                    await self._let_go(self._results[name])

    async def _returned(self, job: _Job) -> attributes.Order | None:
        """What the client's build function has come to; None for nothing. Raises GRPCError for its failure."""
        returned = await job.returned
        if returned.HasField("error"):
            failure = returned.error
            raise GRPCError(_status(failure.code), failure.message, list(failure.details))
        names = {ref.id for ref in (returned.result.ref, *returned.result.refs.refs.values()) if ref.id}
        if not names:
            return None
        if len(names) > 1:
            raise InvalidParameter("a build may return one result, and no more")
        return self._result(names.pop()).order

    async def _solving(self, job: _Job) -> Solving:
        session = await self.sessions.get(await job.session)
        return Solving(self._means, session, job.feed, self._other_image)

    async def _status(self, request: wire.StatusRequest, call: Call) -> AsyncIterator[wire.StatusResponse]:
        async for response in self.status(request.Ref):
            yield response

    async def status(self, reference: str) -> AsyncIterator[wire.StatusResponse]:
        """How a build goes, to its end; it may be about to begin."""
        with self._using(reference) as job:
            async for response in job.feed.responses():
                yield response

    async def _session(self, stream: ServerStream[wire.BytesMessage, wire.BytesMessage]) -> None:
        """A session within a call, where a client uses one for several builds: the same bytes as on a connection of its own."""
        fields = metadata_of(stream.metadata)
        name = next(iter(fields.get("x-docker-expose-session-uuid", ())), "")
        if not name or self.sessions.has(name):
            raise Conflict(f"session {name} already exists" if name else "a session needs an id")
        shared_key = next(iter(fields.get("x-docker-expose-session-sharedkey", ())), "")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        attending = asyncio.ensure_future(self.sessions.attend(name, shared_key, HandedOver(theirs.detach(), b"", eof=False)))
        reader, writer = await asyncio.open_connection(sock=ours)
        sending = asyncio.ensure_future(_send(reader, stream))
        try:
            while (message := await stream.recv_message()) is not None:
                writer.write(message.data)
                await writer.drain()
        finally:
            writer.close()
            sending.cancel()
            attending.cancel()
            await asyncio.gather(attending, sending, return_exceptions=True)

    async def _list_workers(self, request: wire.Empty, call: Call) -> wire.ListWorkersResponse:
        return wire.ListWorkersResponse(record=[await self._worker()])

    async def _worker(self) -> wire.WorkerRecord:
        """What this builder says it is. Tools read from the snapshotter's label that images of several platforms, archives, caches
        and pushes are done here, as in a Docker that has containerd's image store.
        """
        platforms = await in_thread(_platforms)
        labels = {
            "org.mobyproject.buildkit.worker.executor": "carrack",
            "org.mobyproject.buildkit.worker.hostname": os.uname().nodename,
            "org.mobyproject.buildkit.worker.network": "bridge",
            "org.mobyproject.buildkit.worker.snapshotter": "overlayfs",
        }
        policy = wire.GCPolicy(all=True, maxUsedSpace=self._means.collector.ceiling_bytes)
        identity = hashlib.sha256(str(self._means.sockets).encode()).hexdigest()[:25]
        return wire.WorkerRecord(ID=identity, Labels=labels, platforms=platforms, policies=[policy], version=_version())

    async def _info(self, request: wire.Empty, call: Call) -> wire.InfoResponse:
        return wire.InfoResponse(buildkitVersion=_version())

    async def _disk_usage(self, request: wire.DiskUsageRequest, call: Call) -> wire.DiskUsageResponse:
        tests = [_test(text) for text in request.filter if text]
        kept = await in_thread(self._means.collector.account)
        return wire.DiskUsageResponse(record=[_usage(each) for each in kept if all(test(each) for test in tests)])

    async def _prune(self, request: wire.PruneRequest, call: Call) -> AsyncIterator[wire.UsageRecord]:
        filters: dict[str, tuple[str, ...]] = {}
        if request.keepDuration:
            filters["unused-for"] = (f"{request.keepDuration}ns",)
        for name, value in (_term(text) for text in request.filter if text):
            filters[name] = (*filters.get(name, ()), value)
        wanted = Pruning(
            all=request.all,
            keep_bytes=request.reservedSpace,
            ceiling_bytes=request.maxUsedSpace,
            free_bytes=request.minFreeSpace,
            filters=filters,
        )
        before = {each.record.key: each for each in await in_thread(self._means.collector.account)}
        removed, _ = await in_own_thread(self._means.collector.prune, wanted)
        for record in removed:
            if (kept := before.get(record.key)) is not None:
                yield _usage(kept)

    # ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ping(self, request: wire.Empty, call: Call) -> wire.PongResponse:
        return wire.PongResponse(
            FrontendAPICaps=[wire.Capability(ID=each, Enabled=True) for each in _FRONTEND_ABILITIES],
            LLBCaps=[wire.Capability(ID=each, Enabled=True) for each in _LLB_ABILITIES],
            Workers=[await self._worker()],
        )

    async def _gateway_solve(self, request: wire.GatewaySolveRequest, call: Call) -> wire.GatewaySolveResponse:
        with self._using(_build_id(call)) as job:
            if request.SourcePolicies:
                raise InvalidParameter("source policies are not supported by this builder")
            if not request.Frontend:
                raise InvalidParameter("this builder builds Dockerfiles: a definition (LLB) is not solved by itself")
            order = attributes.read(request.Frontend, request.FrontendOpt, request.FrontendInputs)
            if order.call:
                return wire.GatewaySolveResponse(result=wire.Result(metadata=await self._called(job, order)))
            name = os.urandom(12).hex()
            self._results[name] = _Result(job, order)
            job.results.append(name)
            if request.Evaluate:
                await self._built(name)
            reference = wire.Ref(id=name, definition=attributes.result_definition(name))
            return wire.GatewaySolveResponse(result=wire.Result(ref=reference))

    async def _called(self, job: _Job, order: attributes.Order) -> dict[str, bytes]:
        """What a method of the front end gives: its document, which the tools know how to show."""
        solving = await self._solving(job)
        try:
            await solving.build(order)
        except CarrackError as error:
            raise failures.build_failure(error, job.feed.dockerfile) from error
        warnings = solving.answer.get("warnings") if order.call == "check" else None
        document = msgspec.json.encode(solving.answer)
        return {"result.json": document, "result.txt": document + b"\n", "result.statuscode": b"1" if warnings else b"0"}

    async def _evaluate(self, request: wire.EvaluateRequest, call: Call) -> wire.Empty:
        with self._using(_build_id(call)):
            await self._built(request.Ref)
        return wire.Empty()

    async def _inputs(self, request: wire.Empty, call: Call) -> wire.Empty:
        return wire.Empty()

    async def _return(self, request: wire.ReturnRequest, call: Call) -> wire.Empty:
        with self._using(_build_id(call)) as job:
            if job.returned.done():
                raise Conflict("this build has returned already")
            job.returned.set_result(request)
        return wire.Empty()

    async def _built(self, name: str) -> str:
        """Have a result built, as an image without a name, once for all who want it."""
        result = self._result(name)

        async def build() -> str:
            solving = await self._solving(result.job)
            try:
                _, image = await solving.build(result.order, (wire.Exporter(Type="image"),))
            except CarrackError as error:
                raise failures.build_failure(error, result.job.feed.dockerfile) from error
            return image

        if result.image is None:
            result.image = asyncio.ensure_future(build())
        return await asyncio.shield(result.image)

    @asynccontextmanager
    async def _other_image(self, name: str) -> AsyncIterator[str]:
        """A result's image, for the length of a build that uses it."""
        result = self._result(name)
        result.holders += 1
        try:
            yield await self._built(name)
        finally:
            result.holders -= 1
            await self._let_go(result)

    async def _let_go(self, result: _Result) -> None:
        """Take away the image of a result that nobody will use any more; a build of it that goes on is taken back."""
        if result.holders or not result.job.ended or result.image is None:
            return
        image, result.image = result.image, None
        image.cancel()
        with suppress(asyncio.CancelledError, GRPCError):
            await self._means.builder.forget_image(await image)

    def _result(self, name: str) -> _Result:
        try:
            return self._results[name]
        except KeyError:
            raise NotFound(f"no such result of a build: {name}") from None

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _using(self, reference: str) -> _Using:
        """A build, known for as long as a call names it; its status a little longer."""
        if not reference:
            raise InvalidParameter("a build needs a reference")
        job = self._jobs.get(reference)
        if job is None:
            if len(self._jobs) >= _JOBS_LIMIT:
                raise Conflict("too many builds at the same time")
            loop = asyncio.get_running_loop()
            job = self._jobs[reference] = _Job(StatusFeed(reference), loop.create_future(), loop.create_future())
        return _Using(self, reference, job)

    def forget(self, reference: str, job: _Job) -> None:
        """A build that nobody names any more."""
        if job.users == 0 and self._jobs.get(reference) is job:
            del self._jobs[reference]
            for name in job.results:
                self._results.pop(name, None)


class _Using:
    """A call's use of a job."""

    def __init__(self, services: Services, reference: str, job: _Job) -> None:
        self._services = services
        self._reference = reference
        self._job = job

    def __enter__(self) -> _Job:
        self._job.users += 1
        return self._job

    def __exit__(self, *_: object) -> None:
        self._job.users -= 1
        if self._job.users == 0:
            loop = asyncio.get_running_loop()
            loop.call_later(_REMEMBERED_SECONDS, self._services.forget, self._reference, self._job)


async def _send(reader: asyncio.StreamReader, stream: ServerStream[wire.BytesMessage, wire.BytesMessage]) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        await stream.send_message(wire.BytesMessage(data=piece))


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check(request: wire.SolveRequest) -> None:
    """Raises InvalidParameter for what this builder does not do."""
    if request.definition.ops:
        raise InvalidParameter("this builder builds Dockerfiles: a definition (LLB) is not solved by itself")
    if request.source_policy.rules or request.SourcePolicySession:
        raise InvalidParameter("source policies are not supported by this builder")
    if request.EnableSessionExporter:
        raise InvalidParameter("outputs that the client chooses at the end are not supported by this builder")


def _exporters(request: wire.SolveRequest) -> list[wire.Exporter]:
    if request.Exporters or not request.ExporterDeprecated:
        return list(request.Exporters)
    return [wire.Exporter(Type=request.ExporterDeprecated, Attrs=request.ExporterAttrsDeprecated)]


def _status(code: int) -> Status:
    with suppress(ValueError):
        if (status := Status(code)) is not Status.OK:
            return status
    return Status.UNKNOWN


def _build_id(call: Call) -> str:
    return next(iter(call.get(_BUILD_ID, ())), "")


def _version() -> wire.BuildkitVersion:
    return wire.BuildkitVersion(package="github.com/moby/buildkit", version=f"{_SPEAKS}+carrack{__version__}")


def _platforms() -> list[wire.Platform]:
    """This machine's, and those that the kernel has an emulator for."""
    found: Mapping[Platform, None] = dict.fromkeys(
        [machine(), *(each for each in (Platform.parse(f"linux/{name}") for name in _EMULATED) if emulator(each))]
    )
    return [wire.Platform(Architecture=each.architecture, OS=each.os, Variant=each.variant or "") for each in found]


def _usage(kept: Kept) -> wire.UsageRecord:
    record = kept.record
    return wire.UsageRecord(
        ID=record.id,
        Mutable=False,
        InUse=kept.in_use,
        Size=kept.size_bytes,
        CreatedAt=moment(record.created),
        LastUsedAt=moment(record.used),
        UsageCount=record.uses,
        Description=record.description,
        RecordType=record.kind,
        Shared=kept.shared,
        Parents=[parent.removeprefix("sha256:")[:25] for parent in record.parents],
    )


def _term(text: str) -> tuple[str, str]:
    """``name==value``, containerd's way to write a filter. Raises InvalidParameter for its others."""
    name, equals, value = text.partition("==")
    if not equals or not name.isidentifier():
        raise InvalidParameter(f"unsupported filter {text!r}: want name=value")
    return name, value


def _test(text: str) -> Callable[[Kept], bool]:
    """A filter of `buildx du`. Raises InvalidParameter."""
    name, value = _term(text)
    fields: dict[str, Callable[[Kept], str]] = {
        "id": lambda kept: kept.record.id,
        "type": lambda kept: kept.record.kind,
        "description": lambda kept: kept.record.description,
        "inuse": lambda kept: str(kept.in_use).lower(),
        "shared": lambda kept: str(kept.shared).lower(),
    }
    if name not in fields:
        raise InvalidParameter(f"unknown filter {name!r}: want one of {', '.join(fields)}")
    return lambda kept: fields[name](kept) == value

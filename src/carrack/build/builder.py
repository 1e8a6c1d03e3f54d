"""A build from its request to its outcome: read the Dockerfile, find the images, convert, solve, export.

Knows the order of things and nothing of how they come in or are shown: a transport makes a `BuildRequest` and takes events.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from carrack.build import exporters, findings, request_file
from carrack.build.bases import Bases, Wanted, images_of, shown_name, with_triggers
from carrack.build.cache import HISTORY, BuildCache
from carrack.build.cache_export import check_target, forgives
from carrack.build.cache_import import CacheImporter, Imports, opened
from carrack.build.cache_key import named_key
from carrack.build.convert import Circumstances, convert
from carrack.build.delivery import CACHE, Delivered, Delivery, Finished
from carrack.build.dockerfile.lint import lint
from carrack.build.dockerfile.lint_rules import LintWarning
from carrack.build.dockerfile.stages import Dockerfile
from carrack.build.plan import ImageContext, LayoutContext, Plan
from carrack.build.ports import BaseImages, LocalContext
from carrack.build.progress import (
    Answered,
    Built,
    Opening,
    Planned,
    PlannedStep,
    Tell,
    Told,
    VertexCompleted,
    VertexStarted,
    VertexStatus,
)
from carrack.build.request import BuildRequest, CacheReference, Export
from carrack.build.solver import Solver, VertexFailed
from carrack.build.trees import packed_tree
from carrack.build.workshop import BuildWorkshop, Equipment
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, CarrackError, Conflict, Forbidden, InvalidParameter, NotFound
from carrack.images.image import Image
from carrack.images.images import Images
from carrack.images.load import load_layout
from carrack.oci.digest import Digest, chain_id
from carrack.oci.platform import Platform, machine

log = logging.getLogger("carrack.build")

_EPOCH = "SOURCE_DATE_EPOCH"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a build came to."""

    image: str = ""
    names: tuple[str, ...] = ()
    warnings: tuple[LintWarning, ...] = ()


class BuildFailed(CarrackError):
    """A build that failed at a step: the error, and the Dockerfile's lines around that step."""

    def __init__(
        self,
        cause: CarrackError,
        vertex: str = "",
        source: str = "",
        code: int = 0,
        instruction: str = "",
        lines: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(cause.message)
        self.cause = cause
        self.vertex = vertex
        self.source = source
        self.code = code
        self.instruction = instruction
        self.lines = lines
        """The step's first and last line in the Dockerfile; 0: it has none."""


class Builder:
    """Builds, for every transport. Lives on the event loop."""

    def __init__(
        self,
        solver: Solver,
        equipment: Equipment,
        images: Images,
        delivery: Delivery,
        importer: CacheImporter,
        registries: BaseImages,
        tidy: Callable[[], object] = lambda: None,
        entitlements: frozenset[str] = frozenset(),
    ) -> None:
        """`tidy` is called, in a thread, after each build; `entitlements` are the rights that a client may ask for."""
        self._entitlements = entitlements
        self._solver = solver
        self._tidy = tidy
        self._tidying: asyncio.Task[object] | None = None
        self.equipment = equipment
        self._images = images
        self._delivery = delivery
        self._importer = importer
        self._registries = registries
        self._running: dict[Cancellation, asyncio.Task[Outcome]] = {}

    @property
    def cache(self) -> BuildCache:
        return self.equipment.cache

    async def build(self, request: BuildRequest, tell: Tell, cancel: Cancellation) -> Outcome:
        """Build; the request's contexts are closed at the end, whatever that is.

        Raises InvalidParameter (DockerfileError for a fault in the file), NotFound, BuildFailed, Cancelled.
        """
        task = asyncio.ensure_future(self._build_all(request, tell, cancel))
        self._running[cancel] = task
        loop = asyncio.get_running_loop()
        try:
            with cancel.calling(lambda: _ignore(loop.call_soon_threadsafe(task.cancel))):
                return await task
        except asyncio.CancelledError:
            if cancel.cancelled and task.cancelled():
                raise Cancelled("the build was cancelled") from None
            raise
        finally:
            del self._running[cancel]
            await self._solver.look(lambda: _close(request))
            if self._tidying is None or self._tidying.done():
                self._tidying = asyncio.ensure_future(self._solver.look(self._tidy))
                self._tidying.add_done_callback(_tell_trouble)

    async def _build_all(self, request: BuildRequest, tell: Tell, cancel: Cancellation) -> Outcome:
        """The build, its named contexts that are layouts loaded before and forgotten behind it."""
        known = frozenset(image.id for image in self._images.list()) if _layouts(request) else frozenset()
        named = dict(request.named)
        loaded: list[Digest] = []
        try:
            for name, layout in _layouts(request).items():
                context = request.contexts[layout.context]
                image = await self._solver.step(partial(self._loaded, context, layout.wanted, cancel))
                loaded.append(image)
                named[name] = ImageContext(str(image))
            return await self._build(replace(request, named=named), tell, cancel)
        finally:
            for image in set(loaded) - known:
                with suppress(NotFound, Conflict):
                    await self._solver.look(partial(self._images.remove, str(image)))

    def _loaded(self, context: LocalContext, wanted: str, cancel: Cancellation) -> Digest:
        """An image of a layout, which a worker packs. Blocking."""
        with packed_tree(self.equipment.files, context.tree(), cancel) as stream:
            return load_layout(self._images.store, iter(partial(stream.read, _PIECE_BYTES), b""), wanted)

    async def _build(self, request: BuildRequest, tell: Tell, cancel: Cancellation) -> Outcome:
        look = self._solver.look
        for right in sorted(request.surroundings.allowed - self._entitlements):
            if right.partition("=")[0] in self._entitlements:
                continue
            raise Forbidden(f"{right} is not allowed: this daemon's builder.entitlements do not grant it")
        content, ignore = await look(lambda: request_file.content_of(request))
        platforms = request.platforms or (machine(),)
        file = request_file.read(request, content, platforms[0])
        warnings = lint(file)
        target = file.target(request.target)
        if request.call:
            if request.call == "check":
                findings.tell_all(file, warnings, tell)
            tell(Answered(findings.answer(request, file, target, content, warnings)))
            return Outcome(warnings=warnings)
        for reference in (*request.cache_to, *(_as_cache(each) for each in request.exports if each.type == CACHE)):
            check_target(reference)
        needed = file.needed(target)
        total = sum(1 + len(stage.triggers) + len(stage.instructions) for stage in needed) * len(platforms)
        tell(Opening(needed[0].opening.source, total))
        bases = Bases(self._images, self._registries, request.credentials, tell, cancel, self._keep_base, pull=request.pull)
        plans = await asyncio.gather(*(self._plan(request, content, each, bases, ignore) for each in platforms))
        expanded = [each for plan in plans for each in findings.of_plan(file, plan)]
        found = [*warnings, *dict.fromkeys(expanded)]
        findings.tell_all(file, found, tell)
        findings.refuse(file, found)
        steps = tuple(step for plan in plans for step in plan.steps)
        here = await look(lambda: self._sources_here(request)) if request.only_cache_from else None
        tell(Planned(await look(lambda: self._lines_known(steps, request, here)) if request.remember_lines else steps))
        if plans[0].unused_arguments:
            tell(Told(f"[Warning] One or more build-args [{' '.join(plans[0].unused_arguments)}] were not consumed"))
        return await self._carry_out(file, content, plans, request, tell, cancel, tuple(found), here)

    def _sources_here(self, request: BuildRequest) -> frozenset[Digest]:
        """The stacks that images named by `cache_from` went through. Blocking."""
        found: set[Digest] = set()
        for reference in request.cache_from:
            with suppress(NotFound, InvalidParameter):
                diff_ids = [
                    Digest.parse(each) for each in self._images.get(reference.attributes.get("ref", "")).config.rootfs.diff_ids
                ]
                found |= {chain for length in range(len(diff_ids)) if (chain := chain_id(diff_ids[: length + 1])) is not None}
        return frozenset(found)

    def _lines_known(
        self, steps: Sequence[PlannedStep], request: BuildRequest, here: frozenset[Digest] | None
    ) -> tuple[PlannedStep, ...]:
        """The steps, those marked that touch no file and were built before; from now on all were. Blocking."""
        usable = not request.no_cache and here != frozenset()
        told = []
        for step in steps:
            if step.line:
                key = named_key("told", step.line)
                step = msgspec.structs.replace(step, known=usable and self.cache.find(key.digest) is not None)
                if not step.known:
                    self.cache.put(key, kind=HISTORY, description=step.text[:200])
            told.append(step)
        return tuple(told)

    async def _plan(self, request: BuildRequest, content: bytes, platform: Platform, bases: Bases, ignore: tuple[str, ...]) -> Plan:
        """The build of one platform, converted."""
        file = request_file.read(request, content, platform)
        number = file.target(request.target).number
        file = await self._with_images(file, number, request, platform, bases)
        circumstances = self._circumstances(request, platform, bases, ignore)
        return await self._solver.look(lambda: convert(file, file.stages[number], circumstances))

    def _keep_base(self, name: str, image: Image) -> None:
        """Have the layers of an image for another platform unpacked, and held as long as the cache likes. Blocking."""
        store, made = self._images.store, list[Digest]()
        try:
            store.builder.ensure(image.config.diff_ids, [layer.name for layer in image.layers], made)
            key = named_key("image", str(image.id))
            self.cache.put(key, chain_id=chain_id(image.config.diff_ids), description=f"pulled from {name}")
        except BaseException:
            store.release(made)
            raise

    async def _with_images(
        self, file: Dockerfile, target: int, request: BuildRequest, platform: Platform, bases: Bases
    ) -> Dockerfile:
        """Resolve every image that is needed; ONBUILD instructions that one brings may need more."""
        named = dict(request.named)
        asked = bool(request.platforms)
        seen: set[object] = set()
        while True:
            needed = file.needed(file.stages[target])
            wanted = [each for each in images_of(file, needed, named, platform, asked=asked) if each not in seen]
            if not wanted:
                return file
            await asyncio.gather(*(self._resolved(each, file, bases) for each in wanted))
            seen.update(wanted)
            file = with_triggers(file, bases, named, platform)

    async def _resolved(self, wanted: Wanted, file: Dockerfile, bases: Bases) -> None:
        """An image, found or pulled; a failure is shown with the line that names it."""
        try:
            await self._solver.step(lambda: bases.resolve(wanted))
        except Cancelled:
            raise
        except CarrackError as error:
            stage = next((each for each in file.stages if each.base.name == wanted.name), None)
            line = stage.opening.position.start if stage is not None else 0
            raise BuildFailed(error, source=request_file.excerpt(file, line, line), lines=(line, line)) from error

    def _circumstances(self, request: BuildRequest, platform: Platform, bases: Bases, ignore: tuple[str, ...]) -> Circumstances:
        return Circumstances(
            build_arguments=request.build_arguments,
            platform=platform,
            image_of=bases.image_of,
            is_git=self.equipment.remotes.is_git,
            named=request.named,
            ignore=ignore,
            has_context="" in request.contexts,
            surroundings=request.surroundings,
            no_cache=request.no_cache,
            labels=request.labels,
            several=len(request.platforms) > 1,
        )

    async def _carry_out(
        self,
        file: Dockerfile,
        content: bytes,
        plans: Sequence[Plan],
        request: BuildRequest,
        tell: Tell,
        cancel: Cancellation,
        warnings: tuple[LintWarning, ...],
        only: frozenset[Digest] | None,
    ) -> Outcome:
        epoch = _epoch(request.build_arguments)
        started = time.time_ns()
        caches = await self._solver.step(
            lambda: opened(self._importer, request.cache_from, request.contexts, request.credentials, lambda text: tell(Told(text)))
        )
        workshop = BuildWorkshop(
            self.equipment,
            request.contexts,
            request.secrets,
            request.agents,
            request.surroundings,
            epoch,
            bool(request.no_cache),
            Imports(self._images, self.equipment.cache, caches) if caches else None,
            only,
        )
        made = [vertex for plan in plans for vertex in plan.target.made]
        lease = ExitStack()
        if epoch is None and any(
            export.type in ("image", "docker", "moby") and not export.attributes for export in request.exports
        ):
            workshop.pack_for_image = self._delivery.packer(lease)
            workshop.of_image = frozenset(vertex.digest for vertex in made)
        try:
            targets = [*(plan.target.vertex for plan in plans if plan.target.vertex is not None), *made]
            try:
                results = await self._solver.solve(targets, workshop, tell, cancel)
            except VertexFailed as failed:
                shown = failed.vertex.shown
                code = getattr(failed.cause, "code", 0)
                source = request_file.excerpt(file, shown.line, shown.last_line)
                lines = (shown.line, shown.last_line)
                raise BuildFailed(failed.cause, failed.vertex.digest, source, code, shown.classic, lines) from failed
            finished = Finished(request, tuple(plans), results, workshop, content, epoch, cancel, started)
            delivered = [await self._exported(export, number, finished, tell) for number, export in enumerate(request.exports)]
            for number, reference in enumerate(request.cache_to):
                if reference.type != "inline":
                    await self._cache_sent(reference, number, finished, tell)
            image = next((each for each in delivered if each.image), Delivered())
            tell(Built(image.image, image.names, dict(image.metadata)))
            return Outcome(image.image, image.names, warnings)
        finally:
            workshop.release()
            await self._solver.look(lease.close)

    async def _exported(self, export: Export, number: int, build: Finished, tell: Tell) -> Delivered:
        """One output, shown as a step of its own."""
        vertex = f"export:{number}"
        tell(VertexStarted(vertex, exporters.title(export), time.time_ns()))
        try:
            done = await self._solver.step(partial(self._delivery.export, export, build))
        except CarrackError as error:
            tell(VertexCompleted(vertex, time.time_ns(), error=error.message))
            raise
        if done.image:
            tell(VertexStatus(vertex, "image", f"writing image {done.image}", completed=True))
            digest = str(done.metadata.get("containerimage.digest", ""))
            tell(VertexStatus(vertex, "manifest", f"exporting manifest {digest}", completed=True))
        for name in done.names:
            tell(VertexStatus(vertex, name, f"naming to {shown_name(name)}", completed=True))
        tell(VertexCompleted(vertex, time.time_ns()))
        return done

    async def _cache_sent(self, reference: CacheReference, number: int, build: Finished, tell: Tell) -> None:
        """The build's cache to where it was asked for, shown as a step of its own."""
        vertex = f"cache:{number}"
        tell(VertexStarted(vertex, f"exporting cache to {reference.type}", time.time_ns()))
        try:
            await self._solver.step(partial(self._delivery.send_cache, reference, build))
        except Cancelled:
            raise
        except CarrackError as error:
            tell(VertexCompleted(vertex, time.time_ns(), error=error.message))
            if not forgives(reference):
                raise
            tell(Told(f"[Warning] the cache was not exported: {error.message}"))
            return
        tell(VertexCompleted(vertex, time.time_ns()))

    async def forget_image(self, image: str) -> None:
        """Remove an image that was built for another build alone, unless it has a name."""

        def forget() -> None:
            with suppress(NotFound, Conflict):
                if not self._images.get(image).names:
                    self._images.remove(image)

        await self._solver.look(forget)

    async def close(self) -> None:
        """Take back every build, wait until they have ended, and let the threads go."""
        for cancel, task in list(self._running.items()):
            cancel.cancel()
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        if self._tidying is not None:
            await asyncio.gather(self._tidying, return_exceptions=True)
        self._solver.close()


def _layouts(request: BuildRequest) -> dict[str, LayoutContext]:
    return {name: context for name, context in request.named.items() if isinstance(context, LayoutContext)}


def _as_cache(export: Export) -> CacheReference:
    return CacheReference("local", export.attributes)


def _tell_trouble(done: asyncio.Task[object]) -> None:
    """What goes wrong while tidying up is no build's failure."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("cannot bring the build cache under its ceiling: %s", error)


def _ignore(_: object) -> None:
    """For calls whose answer nobody needs."""


def _close(request: BuildRequest) -> None:
    for context in request.contexts.values():
        context.close()


def _epoch(arguments: Mapping[str, str]) -> int | None:
    text = arguments.get(_EPOCH, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise InvalidParameter(f"invalid {_EPOCH}: {text}")
    return int(text)

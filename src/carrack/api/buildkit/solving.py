"""One Solve: the client's files received, the build carried out by the builder, its outputs pushed or given to the client."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from carrack.api.blocking import in_own_thread
from carrack.api.buildkit import attributes
from carrack.api.buildkit.attributes import ClientImage, LocalFolder, NamedImage, Order, OtherBuild, Remote, Source
from carrack.api.buildkit.blob_store import BlobStore, ClientLayout, receive_layout, send_layout
from carrack.api.buildkit.client_folder import ClientFolder
from carrack.api.buildkit.file_send import send_archive, send_tree
from carrack.api.buildkit.file_sync import Tell, folder_key, read_files, receive_folder, receive_upload
from carrack.api.buildkit.session import Agents, Asked, Session, Sessions
from carrack.api.buildkit.status import StatusFeed
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from carrack.build.builder import Builder
from carrack.build.collect import Collector
from carrack.build.contexts.reception import Reception
from carrack.build.delivery import CACHE
from carrack.build.dockerfile.ignore import ignore_file_names, read_ignore_file
from carrack.build.plan import ImageContext, LayoutContext, LocalNamed, NamedContext, RemoteNamed
from carrack.build.ports import LocalContext
from carrack.build.progress import Answered, Built, Event, Told, VertexCompleted, VertexStarted, VertexStatus
from carrack.build.request import BuildRequest, CacheReference, Export
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, DataCorrupt, InvalidParameter, NotFound
from carrack.images.images import new_name
from carrack.images.progress import Progress
from carrack.oci.descriptor import OCI_MANIFEST, Descriptor
from carrack.oci.digest import Digest
from carrack.oci.reference import Reference
from carrack.path_patterns import clean

_DOCKERFILE_LIMIT_BYTES = 16 << 20
_CONTEXT = "[internal] load build context"
_SHOWN_SECONDS = 0.1
"""How often a transfer says how far it is."""
_IN_STORE = frozenset(("image", "moby"))
_TO_CLIENT = frozenset(("local", "tar", "oci", "docker", CACHE))
_SAYS_NOTHING = frozenset(
    (
        "name",
        "push",
        "prefer-image-digest",
        "unpack",
        "context",
        "name-canonical",
        "dangling-name-prefix",
        "buildinfo-attrs",
        "dest",
    )
)
"""What of an output's attributes the client has done with, or what is the only way here."""


@dataclass(frozen=True, slots=True)
class Means:
    """What builds are done with, the same for all."""

    builder: Builder
    reception: Reception
    collector: Collector
    push: Callable[[str, str], Iterator[Progress]]
    """An image by its name to its registry, with an X-Registry-Auth header."""
    sockets: Path
    sessions: Sessions


class Solving:
    """One build for one client. Lives on the event loop."""

    def __init__(
        self, means: Means, session: Session, feed: StatusFeed, other: Callable[[str], AbstractAsyncContextManager[str]]
    ) -> None:
        """`other` has another build of the same client done, and gives its image for the length of this one."""
        self._means = means
        self._session = session
        self._feed = feed
        self._other = other
        self._stack = AsyncExitStack()
        """What is given back when the build has ended."""
        self._cancel = Cancellation()
        self._built = Built("")
        self._contexts: dict[str, str] = {}
        """The vertices that show how folders come, by their titles."""
        self._giving: frozenset[str] = frozenset()
        """The vertices of outputs that go to the client."""
        self.answer: Mapping[str, object] = {}
        """What a method of the front end gave."""

    async def build(
        self,
        order: Order,
        exporters: Sequence[wire.Exporter] = (),
        cache_to: Sequence[CacheReference] = (),
        entitlements: Sequence[str] = (),
    ) -> tuple[dict[str, str], str]:
        """Build; what BuildKit's response says of the result, and the image's id. Raises CarrackError; whoever is cancelled takes
        the build back.
        """
        wanted, leaving = _exports(exporters, order)
        async with self._stack as stack:
            agents = Agents(self._session, self._means.sockets)
            stack.push_async_callback(agents.close)
            to_client = [each for each in cache_to if each.type == "local"]
            wanted += [
                Export(CACHE, {name: value for name, value in each.attributes.items() if name != "dest"}) for each in to_client
            ]
            exports = [self._export(each, stack) for each in wanted]
            request = BuildRequest(
                target=order.target,
                build_arguments=order.build_arguments,
                labels=order.labels,
                names=_names(exporters),
                platforms=order.platforms,
                no_cache=order.no_cache,
                pull=order.pull,
                surroundings=replace(order.surroundings, allowed=frozenset(entitlements)),
                secrets=Asked(self._session.secret),
                agents=Asked(agents.path),
                credentials=(credentials := Asked(self._session.credentials)),
                cache_from=order.cache_from,
                cache_to=tuple(each for each in cache_to if each.type != "local"),
                exports=tuple(exports),
                attestations=_attestations(order, leaving),
                call=order.call,
            )
            self._giving = frozenset(f"export:{number}" for number, export in enumerate(exports) if export.target_fd >= 0)
            await self._carry_out(await self._with_files(request, order))
            self._giving = frozenset()
            response = {}
            for number, export in enumerate(exports):
                if export.type == CACHE:
                    store = BlobStore(self._session, f"local:{to_client.pop(0).attributes.get('dest', '')}")
                    async with self._ending(f"export:{number}"):
                        response["cache.manifest"] = await send_layout(store, export.target_fd)
                elif export.target_fd >= 0:
                    await self._give(number, export)
            digests = [await self._push(name, credentials) for name in _pushed(exporters)]
            return response | self._response(digests), self._built.image

    async def _carry_out(self, request: BuildRequest) -> None:
        building = asyncio.ensure_future(self._means.builder.build(request, self._tell, self._cancel))
        try:
            await asyncio.shield(building)
        except asyncio.CancelledError:
            self._cancel.cancel()
            await asyncio.gather(building, return_exceptions=True)
            raise

    def _tell(self, event: Event) -> None:
        """From any thread."""
        match event:
            case Built():
                self._built = event
            case Answered():
                self.answer = event.document
            case VertexStarted() if event.name == _CONTEXT or event.name.startswith("[context "):
                self._contexts[event.name] = event.vertex
            case VertexCompleted(error="") if event.vertex in self._contexts.values():
                event = msgspec.structs.replace(event, cached=False)
            case VertexCompleted(error="") if event.vertex in self._giving:
                return  # it ends when the client has what was made
        self._feed.tell(event)

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _with_files(self, request: BuildRequest, order: Order) -> BuildRequest:
        """The request with the Dockerfile and every context; the contexts are closed when one does not come."""
        contexts: dict[str, LocalContext] = {}
        named: dict[str, NamedContext] = {}
        try:
            filename, content, ignore = await self._dockerfile(order)
            receiving = [asyncio.ensure_future(self._main(order, ignore, contexts))]
            receiving += [asyncio.ensure_future(self._named(name, source, contexts, named)) for name, source in order.named.items()]
            try:
                lone = (await asyncio.gather(*receiving))[0]
            except BaseException:
                self._cancel.cancel()
                for each in receiving:
                    each.cancel()
                await asyncio.gather(*receiving, return_exceptions=True)
                raise
        except BaseException:
            for context in contexts.values():
                await in_own_thread(context.close)
            raise
        request = replace(request, contexts=contexts, named=named, cache_from=await self._caches(order, contexts))
        return replace(request, dockerfile=lone or filename, dockerfile_content=content)

    async def _caches(self, order: Order, contexts: dict[str, LocalContext]) -> tuple[CacheReference, ...]:
        """The caches to use; those that the client has as folders become contexts. One that is not there is told of, and left."""
        caches = []
        for number, cache in enumerate(order.cache_from):
            if cache.type != "local":
                caches.append(cache)
                continue
            name, folder = f"cache:{number}", cache.attributes.get("src", "")
            store = BlobStore(self._session, f"local:{folder}")
            try:
                digest = Digest.parse(cache.attributes.get("digest", ""))
                manifest = Descriptor(OCI_MANIFEST, str(digest), len(await store.document(digest)))
            except (NotFound, InvalidParameter, DataCorrupt) as error:
                self._tell(Told(f"[Warning] cannot use the cache of {folder}: {error.message}"))
                continue
            contexts[name] = ClientLayout(store, manifest, self._means.reception.slots, self._cancel)
            caches.append(CacheReference("local", {"src": folder, "context": name}))
        return tuple(caches)

    async def _dockerfile(self, order: Order) -> tuple[str, bytes | None, bytes | None]:
        """The Dockerfile's name and content and its own ignore file; None for what is, or may be, in the context."""
        if order.dockerfile is None:
            return order.filename, None, None
        path = clean(order.filename)
        names = [path, ignore_file_names(path)[0]]
        if posixpath.basename(path) == "Dockerfile":
            names.append(posixpath.join(posixpath.dirname(path), "dockerfile"))
        title = f"[internal] load build definition from {posixpath.basename(path)}"
        async with self._step(title, "transferring dockerfile:") as tell:
            session = await self._session_of(order.dockerfile)
            files = await read_files(session, order.dockerfile.name, names, _DOCKERFILE_LIMIT_BYTES, tell)
            content = files.get(path, files.get(names[-1]))
            if content is None:
                raise NotFound(f"failed to read dockerfile: open {order.filename}: no such file or directory")
            self._feed.dockerfile = wire.SourceInfo(filename=posixpath.basename(path), data=content, language="Dockerfile")
        return path, content, files.get(names[1])

    async def _main(self, order: Order, ignore: bytes | None, contexts: dict[str, LocalContext]) -> str:
        """Receive the main context; the name of a Dockerfile that is all there is of it."""
        context = order.context
        if isinstance(context, LocalFolder):
            contexts[""] = ClientFolder(partial(self._folder, context, ignore, _CONTEXT), self._cancel)
            return ""
        if context.url.startswith(attributes.UPLOAD):
            async with self._step("[internal] load remote build context", "transferring context:"):
                host, _, path = context.url.removeprefix("http://").partition("/")
                contexts[""] = await receive_upload(self._session, f"/{path}", host, self._means.reception, self._cancel)
            return ""
        async with self._step(
            f"[internal] load git source {context.url}" if self._is_git(context) else "[internal] load remote build context",
            "fetching:",
        ):
            contexts[""], lone = await in_own_thread(
                self._means.reception.receive_remote, context.url, lambda text: None, self._cancel
            )
        return lone

    def _is_git(self, remote: Remote) -> bool:
        return self._means.builder.equipment.remotes.is_git(remote.url)

    async def _named(self, name: str, source: Source, contexts: dict[str, LocalContext], named: dict[str, NamedContext]) -> str:
        match source:
            case LocalFolder():
                contexts[name] = ClientFolder(partial(self._folder, source, None, f"[context {name}]"), self._cancel)
                named[name] = LocalNamed()
            case Remote(url=url):
                named[name] = RemoteNamed(url)
            case NamedImage(reference=reference):
                named[name] = ImageContext(reference)
            case ClientImage(store=store, digest=digest):
                async with self._step(f"[context {name}] load from client", ""):
                    blobs = BlobStore(self._session, store)
                    contexts[f"layout:{name}"] = await receive_layout(blobs, digest, self._means.reception, self._cancel)
                named[name] = LayoutContext(f"layout:{name}", str(digest))
            case OtherBuild(reference=reference):
                named[name] = ImageContext(await self._stack.enter_async_context(self._other(reference)))
        return ""

    async def _folder(self, folder: LocalFolder, ignore: bytes | None, title: str) -> LocalContext:
        """Receive a folder, while the builder shows the step that needs it by this title."""
        session = await self._session_of(folder)
        if ignore is None:
            own = "[internal] load .dockerignore" if title == _CONTEXT else f"{title} load .dockerignore"
            async with self._step(own, "transferring context:") as tell:
                found = await read_files(session, folder.name, [".dockerignore"], _DOCKERFILE_LIMIT_BYTES, tell)
                ignore = found.get(".dockerignore")
        key = folder_key(session, folder.name, folder.shared_key)
        tell = self._telling(self._contexts.get(title, title), "transferring context:")
        return await receive_folder(session, folder.name, key, _patterns(ignore), self._means.reception, tell, self._cancel)

    async def _session_of(self, folder: LocalFolder) -> Session:
        return await self._means.sessions.get(folder.session) if folder.session else self._session

    # ── outputs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _export(self, wanted: Export, stack: AsyncExitStack) -> Export:
        if wanted.type not in _TO_CLIENT:
            return wanted
        fd = self._means.reception.slots.scratch_file()
        stack.callback(os.close, fd)
        return replace(wanted, target_fd=fd)

    async def _give(self, number: int, export: Export) -> None:
        """An output to the client."""
        is_tree, vertex = export.type == "local", f"export:{number}"
        tell = self._telling(vertex, "copying files" if is_tree else "sending tarball")
        async with self._ending(vertex):
            await (send_tree if is_tree else send_archive)(self._session, number, export.target_fd, tell)

    async def _push(self, name: str, credentials: Mapping[str, str]) -> str:
        """An image to the registry that its name says; its digest there."""
        reference = Reference.parse(name).with_default_tag()
        async with self._step(f"pushing {reference}", "") as _:
            vertex = self._vertex(f"pushing {reference}")

            def push() -> str:
                digest = ""
                for line in self._means.push(name, credentials.get(reference.domain, "")):
                    if line.total:
                        self._tell(VertexStatus(vertex, f"pushing layer {line.id}", line.status, line.current, line.total))
                    if isinstance(line.aux, dict):
                        digest = str(line.aux.get("Digest", digest))
                return digest

            return await in_own_thread(push)

    def _response(self, pushed: Sequence[str]) -> dict[str, str]:
        """What is known of the result. As dockerd does, an image that is in the store alone is named by its id; one that was pushed
        by what it is there, which is something else when its layers were compressed on the way.
        """
        response = {}
        for name, value in self._built.metadata.items():
            text = value if isinstance(value, str) else base64.b64encode(msgspec.json.encode(value)).decode()
            response[name] = text
        if pushed and pushed[0]:
            response["containerimage.digest"] = pushed[0]
        elif "containerimage.config.digest" in response:
            response["containerimage.digest"] = response["containerimage.config.digest"]
        return response

    # ── steps of our own ─────────────────────────────────────────────────────────────────────────────────────────────

    def _vertex(self, title: str) -> str:
        return f"sha256:{hashlib.sha256(f'{id(self)} {title}'.encode()).hexdigest()}"

    @asynccontextmanager
    async def _step(self, title: str, status: str) -> AsyncIterator[Tell]:
        """Show something as a step, with how far it is."""
        vertex = self._vertex(title)
        self._tell(VertexStarted(vertex, title, time.time_ns()))
        async with self._ending(vertex):
            yield self._telling(vertex, status)

    def _telling(self, vertex: str, status: str) -> Tell:
        """Say how far a transfer is, not too often."""
        shown = 0.0

        def tell(size: int, complete: bool) -> None:
            nonlocal shown
            if complete or time.monotonic() - shown > _SHOWN_SECONDS:
                shown = time.monotonic()
                self._tell(VertexStatus(vertex, status, status, size, completed=complete))

        return tell

    @asynccontextmanager
    async def _ending(self, vertex: str) -> AsyncIterator[None]:
        """Show how a step ends."""
        try:
            yield
        except CarrackError as error:
            self._tell(VertexCompleted(vertex, time.time_ns(), error=error.message))
            raise
        except asyncio.CancelledError:
            self._tell(VertexCompleted(vertex, time.time_ns(), error="context canceled"))
            raise
        self._tell(VertexCompleted(vertex, time.time_ns()))


# ── outputs as clients describe them ─────────────────────────────────────────────────────────────────────────────────────────


def _exports(exporters: Sequence[wire.Exporter], order: Order) -> tuple[list[Export], bool]:
    """The outputs, and whether an image leaves this daemon as one. Raises InvalidParameter."""
    exports: list[Export] = []
    leaving = False
    for exporter in exporters:
        given = dict(exporter.Attrs)
        if exporter.Type not in (_IN_STORE | _TO_CLIENT) - {CACHE}:
            raise InvalidParameter(f"unknown output type {exporter.Type!r}: this builder has image, local, tar, oci and docker")
        for name, only in (
            ("store", "true"),
            ("oci-mediatypes", "true"),
            ("push-by-digest", "false"),
            ("registry.insecure", "false"),
        ):
            if given.pop(name, only) not in (only, ""):
                raise InvalidParameter(f"the output's attribute {name} cannot be anything but {only} here")
        if given.pop("tar", "true") != "true":
            raise InvalidParameter("an output of a folder of blobs (tar=false) is not supported: leave tar=false away")
        leaving = leaving or exporter.Type == "oci" or _is_true(given.get("push", ""))
        kept = {name: value for name, value in given.items() if name not in _SAYS_NOTHING}
        if exporter.Type == "local":
            kept.pop("mode", None)  # the client's affair: it clears its own directory
        exports.append(Export("image" if exporter.Type in _IN_STORE else exporter.Type, kept))
    if order.call:
        return [], False
    return exports, leaving


def _names(exporters: Sequence[wire.Exporter]) -> tuple[str, ...]:
    found = dict.fromkeys(name for each in exporters for name in each.Attrs.get("name", "").split(",") if name)
    for name in found:
        new_name(name)
    return tuple(found)


def _pushed(exporters: Sequence[wire.Exporter]) -> tuple[str, ...]:
    """The names that are pushed."""
    pushed = [each for each in exporters if each.Type in _IN_STORE and _is_true(each.Attrs.get("push", ""))]
    names = _names(pushed)
    if pushed and not names:
        raise InvalidParameter("tag is needed when pushing to registry")
    return names


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "t", "true")


def _attestations(order: Order, leaving: bool) -> dict[str, dict[str, str]]:
    """Statements to be made. Those that buildx asks for by itself (``inline-only``) are for images that go elsewhere: one that
    stays would have another digest after each build.
    """
    wanted = {}
    for kind, given in order.attestations.items():
        if given.get("inline-only") == "true" and not leaving:
            continue
        wanted[kind] = {name: value for name, value in given.items() if name != "inline-only"}
    return wanted


def _patterns(ignore: bytes | None) -> list[str]:
    """The lines of an ignore file as the client's side wants them. Raises DockerfileError for a malformed one."""
    if ignore is None:
        return []
    read_ignore_file(ignore)
    patterns = []
    for line in ignore.decode("utf-8-sig", errors="replace").splitlines():
        text = line.strip()
        if not text or line.startswith("#"):
            continue
        mark = "!" if text.startswith("!") else ""
        patterns.append(mark + (clean(text.removeprefix("!").strip()).lstrip("/") or "."))
    return patterns

"""The routes of images: list, inspect, history, load, save, import, pull, push, tag, remove, prune.

Images and the `Puller`, which is all this module needs of registries, block: each call goes through a thread, and streams go
through one piece by piece.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

import msgspec

from carrack.api import image_json, pruning
from carrack.api.blocking import BlockingReader, in_own_thread, in_steps, in_thread
from carrack.api.json import encode, reply
from carrack.api.pruning import Tell
from carrack.api.router import Route
from carrack.api.versions import at_least
from carrack.engine.filters import Filters
from carrack.errors import CarrackError, InvalidParameter, Unavailable
from carrack.http import Reply, Request, Response, StreamResponse
from carrack.images.attestations import Attestation
from carrack.images.fetch_url import fetch_url
from carrack.images.image import Image
from carrack.images.images import HistoryLine, Images, Pruned
from carrack.images.listing import PRUNE_KNOWN, check_known
from carrack.images.parts import ManifestSummary, identity_of
from carrack.images.progress import Progress
from carrack.images.remove import Removal
from carrack.images.transfer import Watching
from carrack.oci.descriptor import PlatformDocument
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference

_JSON = {"Content-Type": "application/json"}
_READS_CONTAINER_CONFIG = "docker-compose/1."
"""The User-Agent of Compose v1, which asks in the newest version, and recreates no container without a field that 1.45 dropped."""
_TAR = {"Content-Type": "application/x-tar"}


class Puller(Protocol):
    """Fetches images from registries."""

    def pull(self, name: str, tag: str, platform: Platform | None, credentials: str) -> Iterator[Progress]:
        """Fetch an image; `credentials` is the X-Registry-Auth header as it came. Raises NotFound, Unauthorized, Unavailable."""

    def push(self, name: str, tag: str, platform: Platform | None, credentials: str) -> Iterator[Progress]:
        """Send an image, or all tags of a name. Raises NotFound, Unauthorized, Forbidden, Unavailable."""


ImageFilters = dict[str, tuple[str, ...]]


def routes(images: Images, puller: Puller | None = None) -> list[Route]:
    """Every route under /images that this module answers."""
    queries, orders, streams = Queries(images), Orders(images), Streams(images, puller)
    return [
        Route("GET", "/images/json", queries.list),
        Route("GET", "/images/get", streams.save),
        Route("POST", "/images/load", streams.load),
        Route("POST", "/images/create", streams.create),
        Route("POST", "/images/prune", orders.prune, since="1.25"),
        Route("GET", "/images/{name:path}/json", queries.inspect),
        Route("GET", "/images/{name:path}/history", queries.history),
        Route("GET", "/images/{name:path}/attestations", queries.attestations, since="1.55"),
        Route("GET", "/images/{name:path}/get", streams.save),
        Route("POST", "/images/{name:path}/push", streams.push),
        Route("POST", "/images/{name:path}/tag", orders.tag),
        Route("DELETE", "/images/{name:path}", orders.remove),
    ]


class Queries:
    """Requests that change nothing."""

    def __init__(self, images: Images) -> None:
        self._images = images

    async def list(self, request: Request) -> Response:
        query, version = request.query, request.version
        filters = _filters(request)
        if query.get("filter") and not at_least(version, "1.41") and "reference" not in filters:
            filters["reference"] = (query.get("filter"),)
        with_parts = at_least(version, "1.47") and query.flag("manifests")
        with_identity = at_least(version, "1.54") and query.flag("identity")
        if with_identity and not with_parts:
            raise InvalidParameter("conflicting options: identity requires manifests=1")
        found = await in_thread(self._images.list, filters, all=query.flag("all"))
        shared = await in_thread(self._images.shared_bytes) if at_least(version, "1.42") and query.flag("shared-size") else {}
        parts = await in_thread(self._parts, found, with_identity) if with_parts else {}
        uses = self._images.container_counts()
        return reply(
            [
                image_json.summary(
                    image,
                    version,
                    shared_bytes=shared.get(image.id, -1),
                    containers=uses[str(image.id)],
                    manifests=parts.get(image.id, ()),
                )
                for image in found
            ]
        )

    def _parts(self, found: Sequence[Image], with_identity: bool) -> dict[Digest, Sequence[ManifestSummary]]:
        return {image.id: self._images.parts(image, identity=with_identity) for image in found}

    async def inspect(self, request: Request) -> Response:
        return reply(await in_thread(self._inspect, request))

    def _inspect(self, request: Request) -> image_json.Json:
        ref, version, images = request.params["name"], request.version, self._images
        with_parts = at_least(version, "1.48") and request.query.flag("manifests")
        platform = _platform_document(request) if at_least(version, "1.49") else None
        if with_parts and platform is not None:
            raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
        image = images.get(ref) if platform is None else images.variant(ref, platform)
        if request.headers.get("user-agent").startswith(_READS_CONTAINER_CONFIG):
            version = "1.44"
        return image_json.inspect(
            image,
            version,
            images.layer_directories(image),
            images.driver,
            images.tagged(image.id),
            manifests=images.parts(image, images.target(ref, image), identity=at_least(version, "1.53")) if with_parts else (),
            identity=identity_of(image),
        )

    async def attestations(self, request: Request) -> Response:
        query = request.query
        if len(query.all("platform")) > 1:
            raise InvalidParameter("only one platform value is currently supported")
        found: Sequence[Attestation] = await in_thread(
            self._images.attestations,
            request.params["name"],
            _platform_document(request),
            [text.strip() for text in query.all("type") if text.strip()],
            with_statements=query.flag("statement"),
        )
        return reply([image_json.attestation(each) for each in found])

    async def history(self, request: Request) -> Response:
        platform = _platform_document(request) if at_least(request.version, "1.48") else None
        lines: Sequence[HistoryLine] = await in_thread(self._images.history, request.params["name"], platform)
        return reply(image_json.history(lines))


class Orders:
    """Requests that change names and images."""

    def __init__(self, images: Images) -> None:
        self._images = images

    async def tag(self, request: Request) -> Response:
        await in_thread(self._images.tag, request.params["name"], _repository_tag(request))
        return Response(201)

    async def remove(self, request: Request) -> Response:
        query = request.query
        name = request.params["name"]
        if not name.strip():
            raise InvalidParameter("image name cannot be blank")
        platforms = [_decode_platform(text) for text in query.all("platforms")] if at_least(request.version, "1.50") else []
        if platforms:
            gone = await in_thread(self._images.remove_platforms, name, platforms, force=query.flag("force"))
            return reply(image_json.removals(gone))
        records: Sequence[Removal] = await in_thread(
            self._images.remove, name, force=query.flag("force"), prune=not query.flag("noprune")
        )
        return reply(image_json.removals(records))

    async def prune(self, request: Request) -> Reply:
        filters = _filters(request)
        check_known(filters, PRUNE_KNOWN)

        async def work(tell: Tell) -> object:
            report: Pruned = await in_thread(self._images.prune, filters, lambda gone: tell(image_json.gone(gone)))
            return image_json.pruned(report)

        return await pruning.prune(request, work)


class Streams:
    """Requests whose body or answer is a stream."""

    def __init__(self, images: Images, puller: Puller | None) -> None:
        self._images = images
        self._puller = puller

    async def save(self, request: Request) -> StreamResponse:
        name = request.params.get("name")
        refs = [name] if name else request.query.all("names")
        if not refs:
            raise InvalidParameter("no images to save")
        platforms = _platform_documents(request)
        archive = await in_thread(self._images.save, refs, platforms)
        return StreamResponse(200, in_steps(archive), _TAR)

    async def load(self, request: Request) -> StreamResponse:
        quiet = request.query.flag("quiet", default=True)
        platforms = _platform_documents(request)
        lines = self._images.load(BlockingReader(request.stream()), platforms)
        shown = (line for line in lines if line.stream or not quiet)
        return StreamResponse(200, _ProgressDocuments(in_steps(shown), request.version), _JSON)

    async def create(self, request: Request) -> StreamResponse:
        query = request.query
        if query.get("fromImage"):
            lines = await in_own_thread(self._pull, request)  # it may wait for the end of one that is given up
        elif query.get("fromSrc"):
            lines = self._import(request)
        else:
            raise InvalidParameter("either fromImage or fromSrc must be given")
        return await _begun(lines, request.version)

    async def push(self, request: Request) -> StreamResponse:
        return await _begun(await in_own_thread(self._push, request), request.version)

    def _pull(self, request: Request) -> Iterator[Progress]:
        query = request.query
        name = query.get("fromImage").removesuffix(":")
        platform = _platform_words(request)
        return self._registries(name).pull(name, query.get("tag"), platform, request.headers.get("x-registry-auth"))

    def _push(self, request: Request) -> Iterator[Progress]:
        name = request.params["name"]
        platform = _platform_document(request) if at_least(request.version, "1.46") else None
        return self._registries(name).push(name, request.query.get("tag"), platform, request.headers.get("x-registry-auth"))

    def _registries(self, name: str) -> Puller:
        if self._puller is None:
            familiar = Reference.parse(name).familiar
            raise Unavailable(f"cannot transfer {familiar}: this daemon has no registry client; load or import the image")
        return self._puller

    def _import(self, request: Request) -> Iterator[Progress]:
        query = request.query
        source = query.get("fromSrc")
        name = _repository_tag(request) if query.get("repo") else ""
        message = query.get("message") or f"Imported from {source}"
        platform = _platform_words(request)
        reader = BlockingReader(request.stream()) if source == "-" else None
        changes = query.all("changes")

        def lines() -> Iterator[Progress]:
            stream: Iterator[bytes]
            if reader is None:
                yield Progress(f"Downloading from {source}")
                stream = fetch_url(source)
            else:
                stream = reader
            image: Image = self._images.import_(stream, name=name, message=message, changes=changes, platform=platform)
            yield Progress(str(image.id))

        return lines()


async def _begun(lines: Iterator[Progress], version: str) -> StreamResponse:
    """A progress stream once it has begun: what fails before its first line is told by the status, as Docker does."""
    steps = in_steps(lines)
    try:
        first = await anext(steps, None)
    except BaseException:
        await _close(steps)
        raise
    return StreamResponse(200, _ProgressDocuments(steps, version, first, lines), _JSON)


class _ProgressDocuments:
    """A progress stream as bytes; a failure is its last line, for the status has long been sent.

    A class, so that closing it before its first step ends the work, too.
    """

    def __init__(
        self, steps: AsyncIterator[Progress], version: str, first: Progress | None = None, lines: Iterator[Progress] | None = None
    ) -> None:
        self._steps = steps
        self._lines = lines
        self._version = version
        self._first = first
        self._failed = False

    def __aiter__(self) -> _ProgressDocuments:
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise StopAsyncIteration
        line, self._first = self._first, None
        try:
            if line is None:
                line = await anext(self._steps)
        except CarrackError as error:
            self._failed = True
            return encode(image_json.error(error.message))
        return encode(image_json.progress(line, self._version))

    async def aclose(self) -> None:
        if isinstance(self._lines, Watching):
            self._lines.close()  # at once: the step that waits in it may wait long
        await _close(self._steps)


async def _close(steps: AsyncIterator[Progress]) -> None:
    close = getattr(steps, "aclose", None)
    if close is not None:
        await close()


def _filters(request: Request) -> ImageFilters:
    filters = Filters.parse(request.query.get("filters"))
    return {name: filters.get(name) for name in filters}


def _repository_tag(request: Request) -> str:
    """The name that `repo` and `tag` make together."""
    repository, tag = request.query.get("repo"), request.query.get("tag")
    if not repository:
        raise InvalidParameter("invalid reference format")
    return f"{repository}:{tag}" if tag else repository


def _platform_documents(request: Request) -> list[Platform]:
    """The platforms of a load or a save: none before 1.48, one before 1.52."""
    texts = [text for text in request.query.all("platform") if text] if at_least(request.version, "1.48") else []
    if len(texts) > 1 and not at_least(request.version, "1.52"):
        raise InvalidParameter("multiple platform parameters are not supported in this API version; use API version 1.52 or later")
    return [_decode_platform(text) for text in texts]


def _platform_words(request: Request) -> Platform | None:
    """The platform of a pull or an import, as people write it; there was none before 1.32."""
    text = request.query.get("platform") if at_least(request.version, "1.32") else ""
    return Platform.parse(text) if text else None


def _platform_document(request: Request) -> Platform | None:
    text = request.query.get("platform")
    return _decode_platform(text) if text else None


def _decode_platform(text: str) -> Platform:
    """A platform as these routes take it: a JSON document."""
    try:
        return msgspec.json.decode(text, type=PlatformDocument).value()
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from error

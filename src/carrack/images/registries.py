"""Pull and push as the API orders them: a name, who asks, a stream of progress.

Everything that speaks to registries is imported at the first order: most daemons start long before they pull.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from carrack.distribution.cancellation import Cancellation
from carrack.errors import DataCorrupt, InvalidParameter, NotFound, Unavailable
from carrack.images.images import Images
from carrack.images.index import canonical
from carrack.images.progress import Progress
from carrack.images.transfer import Tell, Transfers, Watching
from carrack.oci.descriptor import Descriptor, Index, PlatformDocument, decode_manifest
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference

if TYPE_CHECKING:
    from carrack.distribution.registry import Registries
    from carrack.distribution.repository import Repository


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
"""What the host of a registry may be, with its port."""
_CONFIG_LIMIT_BYTES = 8 << 20


class SearchResult(msgspec.Struct):
    """One repository that a search found."""

    name: str
    description: str = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class _SearchAnswer(msgspec.Struct):
    results: list[SearchResult] = []


class Puller:
    """Images to and from registries. `mirrors` and `insecure` are dockerd's settings, `hosts` is our `registries`."""

    def __init__(
        self,
        images: Images,
        *,
        mirrors: Sequence[str] = (),
        insecure: Sequence[str] = (),
        hosts: Mapping[str, object] | None = None,
    ) -> None:
        self._images = images
        self._transfers = Transfers()
        self._lock = threading.Lock()
        self.configure(mirrors=mirrors, insecure=insecure, hosts=hosts)

    def configure(
        self, *, mirrors: Sequence[str] = (), insecure: Sequence[str] = (), hosts: Mapping[str, object] | None = None
    ) -> None:
        """Change the settings; transfers that are under way keep theirs."""
        with self._lock:
            self._mirrors = tuple(mirrors)
            self._insecure = tuple(insecure)
            self._hosts = hosts or {}
            self._registries: Registries | None = None

    def pull(self, name: str, tag: str, platform: Platform | None, credentials: str) -> Iterator[Progress]:
        """Fetch an image, or with a name alone every tag of its repository; `credentials` is an X-Registry-Auth header.

        Raises InvalidParameter at once for what cannot be meant. Its progress then raises NotFound, Unauthorized, Unavailable,
        DataCorrupt, SystemFailure.
        """
        from carrack.distribution.credentials import decode_header

        reference = _reference(name, tag)
        who = decode_header(credentials)
        if not reference.tag and reference.digest is None:
            return self._pull_all(reference, platform, credentials)
        from carrack.images.pull import Pull

        registries = self._open()

        def work(tell: Tell, cancel: Cancellation) -> None:
            Pull(self._images.store, registries, reference, platform, who, tell, cancel).run()

        return self._transfers.watch(("pull", str(canonical(reference)), platform, who), work)

    def push(self, name: str, tag: str, platform: Platform | None, credentials: str) -> Iterator[Progress]:
        """Send an image, or with a name alone all its tags. Raises NotFound when there is none here, else as `pull`."""
        from carrack.distribution.credentials import decode_header
        from carrack.images.push import Push

        reference = _reference(name, tag)
        who = decode_header(credentials)
        if reference.digest is not None:
            raise InvalidParameter("cannot push a digest reference")
        names = [reference] if reference.tag else self._tags(reference)
        for each in names:
            if self._images.store.index.named(each) is None:
                raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_repository}")
        registries = self._open()

        def work(each: Reference, tell: Tell, cancel: Cancellation) -> None:
            Push(self._images.store, registries, each, platform, who, tell, cancel).run()

        def begin(each: Reference) -> Watching:
            return self._transfers.watch(("push", str(each), platform, who), lambda tell, cancel: work(each, tell, cancel))

        if len(names) == 1:
            return begin(names[0])
        return (line for each in names for line in begin(each))

    def login(self, server: str, username: str, password: str, identity_token: str = "") -> None:
        """Find out whether a registry knows these credentials. Raises Unauthorized, Unavailable, InvalidParameter."""
        from carrack.distribution.credentials import Credentials

        domain = _domain(server)
        if not _HOST.fullmatch(domain):
            raise InvalidParameter(f"invalid server address: {server!r}")
        self._open().login(domain, Credentials(username, password, identity_token))

    def describe(self, name: str, credentials: str) -> tuple[Descriptor, list[PlatformDocument]]:
        """What a name stands for in its registry, and for which platforms. Raises NotFound, Unauthorized, Unavailable."""
        from carrack.distribution.credentials import decode_header

        reference = canonical(Reference.parse(name))
        wanted = reference.tag or str(reference.digest)

        def ask(repository: Repository) -> tuple[Descriptor, list[PlatformDocument]]:
            descriptor, content = repository.manifest(wanted)
            document = decode_manifest(content, descriptor.media_type)
            if isinstance(document, Index):
                return descriptor, [each.platform for each in document.manifests if each.platform is not None]
            pieces, _ = repository.blob(document.config.name)
            config = ImageConfig.decode(small_blob(pieces, document.config, _CONFIG_LIMIT_BYTES))
            return descriptor, [PlatformDocument(config.architecture, config.os, config.variant)]

        return self._open().find(reference, decode_header(credentials), ask)[1]

    def manifest_for(self, reference: Reference, platform: Platform, credentials: str) -> Descriptor:
        """The manifest that a name has for a platform in its registry; that of an image for one platform whatever that is.

        Raises NotFound, Unauthorized, Unavailable.
        """
        from carrack.distribution.credentials import decode_header
        from carrack.images.pull import for_platform

        wanted = reference.tag or str(reference.digest)
        who = decode_header(credentials)
        descriptor, content = self._open().find(reference, who, lambda repository: repository.manifest(wanted))[1]
        document = decode_manifest(content, descriptor.media_type)
        return for_platform(document, platform) if isinstance(document, Index) else descriptor

    def search(self, term: str, limit: int, credentials: str) -> list[SearchResult]:
        """What an index finds for a term (``term`` or ``registry/term``); the catalog of a registry that has no index, by name.

        Raises InvalidParameter, NotFound, Unauthorized, Unavailable.
        """
        from carrack.distribution.credentials import decode_header

        first, slash, rest = term.partition("/")
        named = bool(slash) and ("." in first or ":" in first or first == "localhost")
        domain, wanted = (first, rest) if named else ("docker.io", term)
        if not wanted or "://" in term or (named and not _HOST.fullmatch(first)):
            raise InvalidParameter(f'invalid repository name "{term}"')
        registries, who = self._open(), decode_header(credentials)
        try:
            content = registries.search(domain, wanted.removeprefix("library/"), limit, who)
        except NotFound:
            if not named:
                raise
            return [SearchResult(name) for name in registries.catalog(domain, who) if wanted in name][:limit]
        try:
            return msgspec.json.decode(content, type=_SearchAnswer).results
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unavailable(f"the search of {domain} gave an answer that cannot be read") from error

    @property
    def registries(self) -> Registries:
        """The client itself, for what is kept in registries and is no image."""
        return self._open()

    def close(self) -> None:
        """Close idle connections."""
        if self._registries is not None:
            self._registries.close()

    def _pull_all(self, reference: Reference, platform: Platform | None, credentials: str) -> Iterator[Progress]:
        from carrack.distribution.credentials import decode_header

        _, tags = self._open().find(reference, decode_header(credentials), lambda repository: repository.tags())
        if not tags:
            raise NotFound(f"repository {reference.familiar_repository} not found: it has no tags")
        for tag in tags:
            yield from self.pull(reference.familiar_repository, tag, platform, credentials)

    def _tags(self, reference: Reference) -> list[Reference]:
        names = [name for name, _ in self._images.store.index.repository(reference.repository) if name.tag]
        if not names:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_repository}")
        return names

    def _open(self) -> Registries:
        from carrack.distribution.endpoints import RegistryOptions
        from carrack.distribution.hosts import parse
        from carrack.distribution.registry import Registries

        with self._lock:
            if self._registries is None:
                self._registries = Registries(RegistryOptions(self._mirrors, self._insecure, parse(self._hosts)))
            return self._registries


def _domain(server: str) -> str:
    """The registry that a login names, as a URL or as a host; empty and the old index mean Docker Hub."""
    host = server.partition("://")[2] if "://" in server else server
    host = host.partition("/")[0]
    return "docker.io" if host in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else host


def small_blob(pieces: Iterator[bytes], descriptor: Descriptor, limit_bytes: int) -> bytes:
    """A blob of at most so many bytes, whole and verified. Raises DataCorrupt."""
    content = b""
    for piece in pieces:
        content += piece
        if len(content) > min(descriptor.size, limit_bytes):
            break
    if len(content) != descriptor.size or Digest.of(content) != descriptor.name:
        raise DataCorrupt(f"blob {descriptor.digest} is not what its name says")
    return content


def _reference(name: str, tag: str) -> Reference:
    """What `fromImage` and `tag` name together: the tag may be a digest, and may stand in the name already."""
    reference = Reference.parse(name)
    if not tag:
        return reference
    return Reference.parse(f"{reference.repository}{'@' if ':' in tag else ':'}{tag}")

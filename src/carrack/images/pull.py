"""`docker pull`: an image from a registry. Layers come in parallel and are unpacked while later ones still come.

Everything is verified as it streams. What was downloaded when a pull breaks off stays for the next one, which goes on by range,
even after a restart of the daemon; an image is listed only when it is whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import replace

import msgspec

from carrack.content import Lease, Writer
from carrack.distribution.cancellation import Cancellation
from carrack.distribution.credentials import Credentials
from carrack.distribution.registry import Registries
from carrack.distribution.repository import Repository
from carrack.distribution.transport import TransportFailure
from carrack.errors import DataCorrupt, Forbidden, InvalidParameter, NotFound, Unauthorized
from carrack.images.index import canonical
from carrack.images.layers import check_depth
from carrack.images.oci_layout import ATTESTATION, REFERENCE_DIGEST, REFERENCE_TYPE
from carrack.images.progress import Progress
from carrack.images.store import CONFIG_LIMIT_BYTES, ImageStore, NewImage, write_bytes
from carrack.images.transfer import Tell
from carrack.oci.descriptor import Descriptor, Index, Manifest, decode_manifest
from carrack.oci.digest import Digest, chain_id
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference
from carrack.snapshots import Layer

_ATTESTATIONS_LIMIT = 16
_TELL_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
"""Before another attempt; doubled with each that fails."""


class Pull:
    """One pull of one image."""

    def __init__(
        self,
        store: ImageStore,
        registries: Registries,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials,
        tell: Tell,
        cancel: Cancellation,
    ) -> None:
        self._store = store
        self._registries = registries
        self._reference = canonical(reference)
        self._platform = platform
        self._credentials = credentials
        self._tell = tell
        self._cancel = cancel

    def run(self) -> None:
        """Have the image here. Raises NotFound, Unauthorized, Unavailable, DataCorrupt, InvalidParameter, Cancelled."""
        name = self._reference
        wanted = name.tag or str(name.digest)
        before = self._store.index.named(name)
        try:
            repository, (target, content) = self._registries.find(
                name, self._credentials, lambda each: each.manifest(wanted), cancel=self._cancel
            )
        except (NotFound, Forbidden, Unauthorized) as error:
            raise _not_pulled(name, error, self._credentials) from error
        self._tell(Progress(f"Pulling from {name.path}", id=wanted, sentence=True))
        with self._store.assembling() as lease:
            image = self._fetch(repository, lease, target, content)
        after = image.config_digest
        self._tell(Progress(f"Digest: {target.digest}"))
        self._tell(Progress(f"Status: {_outcome(before == after)} for {name.familiar}"))
        self._store.tell("pull", self._store.index.get(after), name.familiar_repository, actor=name.familiar)

    def _fetch(self, repository: Repository, lease: Lease, target: Descriptor, content: bytes) -> NewImage:
        document = decode_manifest(content, target.media_type)
        descriptor = target
        beside: tuple[Descriptor, ...] = ()
        if isinstance(document, Index):
            write_bytes(self._store.content, lease, content, target.media_type)
            descriptor = for_platform(document, self._platform or machine())
            beside = attestations_of(document, descriptor)
            found, content = repository.manifest(descriptor.digest)
            if found.size != descriptor.size:
                raise DataCorrupt(f"manifest {descriptor.digest} has {found.size} bytes, not {descriptor.size}")
            document = decode_manifest(content, descriptor.media_type)
            if isinstance(document, Index):
                raise InvalidParameter(f"{descriptor.digest}: an index inside an index is not supported")
        write_bytes(self._store.content, lease, content, descriptor.media_type)
        with ThreadPoolExecutor(1, thread_name_prefix="attestations") as pool:
            statements = pool.submit(self._statements, repository, lease, beside) if beside else None
            config = self._config(repository, lease, document)
            layers = self._layers(repository, lease, document, config)
            attachments = statements.result() if statements is not None else ()
        names = (self._reference, replace(self._reference, tag="", digest=target.name))
        image = NewImage(
            document.config.name, config, _plain(descriptor), _plain(target), layers, tuple(dict.fromkeys(names)), attachments
        )
        self._store.record([image])
        self._note_origins(image)
        return image

    def _statements(self, repository: Repository, lease: Lease, attestations: Sequence[Descriptor]) -> tuple[Digest, ...]:
        """Have what attests the image here, so that it can be shown and pushed on. What its registry has lost is no loss to us."""
        found: list[Digest] = []
        for descriptor in attestations:
            try:
                target, content = repository.manifest(descriptor.digest)
                if target.size != descriptor.size:
                    raise DataCorrupt(f"manifest {descriptor.digest} has {target.size} bytes, not {descriptor.size}")
                manifest = decode_manifest(content, descriptor.media_type)
                if not isinstance(manifest, Manifest):
                    continue
                blobs = (manifest.config, *manifest.layers)
                for blob in blobs:
                    lease.add(blob.name)
                    self._download(repository, lease, blob, silent=True)
            except NotFound:
                continue
            write_bytes(self._store.content, lease, content, descriptor.media_type)
            found += (descriptor.name, *(blob.name for blob in blobs))
        return tuple(dict.fromkeys(found))

    def _config(self, repository: Repository, lease: Lease, manifest: Manifest) -> ImageConfig:
        """The configuration, which must be an image's and for the platform that was asked for."""
        descriptor = manifest.config
        if descriptor.size > CONFIG_LIMIT_BYTES:
            raise InvalidParameter(f"image configuration {descriptor.digest} is larger than {CONFIG_LIMIT_BYTES} bytes")
        if not descriptor.media_type.endswith(("image.config.v1+json", "container.image.v1+json")):
            raise InvalidParameter(f"{self._reference.familiar} is no image but an artifact ({descriptor.media_type})")
        lease.add(descriptor.name)
        if not self._here(descriptor):
            self._download(repository, lease, descriptor, silent=True)
        config = ImageConfig.decode(self._store.content.read(descriptor.name, CONFIG_LIMIT_BYTES))
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidParameter(f"invalid manifest: {len(manifest.layers)} layers for {len(config.diff_ids)} diff_ids")
        check_depth(config.diff_ids)
        if self._platform is not None and not self._platform.matches(config.platform):
            raise NotFound(
                f"image with reference {self._reference.familiar} was found but its platform ({config.platform}) "
                f"does not match the specified platform ({self._platform})"
            )
        return config

    # ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _layers(self, repository: Repository, lease: Lease, manifest: Manifest, config: ImageConfig) -> tuple[Descriptor, ...]:
        """Have every layer here, unpacked. What was unpacked in vain is given back."""
        missing: dict[int, Descriptor] = {}
        for position, layer in enumerate(manifest.layers):
            lease.add(layer.name)
            chain = chain_id(config.diff_ids[: position + 1])
            if chain is not None and self._store.snapshots.has(chain) and self._here(layer):
                self._tell(Progress("Already exists", id=layer.name.short))
            else:
                missing[position] = layer
                self._tell(Progress("Pulling fs layer", id=layer.name.short))
        if missing:
            self._bring(repository, lease, config.diff_ids, missing)
        return tuple(_plain(layer) for layer in manifest.layers)

    def _bring(self, repository: Repository, lease: Lease, diff_ids: Sequence[Digest], missing: dict[int, Descriptor]) -> None:
        """Download several at once; unpack each as soon as it and all below it are here."""
        made: list[Digest] = []
        unpacking: list[tuple[Descriptor, Future[Layer]]] = []
        pool = ThreadPoolExecutor(self._store.effort.downloads, thread_name_prefix="download")
        try:
            downloads = {pool.submit(self._download, repository, lease, layer): position for position, layer in missing.items()}
            waiting = sorted(missing)
            here: set[int] = set()
            for done in as_completed(downloads):
                done.result()
                here.add(downloads[done])
                while waiting and waiting[0] in here:
                    position = waiting.pop(0)
                    unpacking.append((missing[position], self._unpack(diff_ids, position, missing[position], made)))
            for _layer, future in unpacking:
                future.result()
        except BaseException:
            self._cancel.set()  # the other downloads are of no use now
            pool.shutdown(cancel_futures=True)
            for _layer, future in unpacking:
                future.exception()
            self._store.release(made)
            raise
        pool.shutdown()

    def _unpack(self, diff_ids: Sequence[Digest], position: int, layer: Descriptor, made: list[Digest]) -> Future[Layer]:
        chain = chain_id(tuple(diff_ids[: position + 1]))
        assert chain is not None
        if self._store.snapshots.has(chain):
            present: Future[Layer] = Future()
            present.set_result(self._store.snapshots.get(chain))
            self._tell(Progress("Pull complete", id=layer.name.short))
            return present
        made.append(chain)
        self._tell(Progress("Extracting", layer.name.short, layer.size, layer.size))
        future = self._store.builder.start(diff_ids, position, layer.name)
        future.add_done_callback(
            lambda done: None if done.exception() else self._tell(Progress("Pull complete", id=layer.name.short))
        )
        return future

    def _download(self, repository: Repository, lease: Lease, layer: Descriptor, silent: bool = False) -> None:
        """Have one blob here. Goes on where an earlier attempt broke off, by range."""
        content, digest = self._store.content, layer.name
        if self._here(layer):
            if not silent:
                self._tell(Progress("Download complete", id=digest.short))
            return
        with self._store.alone(digest, self._cancel):
            if not self._here(layer):
                with content.writer(lease, expected=digest, key=f"blob {digest}") as writer:
                    self._receive(repository, layer, writer, silent)
                    if not silent:
                        self._tell(Progress("Verifying Checksum", id=digest.short))
                    writer.commit(size_bytes=layer.size)
        if not silent:
            self._tell(Progress("Download complete", id=digest.short))

    def _here(self, blob: Descriptor) -> bool:
        """Whether a blob is here, and as long as it must be: a power failure can cut short what was just written."""
        return self._store.content.has(blob.name) and self._store.content.size(blob.name) == blob.size

    def _receive(self, repository: Repository, layer: Descriptor, writer: Writer, silent: bool) -> None:
        failures = 0
        told = 0.0
        if writer.offset > layer.size:
            writer.restart()
        while writer.offset < layer.size:
            have = writer.offset
            try:
                pieces, start = repository.blob(layer.name, have)
                if start != have:
                    writer.restart()
                with closing(pieces):
                    for piece in pieces:
                        self._cancel.check()
                        writer.write(piece)
                        if writer.offset > layer.size:
                            raise DataCorrupt(f"blob {layer.digest} is larger than the {layer.size} bytes of its descriptor")
                        now = time.monotonic()
                        if not silent and now - told > _TELL_SECONDS:
                            told = now
                            self._tell(Progress("Downloading", layer.name.short, writer.offset, layer.size))
                if writer.offset < layer.size:
                    raise TransportFailure(f"{layer.digest}: the registry sent {writer.offset} of {layer.size} bytes")
            except TransportFailure:
                failures = failures + 1 if writer.offset <= have else 1
                if failures >= self._store.effort.attempts:
                    raise
                if not silent:
                    self._tell(Progress(f"Retrying in {2**failures} seconds", id=layer.name.short))
                self._cancel.wait(_PAUSE_SECONDS * 2**failures)
                self._cancel.check()

    def _note_origins(self, image: NewImage) -> None:
        """Remember where the blobs are, so that a push to the same registry need not send them."""
        rows = [(layer.digest, self._reference.repository) for layer in image.layers]
        self._store.database.write(
            lambda connection: connection.executemany("INSERT OR IGNORE INTO blob_origins VALUES (?, ?)", rows).rowcount
        ).result()


def for_platform(index: Index, platform: Platform) -> Descriptor:
    """The manifest of an index that runs on a platform, the exact variant first. Raises NotFound."""
    fitting = [each for each in index.manifests if each.platform is not None and platform.matches(each.platform.value())]
    exact = [each for each in fitting if each.platform is not None and each.platform.value().variant == platform.variant]
    for descriptor in exact or fitting:
        return descriptor
    raise NotFound(f"no matching manifest for {platform} in the manifest list entries")


def attestations_of(index: Index, image: Descriptor) -> tuple[Descriptor, ...]:
    """The manifests of an index that hold statements about one of its images, as many as are believable."""
    found = []
    for each in index.manifests:
        annotations = each.annotations or {}
        if annotations.get(REFERENCE_TYPE) == ATTESTATION and annotations.get(REFERENCE_DIGEST) == image.digest:
            found.append(each)
    return tuple(found[:_ATTESTATIONS_LIMIT])


def _not_pulled(name: Reference, error: NotFound | Forbidden | Unauthorized, credentials: Credentials) -> NotFound | Unauthorized:
    """Docker's sentence for what a registry refused."""
    if isinstance(error, Unauthorized) and credentials:
        return error
    if not isinstance(error, NotFound):
        denied = f"pull access denied for {name.familiar_repository}"
        return NotFound(f"{denied}, repository does not exist or may require 'docker login': {error.message}")
    if error.message.startswith("name unknown"):
        return NotFound(f"repository {name.familiar_repository} not found: {error.message}")
    return NotFound(f"manifest for {name.familiar} not found: {error.message}")


def _outcome(same: bool) -> str:
    return "Image is up to date" if same else "Downloaded newer image"


def _plain(descriptor: Descriptor) -> Descriptor:
    return msgspec.structs.replace(descriptor, annotations=None, platform=None)

"""The images that a build begins with or takes files from: found here, or pulled, all at once, before anything is converted."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock

from carrack.build.dockerfile.instruction import Onbuild
from carrack.build.dockerfile.stages import Dockerfile, Kind, Origin, Stage, trigger_instructions
from carrack.build.plan import BaseImage, ImageContext, NamedContext
from carrack.build.ports import BaseImages
from carrack.build.progress import Tell, VertexCompleted, VertexStarted, VertexStatus
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter, NotFound
from carrack.images.image import Image
from carrack.images.images import Images
from carrack.images.progress import Progress
from carrack.oci.digest import chain_id
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that some stage names, for a platform; `asked`: the platform was said, so another one will not do."""

    name: str
    platform: Platform
    asked: bool = False


class Bases:
    """Resolves images for one build, each once. `resolve` blocks and is called from several threads at a time."""

    def __init__(
        self,
        images: Images,
        registries: BaseImages,
        credentials: Mapping[str, str],
        tell: Tell,
        cancel: Cancellation,
        keep: Callable[[str, Image], None] = lambda name, image: None,
        *,
        pull: bool,
    ) -> None:
        """`keep` has the layers of an image that is no platform of this machine unpacked and held."""
        self._keep = keep
        self._credentials = credentials
        self._images = images
        self._registries = registries
        self._tell = tell
        self._cancel = cancel
        self._pull = pull
        self._lock = Lock()
        self._found: dict[tuple[str, Platform], BaseImage] = {}

    def resolve(self, wanted: Wanted) -> BaseImage:
        """The image, pulled when it is not here or when the build always pulls. Raises NotFound, Unauthorized, Unavailable."""
        with self._lock:
            known = self._found.get((wanted.name, wanted.platform))
        if known is not None:
            return known
        vertex = f"sha256:{hashlib.sha256(f'image {wanted.name} {wanted.platform}'.encode()).hexdigest()}"
        self._tell(VertexStarted(vertex, f"[internal] load metadata for {shown_name(wanted.name)}", time.time_ns()))
        try:
            image, pulled = self._get(wanted, vertex)
        except CarrackError as error:
            self._tell(VertexCompleted(vertex, time.time_ns(), error=error.message))
            raise
        found = BaseImage(wanted.name, image.id, image.config, image.chain_id, image.layers, image.manifest.digest)
        with self._lock:
            self._found[wanted.name, wanted.platform] = found
        self._tell(VertexCompleted(vertex, time.time_ns(), cached=not pulled, result=str(image.id)))
        return found

    def image_of(self, name: str, platform: Platform) -> BaseImage:
        """One that was resolved. Raises NotFound."""
        try:
            return self._found[name, platform]
        except KeyError:
            raise NotFound(f"image {name} was not resolved for {platform}") from None

    def _get(self, wanted: Wanted, vertex: str) -> tuple[Image, bool]:
        image = self._here(wanted)
        if image is not None and (not self._pull or _is_id(wanted.name)):
            return image, False
        try:
            name = self._registries.pull(
                wanted.name,
                wanted.platform if wanted.asked else None,
                self._credentials,
                lambda line: self._told(vertex, line),
                self._cancel,
            )
        except NotFound as error:
            raise NotFound(f"{shown_name(wanted.name)}: {error.message}") from error
        image = self._here(replace(wanted, name=name))
        if image is None:
            raise NotFound(f"{shown_name(wanted.name)}: no match for platform {wanted.platform} in manifest: not found")
        return image, True

    def _here(self, wanted: Wanted) -> Image | None:
        """The image, and when a platform was asked for, that platform's, whole, whatever platform the name stands for here."""
        try:
            image = self._images.get(wanted.name)
            if not wanted.asked or wanted.platform.matches(image.config.platform):
                return image
            image = self._images.variant(wanted.name, wanted.platform)
        except NotFound:
            return None
        content = self._images.store.content
        if not all(content.has(blob.name) for blob in image.layers):
            return None
        self._keep(wanted.name, image)
        return replace(image, chain_id=chain_id(image.config.diff_ids))

    def _told(self, vertex: str, line: object) -> None:
        if isinstance(line, Progress):
            self._tell(VertexStatus(vertex, line.id, line.status or line.stream, line.current, line.total))


def images_of(
    file: Dockerfile, stages: Iterable[Stage], named: dict[str, NamedContext], platform: Platform, *, asked: bool = False
) -> list[Wanted]:
    """What these stages name that no earlier stage gives, each once. `asked`: the platform was said by who builds."""
    asked = asked or platform != machine()
    found: dict[Wanted, None] = {}
    for stage in stages:
        for origin in file.origins(stage):
            name = _image_name(origin, named)
            if not name:
                continue
            is_base = origin == stage.base
            wanted = stage.platform if is_base and stage.platform is not None else platform
            found[Wanted(name, wanted, asked or (is_base and stage.platform is not None))] = None
    return list(found)


def with_triggers(file: Dockerfile, bases: Bases, named: dict[str, NamedContext], platform: Platform) -> Dockerfile:
    """The file with the ONBUILD instructions that its base images left, as far as these are resolved by now."""
    stages: list[Stage] = []
    for stage in file.stages:
        name = _image_name(stage.base, named)
        if name and not stage.triggers:
            try:
                image = bases.image_of(name, stage.platform or platform)
            except NotFound:
                image = None
            if image is not None and image.config.execution.on_build:
                stage = replace(stage, triggers=trigger_instructions(image.config.execution.on_build))
        elif stage.base.kind is Kind.STAGE and not stage.triggers:
            below = stages[stage.base.stage]
            left = [each for each in below.instructions if isinstance(each, Onbuild)]
            if left:
                stage = replace(stage, triggers=trigger_instructions(each.expression for each in left))
        stages.append(stage)
    return replace(file, stages=tuple(stages))


def shown_name(name: str) -> str:
    """The full name that messages show."""
    if _is_id(name):
        return name
    try:
        return str(Reference.parse(name).with_default_tag())
    except InvalidParameter:
        return name


def _image_name(origin: Origin, named: dict[str, NamedContext]) -> str:
    if origin.kind is Kind.IMAGE:
        return origin.name
    context = named.get(origin.name) if origin.kind is Kind.CONTEXT else None
    return context.reference if isinstance(context, ImageContext) else ""


def _is_id(name: str) -> bool:
    return name.startswith("sha256:")

"""What a build is asked to do, and what becomes of its Dockerfile before anything is done: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from carrack.build.graph import StackOp, Vertex
from carrack.build.progress import PlannedStep
from carrack.errors import InvalidParameter
from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest
from carrack.oci.image_config import ExecutionConfig, ImageConfig
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image that a build begins with, or takes files from. `digest` is that of its manifest."""

    reference: str
    id: Digest
    config: ImageConfig
    chain_id: Digest | None
    layers: tuple[Descriptor, ...]
    digest: str

    @property
    def shown(self) -> str:
        """Its whole name, with the digest of what it is."""
        if self.reference.startswith("sha256:"):
            return self.reference
        try:
            return f"{Reference.parse(self.reference).with_default_tag()}".partition("@")[0] + f"@{self.digest}"
        except InvalidParameter:
            return self.reference


@dataclass(frozen=True, slots=True)
class ImageContext:
    """A named context that is an image: ``docker-image://…``."""

    reference: str


@dataclass(frozen=True, slots=True)
class LocalNamed:
    """A named context that the client has sent; the build knows it by the same name."""


@dataclass(frozen=True, slots=True)
class RemoteNamed:
    """A named context to be fetched: a Git or HTTP address."""

    url: str


@dataclass(frozen=True, slots=True)
class LayoutContext:
    """A named context that is an image in a layout, which the client has sent as the context `context`."""

    context: str
    wanted: str
    """Its tag or digest there; "" for the only one."""


NamedContext = ImageContext | LocalNamed | RemoteNamed | LayoutContext


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One line of history to be: `vertex` is what it did, None for a line that touches no file."""

    created_by: str
    vertex: Vertex | None = None


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage, converted: the vertex it ends with (None: empty), the configuration, and the history above the base image's."""

    name: str
    vertex: Vertex | None
    execution: ExecutionConfig
    platform: Platform
    history: tuple[HistoryStep, ...]
    image: BaseImage | None
    """The image at the bottom; None for scratch."""
    author: str = ""

    @property
    def made(self) -> tuple[Vertex, ...]:
        """The vertices that made the image's layers."""
        own = [step.vertex for step in self.history if step.vertex is not None]
        linked = [vertex.inputs[1].vertex for vertex in own if isinstance(vertex.op, StackOp)]
        return (*own, *linked)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole build, converted."""

    target: StagePlan
    steps: tuple[PlannedStep, ...]
    images: tuple[BaseImage, ...]
    """Every image that takes part."""
    unused_arguments: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str, int], ...] = ()
    """Rule, text, line: what only expansion could find."""
    platform: Platform = field(default_factory=machine)
    """The one that was asked for; the target's own differs where its FROM says so."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the steps of a build have around them, the same for all."""

    network: str = "default"
    hostname: str = "buildkitsandbox"
    extra_hosts: tuple[str, ...] = ()
    shm_bytes: int = 0
    allowed: frozenset[str] = frozenset()
    """Entitlements: ``network.host``, ``security.insecure``."""
    limits: Mapping[str, object] = field(default_factory=dict)
    cgroup_parent: str = ""

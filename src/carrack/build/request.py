"""What one who builds asks for, whatever the transport was: the classic API, its extension, or BuildKit's gRPC later on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from carrack.build.plan import NamedContext, Surroundings
from carrack.build.ports import LocalContext
from carrack.oci.platform import Platform

ALL_STAGES = "*"


@dataclass(frozen=True, slots=True)
class Export:
    """``--output``: `type` image, docker, oci, local, tar; the attributes as buildx has them."""

    type: str = "image"
    attributes: Mapping[str, str] = field(default_factory=dict)
    target_fd: int = -1
    """A file that the output is written to as a tar, for the client to fetch; -1: into the image store."""


@dataclass(frozen=True, slots=True)
class CacheReference:
    """``--cache-from`` and ``--cache-to``: `type` registry, local, inline, oci; the attributes as buildx has them."""

    type: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build. `contexts` are those received, by name, "" the main one; they belong to the build, which closes them."""

    contexts: Mapping[str, LocalContext] = field(default_factory=dict)
    named: Mapping[str, NamedContext] = field(default_factory=dict)
    dockerfile: str = "Dockerfile"
    dockerfile_content: bytes | None = None
    """The file itself, when it does not stand in the context."""
    target: str = ""
    build_arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    """One image each; none: this machine's."""
    no_cache: frozenset[str] = frozenset()
    """Stages that are built anew; `ALL_STAGES`."""
    pull: bool = False
    surroundings: Surroundings = field(default_factory=Surroundings)
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)
    """Registry → X-Registry-Auth header."""
    cache_from: tuple[CacheReference, ...] = ()
    only_cache_from: bool = False
    """Steps come from the cache only where one of those sources went through them: the classic builder's reading of it."""
    remember_lines: bool = False
    """Say of instructions that touch no file whether they were built before, which the classic builder's display shows."""
    cache_to: tuple[CacheReference, ...] = ()
    exports: tuple[Export, ...] = (Export(),)
    attestations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """``provenance`` and ``sbom``, with their attributes."""
    call: str = ""
    """A method of the front end in place of a build: check, outline, targets, subrequests.describe."""
    annotations: Mapping[str, str] = field(default_factory=dict)

"""The build as a graph: vertices that say what is to be done over what, as frozen data, before anything is done.

A vertex is an operation and its inputs. An input is either the **base**, the stack of layers that the operation stands on, or
**files** that it reads of another vertex, chosen by a `Selection`. Its `digest` names the definition alone; what a step is cached
under is its `key`, which takes the content of the inputs in place of their definitions (`cache_key.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property

import msgspec

from carrack.build.dockerfile.instruction import Mount
from carrack.build.ports import InlineFile, RemoteSource
from carrack.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Op:
    """What a vertex does; every field of a subclass is part of its definition."""

    def parts(self) -> Iterator[tuple[str, object]]:
        """The definition as labelled parts, in an order that a person would look for a difference in."""
        for each in fields(self):
            if each.metadata.get("counts", True):
                yield each.name.replace("_", " "), getattr(self, each.name)


@dataclass(frozen=True, slots=True)
class ImageOp(Op):
    """The layers of an image that is here."""

    reference: str
    chain_id: Digest | None


@dataclass(frozen=True, slots=True)
class ContextOp(Op):
    """A build context of this build: "" for the main one; `ignore` are the patterns of its ignore file."""

    name: str
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteOp(Op):
    """Something fetched: HTTP or Git."""

    source: RemoteSource


@dataclass(frozen=True, slots=True)
class RunMount:
    """One `--mount` of a RUN; `input` is the number of the vertex's input that it takes files from, -1 for none."""

    mount: Mount
    input: int = -1


@dataclass(frozen=True, slots=True)
class RunOp(Op):
    """RUN: a program over the base."""

    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    working_dir: str = "/"
    user: str = ""
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Heredoc scripts: path and content."""
    hostname: str = "buildkitsandbox"
    extra_hosts: tuple[str, ...] = ()
    shm_bytes: int = 0
    platform: str = ""
    proxies: tuple[str, ...] = field(default=(), metadata={"counts": False})
    """Proxy arguments: in the program's environment, and in no key."""


@dataclass(frozen=True, slots=True)
class CopyPart:
    """One source: the vertex's input of that number, and the pattern in it."""

    input: int
    pattern: str
    wildcards: bool = True
    unpack: bool | None = False
    keep_owner: bool = False


@dataclass(frozen=True, slots=True)
class CopyOp(Op):
    """COPY or ADD over the base (none with `link`)."""

    sources: tuple[CopyPart, ...]
    files: tuple[InlineFile, ...]
    destination: str
    owner: str = ""
    mode: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StackOp(Op):
    """The layer that its second input is, laid over the first: what COPY --link does once its files are a layer."""


@dataclass(frozen=True, slots=True)
class DirectoryOp(Op):
    """WORKDIR: the directory is there, made for that user when it was not."""

    path: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of an input an operation reads."""

    pattern: str
    wildcards: bool = True
    parents: bool = False
    excludes: tuple[str, ...] = ()
    follow_links: bool = True


@dataclass(frozen=True)
class Input:
    """Another vertex, and what of it is read: None: all of it, as a base."""

    vertex: Vertex
    selection: Selection | None = None
    label: str = ""
    """How an explanation names it, such as ``the files of COPY src``."""


@dataclass(frozen=True)
class Vertex:
    """One operation over its inputs. Equal definitions are one vertex; how it is shown does not count."""

    op: Op
    inputs: tuple[Input, ...] = ()
    shown: Shown = field(default_factory=lambda: Shown(""), compare=False, hash=False)

    @cached_property
    def digest(self) -> str:
        """Names the definition."""
        inputs = [(each.vertex.digest, plain(each.selection)) for each in self.inputs]
        content = (type(self.op).__name__, [(name, plain(value)) for name, value in self.op.parts()], inputs)
        return f"sha256:{hashlib.sha256(msgspec.json.encode(content)).hexdigest()}"

    @property
    def base(self) -> Input | None:
        """The input it stands on."""
        return next((each for each in self.inputs if each.selection is None), None)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vertex) and self.digest == other.digest


@dataclass(frozen=True, slots=True)
class Shown:
    """How a vertex appears to people."""

    name: str
    """``[build 2/5] RUN make``; "": it is not shown."""
    stage: str = ""
    position: int = 0
    total: int = 0
    classic: str = ""
    place: str = ""
    """Where it stands, the same from one build to the next: what an explanation compares."""
    line: int = 0
    last_line: int = 0
    no_cache: bool = False

    def counted(self, total: int) -> Shown:
        """The same once it is known how many steps its stage has."""
        return replace(self, total=total)


def plain(value: object) -> object:
    """A definition's value in plain types, the same for equal values, in a stable order."""
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(plain(getattr(value, each.name)) for each in fields(value))]
    if isinstance(value, Digest):
        return str(value)
    if isinstance(value, Mapping):
        return sorted((plain(key), plain(each)) for key, each in value.items())
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    return value


def walk(vertex: Vertex) -> Iterator[Vertex]:
    """Every vertex that is needed, each once, inputs before those who use them."""
    seen: set[str] = set()
    waiting: list[tuple[Vertex, bool]] = [(vertex, False)]
    while waiting:
        each, ready = waiting.pop()
        if ready:
            yield each
        elif each.digest not in seen:
            seen.add(each.digest)
            waiting.append((each, True))
            waiting += [(one.vertex, False) for one in reversed(each.inputs)]

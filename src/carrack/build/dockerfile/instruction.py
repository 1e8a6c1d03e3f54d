"""The instructions of a Dockerfile as values: what each says, before any variable is expanded.

Names are those of the Dockerfile reference. Every instruction knows its keyword as written, its source text,
the comments right above it and its lines; two instructions that say the same are equal only when those agree too.
"""

from __future__ import annotations

from dataclasses import dataclass

from carrack.build.dockerfile.failure import NOWHERE, Position
from carrack.build.dockerfile.heredoc import Heredoc
from carrack.build.dockerfile.syntax import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What every instruction carries."""

    keyword: str
    source: str
    comments: tuple[str, ...] = ()
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """`FROM [--platform=P] image [AS name]`; `name` is in small letters, "" when there is none."""

    image: str
    name: str = ""
    name_as_written: str = ""
    as_keyword: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One name of ARG with its default, None when it has none."""

    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """`ARG name[=default] …`."""

    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """`ENV name=value …` or `ENV name value`."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """`LABEL name=value …` or `LABEL name value`."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """A command in exec form, or in shell form as the one string that SHELL's words precede."""

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """`RUN [--mount …] [--network …] [--security …] [--device …] command`. Mounts stay text: their values may hold variables."""

    command: CommandLine
    mounts: tuple[str, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """`RUN --device=name[,required]`: a CDI device."""

    name: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One `RUN --mount`, variables expanded. Numbers are None and strings "" where nothing was said; `size` is in bytes."""

    type: str = "bind"
    source_stage: str = ""
    """What `from=` names: a stage, an image or a named context."""
    source: str = ""
    target: str = ""
    readonly: bool = True
    size: int = 0
    id: str = ""
    sharing: str = ""
    required: bool = False
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """`COPY [flags] source … destination`; `files` are sources given as heredocs, named by their word."""

    sources: tuple[str, ...]
    destination: str
    files: tuple[Heredoc, ...] = ()
    source_stage: str = ""
    """What `--from` names: a stage, its number, an image or a named context."""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Instruction):
    """`ADD [flags] source … destination`. `unpack` and `keep_git_dir` are None when the flag was not given."""

    sources: tuple[str, ...]
    destination: str
    files: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    link: bool = False
    keep_git_dir: bool | None = None
    unpack: bool | None = None
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """`EXPOSE port[-port][/protocol] …`, sorted; `exposed_ports` reads them once they are expanded."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """`VOLUME path …`."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """`USER user[:group]`."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """`WORKDIR path`."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """`CMD` in either form."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """`ENTRYPOINT` in either form."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """`SHELL ["program", "argument"]`."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """`STOPSIGNAL signal`."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """`HEALTHCHECK [options] CMD command` or `NONE`. `test` as the image has it; nanoseconds, 0 when not given."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """`ONBUILD instruction`: `expression` is that instruction's text with its heredocs, as the image records it."""

    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """`MAINTAINER name` (deprecated)."""

    name: str

"""A Dockerfile's stages to the graph: each instruction becomes a vertex, or a line of the image's configuration. Pure.

The images that stages rest on are known by now (`bases.py`): their environment is what variables begin with. Source: Dockerfile
reference; where that is silent, BuildKit's habit.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec.structs import replace as with_fields

from carrack.build import history, run_instruction
from carrack.build.cache_key import named_key
from carrack.build.configuration import (
    DEFAULT_PATH,
    applied,
    environment_of,
    working_directory,
)
from carrack.build.dockerfile.arguments import PROXY_ARGUMENTS, Scope
from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import Fault, locate, suggestion
from carrack.build.dockerfile.instruction import (
    Add,
    Arg,
    Cmd,
    Copy,
    Env,
    Instruction,
    Maintainer,
    Mount,
    Run,
    Workdir,
)  # fmt: skip
from carrack.build.dockerfile.stages import Dockerfile, Kind, Origin, Stage
from carrack.build.dockerfile.substitution import substituted
from carrack.build.graph import (
    ContextOp,
    CopyOp,
    CopyPart,
    DirectoryOp,
    ImageOp,
    Input,
    RemoteOp,
    RunMount,
    RunOp,
    Selection,
    Shown,
    StackOp,
    Vertex,
)
from carrack.build.plan import (
    BaseImage,
    HistoryStep,
    ImageContext,
    LocalNamed,
    NamedContext,
    Plan,
    RemoteNamed,
    StagePlan,
    Surroundings,
)
from carrack.build.ports import GitSource, HttpSource, InlineFile
from carrack.build.progress import PlannedStep
from carrack.oci.image_config import ExecutionConfig
from carrack.oci.platform import Platform

_REMOTE = ("http://", "https://", "git://", "ssh://", "git@")
_NEVER_SEEN = frozenset({"SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX", "BUILDKIT_INLINE_CACHE", "BUILDKIT_DOCKERFILE_CHECK"})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that a conversion needs beside the Dockerfile."""

    build_arguments: Mapping[str, str]
    platform: Platform
    image_of: Callable[[str, Platform], BaseImage]
    """An image that was resolved before, by the name that the Dockerfile or a named context gives."""
    is_git: Callable[[str], bool]
    named: Mapping[str, NamedContext] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    has_context: bool = True
    surroundings: Surroundings = field(default_factory=Surroundings)
    no_cache: frozenset[str] = frozenset()
    """Stages whose steps are not taken from the cache; ``*``: all."""
    labels: Mapping[str, str] = field(default_factory=dict)
    several: bool = False
    """The build is for several platforms: the names of its steps say theirs."""


def convert(file: Dockerfile, target: Stage, circumstances: Circumstances) -> Plan:
    """The plan for a target stage. Raises DockerfileError with the line to blame."""
    return _Conversion(file, circumstances).run(target)


@dataclass(slots=True)
class _State:
    """A stage under conversion."""

    stage: Stage
    platform: Platform
    vertex: Vertex | None
    execution: ExecutionConfig
    scope: Scope
    image: BaseImage | None
    history: list[HistoryStep]
    author: str = ""
    arguments: dict[str, None] = field(default_factory=dict)
    """The names that ARG declared, in their order."""
    cmd_said: bool = False
    position: int = 1

    def planned(self) -> StagePlan:
        return StagePlan(
            self.stage.shown,
            self.vertex,
            self.execution,
            self.platform,
            tuple(self.history),
            self.image,
            self.author,
        )


class _Conversion:
    def __init__(self, file: Dockerfile, circumstances: Circumstances) -> None:
        self._file = file
        self._with = circumstances
        self._stages: dict[int, StagePlan] = {}
        self._steps: list[PlannedStep] = []
        self._images: dict[str, BaseImage] = {}
        self._used: set[str] = set()
        self._warnings: list[tuple[str, str, int]] = []
        self._totals: dict[int, int] = {}

    def run(self, target: Stage) -> Plan:
        needed = self._file.needed(target)
        for stage in needed:
            self._totals[stage.number] = 1 + sum(isinstance(each, _LAYERED) for each in (*stage.triggers, *stage.instructions))
        for stage in needed:
            self._stages[stage.number] = self._stage(stage)
        for declared in self._file.global_declarations:
            self._used |= {each.name for each in declared.arguments}
        plan = self._stages[target.number]
        if self._with.labels:
            labels = {**(plan.execution.labels or {}), **self._with.labels}
            plan = replace(plan, execution=with_fields(plan.execution, labels=labels))
        known = self._used | PROXY_ARGUMENTS | _NEVER_SEEN | set(self._file.global_values)
        unused = tuple(sorted(name for name in self._with.build_arguments if name not in known))
        return Plan(plan, tuple(self._steps), tuple(self._images.values()), unused, tuple(self._warnings), self._with.platform)

    # ── a stage ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _stage(self, stage: Stage) -> StagePlan:
        state = self._opened(stage)
        self._step(state, stage.opening.source, state.vertex)
        for instruction in (*stage.triggers, *stage.instructions):
            try:
                self._dispatch(state, instruction)
            except Fault as fault:
                position = instruction.position if instruction in stage.instructions else stage.opening.position
                raise locate(fault, self._file.syntax.file, self._file.syntax.lines, position) from None
        return state.planned()

    def _opened(self, stage: Stage) -> _State:
        platform = stage.platform or self._with.platform
        if stage.base.kind is Kind.STAGE:
            below = self._stages[stage.base.stage]
            execution = with_fields(below.execution, on_build=None)
            scope = Scope.of_image(environment_of(execution))
            return _State(stage, below.platform, below.vertex, execution, scope, below.image, list(below.history), below.author)
        label = self._label(stage, platform, 1)
        shown = Shown(f"[{label}] FROM {stage.opening.image}", stage.shown, 1, line=stage.opening.position.start)
        vertex, image = self._source(stage.base, platform, shown)
        if vertex is not None and image is not None:
            vertex = replace(vertex, shown=replace(shown, name=f"[{label}] FROM {image.shown}"))
        if image is None:
            empty = ExecutionConfig() if platform.os != "linux" else ExecutionConfig(env=[f"PATH={DEFAULT_PATH}"], working_dir="/")
            return _State(stage, platform, vertex, empty, Scope.of_image(environment_of(empty)), None, [])
        execution = with_fields(image.config.execution, on_build=None)
        scope = Scope.of_image(environment_of(execution))
        found = image.config.platform if stage.platform is None else platform
        return _State(stage, found, vertex, execution, scope, image, [], image.config.author)

    def _source(self, origin: Origin, platform: Platform, shown: Shown) -> tuple[Vertex | None, BaseImage | None]:
        """Where files come from that no earlier stage made."""
        named = self._with.named.get(origin.name) if origin.kind is Kind.CONTEXT else None
        if origin.kind is Kind.SCRATCH:
            return None, None
        if isinstance(named, LocalNamed):
            files = Vertex(ContextOp(origin.name), (), Shown(f"[context {origin.name}]"))
            everything = Input(files, Selection(".", wildcards=False), f"the files of the context {origin.name}")
            op = CopyOp((CopyPart(0, ".", wildcards=False, keep_owner=True),), (), "/")
            return Vertex(op, (everything,), shown), None
        if isinstance(named, RemoteNamed):
            files = self._remote(named.url, Shown(f"[context {origin.name}] {named.url}"))
            everything = Input(files, Selection(".", wildcards=False), f"the files of {named.url}")
            return Vertex(CopyOp((CopyPart(0, ".", wildcards=False),), (), "/"), (everything,), shown), None
        image = self._with.image_of(named.reference if isinstance(named, ImageContext) else origin.name, platform)
        self._images.setdefault(str(image.id), image)
        return Vertex(ImageOp(image.reference, image.chain_id), (), shown), image

    def _files_of(self, name: str, state: _State) -> Vertex | None:
        """What `--from=name` gives; None for what is empty."""
        origin = self._file.origin(name, state.stage)
        if origin.kind is Kind.STAGE:
            return self._stages[origin.stage].vertex
        if origin.kind is Kind.CONTEXT:
            named = self._with.named[origin.name]
            if isinstance(named, LocalNamed):
                return Vertex(ContextOp(origin.name), (), Shown(f"[context {origin.name}]"))
            if isinstance(named, RemoteNamed):
                return self._remote(named.url, Shown(f"[context {origin.name}] {named.url}"))
        return self._source(origin, self._with.platform, Shown(f"FROM {name}"))[0]

    def _remote(self, url: str, shown: Shown) -> Vertex:
        return Vertex(RemoteOp(GitSource(url) if self._with.is_git(url) else HttpSource(url)), (), shown)

    def _main_context(self) -> Vertex:
        if not self._with.has_context:
            raise Fault("this build has no context: COPY and ADD of its files are not possible")
        return Vertex(ContextOp("", self._with.ignore), (), Shown("[internal] load build context"))

    # ── instructions ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _dispatch(self, state: _State, written: Instruction) -> None:
        instruction = self._filled_in(state, written)
        match instruction:
            case Arg():
                self._arg(state, instruction)
            case Run():
                self._run(state, instruction)
            case Copy() | Add():
                self._copy(state, instruction)
            case Workdir():
                self._workdir(state, instruction)
            case Maintainer():
                state.author = instruction.name
                self._remember(state, instruction)
            case _:
                if isinstance(instruction, Env):
                    state.scope = state.scope.with_env(instruction)
                state.execution = applied(state.execution, instruction, cmd_said=state.cmd_said)
                state.cmd_said = state.cmd_said or isinstance(instruction, Cmd)
                self._remember(state, instruction)

    def _filled_in(self, state: _State, written: Instruction) -> Instruction:
        missing: dict[str, None] = {}

        def lookup(name: str) -> str | None:
            value = state.scope.values.get(name)
            if value is None and name not in state.scope.declared:
                missing[name] = None
            return value

        result = substituted(written, lookup, self._file.syntax.escape)
        for name in missing:
            hint = suggestion(name, [*state.scope.values, *state.scope.declared])
            self._warnings.append(("UndefinedVar", f"Usage of undefined variable '${name}'{hint}", written.position.start))
        return result

    def _remember(self, state: _State, instruction: Instruction) -> None:
        self._add_line(state, history.of_configuration(instruction, state.execution, state.scope.values), instruction)

    def _add_line(self, state: _State, created_by: str, instruction: Instruction) -> None:
        """A step that touches no file."""
        state.history.append(HistoryStep(created_by))
        below = str(state.image.id) if state.image is not None else "scratch"
        line = named_key("told", below, *(each.created_by for each in state.history)).digest
        self._steps.append(PlannedStep(instruction.source.strip(), stage=state.stage.shown, line=line))

    def _step(self, state: _State, text: str, vertex: Vertex | None) -> None:
        self._steps.append(PlannedStep(text.strip(), vertex.digest if vertex is not None else "", state.stage.shown))

    def _arg(self, state: _State, arg: Arg) -> None:
        given = dict(self._with.build_arguments)
        state.scope = state.scope.with_arg(arg, given, self._file.global_values, self._file.syntax.escape)
        for each in arg.arguments:
            state.arguments[each.name] = None
            self._used.add(each.name)
        self._remember(state, arg)

    def _shown(self, state: _State, instruction: Instruction, text: str) -> Shown:
        state.position += 1
        stage = state.stage
        return Shown(
            name=f"[{self._label(stage, state.platform, state.position)}] {text}",
            stage=stage.shown,
            position=state.position,
            total=self._totals[stage.number],
            classic=instruction.source,
            place=f"{stage.shown}:{state.position}" + (f" {state.platform}" if self._with.several else ""),
            line=instruction.position.start,
            last_line=instruction.position.end,
            no_cache=bool(self._with.no_cache & {"*", stage.name, stage.shown}),
        )

    def _label(self, stage: Stage, platform: Platform, position: int) -> str:
        total = self._totals[stage.number]
        width = len(str(total))
        alone = not stage.name and len(self._totals) == 1
        counted = f"{position:>{width}}/{total}" if alone else f"{stage.shown} {position:>{width}}/{total}"
        return f"{platform} {counted}" if self._with.several else counted

    def _add_vertex(self, state: _State, vertex: Vertex, created_by: str, instruction: Instruction) -> None:
        state.vertex = vertex
        state.history.append(HistoryStep(created_by, vertex))
        self._step(state, instruction.source, vertex)

    def _on(self, state: _State, *others: Input) -> tuple[Input, ...]:
        """Inputs behind the base, which comes last so that the others keep their numbers."""
        return (*others, Input(state.vertex, label="the step below")) if state.vertex is not None else others

    # ── WORKDIR ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _workdir(self, state: _State, workdir: Workdir) -> None:
        path = working_directory(state.execution, workdir.path)
        state.execution = applied(state.execution, workdir)
        shown = self._shown(state, workdir, f"WORKDIR {workdir.path}")
        if path == "/":
            self._add_line(state, history.of_workdir(path), workdir)
            return
        vertex = Vertex(DirectoryOp(path, state.execution.user), self._on(state), shown)
        self._add_vertex(state, vertex, history.of_workdir(path), workdir)

    # ── COPY and ADD ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _copy(self, state: _State, copy: Copy | Add) -> None:
        keyword = "ADD" if isinstance(copy, Add) else "COPY"
        named = [*(f"<<{file.name}" for file in copy.files), *copy.sources]
        shown = self._shown(state, copy, " ".join([keyword, *_shown_flags(copy), *named, copy.destination]))
        if len(named) > 1 and not _is_directory(copy.destination):
            raise Fault(
                f"When using {keyword} with more than one source file, the destination must be a directory and end with a /"
            )
        parents = isinstance(copy, Copy) and copy.parents
        inputs: list[Input] = []
        parts: list[CopyPart] = []
        for source in copy.sources:
            found = self._copied(state, copy, source, len(inputs))
            if found is None:
                raise Fault(f'failed to compute cache key: "/{source.lstrip("/")}": not found', source)
            vertex, part = found
            selection = Selection(part.pattern, part.wildcards, parents, copy.excludes)
            inputs.append(Input(vertex, selection, f"the files of {keyword} {source}"))
            parts.append(part)
        op = CopyOp(
            sources=tuple(parts),
            files=tuple(InlineFile(file.name, file.text.encode()) for file in copy.files),
            destination=_destination(state.execution, copy.destination),
            owner=copy.chown,
            mode=copy.chmod,
            link=copy.link,
            parents=parents,
            excludes=copy.excludes,
        )
        if not copy.link:
            self._add_vertex(state, Vertex(op, self._on(state, *inputs), shown), history.of_copy(copy), copy)
            return
        vertex = Vertex(op, tuple(inputs), shown)
        if state.vertex is not None:
            linked = Input(vertex, label=f"the layer of {keyword} --link")
            vertex = Vertex(StackOp(), (Input(state.vertex, label="the step below"), linked), replace(shown, name=""))
        self._add_vertex(state, vertex, history.of_copy(copy), copy)

    def _copied(self, state: _State, copy: Copy | Add, source: str, number: int) -> tuple[Vertex, CopyPart] | None:
        """Where one source comes from, and what of it; None for a stage that is empty."""
        if isinstance(copy, Copy):
            if not copy.source_stage:
                return self._main_context(), CopyPart(number, source)
            vertex = self._files_of(copy.source_stage, state)
            return None if vertex is None else (vertex, CopyPart(number, source, keep_owner=True))
        if not source.startswith(_REMOTE) and not self._with.is_git(source):
            if copy.checksum:
                raise Fault("checksum can't be specified for non-HTTP(S) or non-Git sources", "--checksum")
            return self._main_context(), CopyPart(number, source, unpack=copy.unpack)
        if self._with.is_git(source):
            keep = bool(copy.keep_git_dir)
            op = RemoteOp(GitSource(source, keep_git_dir=keep, checksum=copy.checksum))
            return Vertex(op, (), Shown(f"ADD {source}")), CopyPart(number, ".", wildcards=False)
        fetched = Vertex(RemoteOp(HttpSource(source, checksum=copy.checksum)), (), Shown(f"ADD {source}"))
        return fetched, CopyPart(number, "*", unpack=bool(copy.unpack))

    # ── RUN ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self, state: _State, run: Run) -> None:
        shown = self._shown(state, run, f"RUN {' '.join(run_instruction.shown_flags(run))}{history.shown_command(run.command)}")
        run_instruction.check_rights(run, self._with.surroundings)
        arguments, files = run_instruction.command_of(run, state.execution)
        mounts: list[RunMount] = []
        inputs: list[Input] = []
        working_dir = state.execution.working_dir or "/"
        for text in run.mounts:
            expand = Expansion(state.scope.values.get, self._file.syntax.escape)
            mount = run_instruction.mount_of(text, expand, working_dir, len(mounts))
            vertex = self._mount_source(state, mount)
            if vertex is not None:
                path = mount.source or "/"
                inputs.append(Input(vertex, Selection(path, wildcards=False), f"the files of --mount of {path}"))
                mounts.append(RunMount(mount, len(inputs) - 1))
            else:
                mounts.append(RunMount(mount))
        visible = {name: state.scope.values[name] for name in state.arguments if name in state.scope.values}
        proxies = {name: value for name, value in self._with.build_arguments.items() if name in PROXY_ARGUMENTS}
        environment = {"PATH": DEFAULT_PATH, **state.scope.values}
        around = self._with.surroundings
        op = RunOp(
            arguments=arguments,
            environment=tuple(f"{name}={value}" for name, value in environment.items() if name not in proxies),
            working_dir=working_dir,
            user=state.execution.user,
            mounts=tuple(mounts),
            network=run.network if run.network != "default" else around.network,
            security=run.security,
            devices=tuple(device.name + ("" if device.required else "?") for device in run.devices),
            files=files,
            hostname=around.hostname,
            extra_hosts=around.extra_hosts,
            shm_bytes=around.shm_bytes,
            platform=str(state.platform),
            proxies=tuple(f"{name}={value}" for name, value in proxies.items()),
        )
        told = {name: value for name, value in visible.items() if name not in proxies and name not in state.scope.environment}
        created_by = history.of_run(arguments if not files else [*arguments, "# script"], told)
        self._add_vertex(state, Vertex(op, self._on(state, *inputs), shown), created_by, run)

    def _mount_source(self, state: _State, mount: Mount) -> Vertex | None:
        if mount.type == "bind":
            return self._files_of(mount.source_stage, state) if mount.source_stage else self._main_context()
        if mount.type == "cache" and mount.source_stage:
            return self._files_of(mount.source_stage, state)
        return None


_LAYERED = (Run, Copy, Add, Workdir)


def _destination(execution: ExecutionConfig, written: str) -> str:
    """Absolute, with a slash at its end when it means a directory."""
    joined = posixpath.normpath(posixpath.join("/", execution.working_dir or "/", written))
    joined = "/" + joined.lstrip("/")
    return joined.rstrip("/") + "/" if _is_directory(written) else joined


def _is_directory(written: str) -> bool:
    return written.endswith(("/", "/.", "/..")) or written in (".", "..", "")


def _shown_flags(copy: Copy | Add) -> Sequence[str]:
    stage = getattr(copy, "source_stage", "")
    return [f"--from={stage}"] if stage else []

"""Instructions to stages, and which stage needs which: the graph that a build walks.

A stage's base is an earlier stage, an image, a named context or nothing (`scratch`). COPY --from and RUN --mount=from name a
stage by name or number, else a named context, else an image. `needed` gives the target and all it rests on, in file order; the rest
of the file is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from carrack.build.dockerfile.arguments import global_arguments
from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import DockerfileError, Fault, Position, locate, suggestion
from carrack.build.dockerfile.instruction import Arg, Copy, From, Instruction, Onbuild, Run
from carrack.build.dockerfile.instructions_of import instruction_of, instructions_of
from carrack.build.dockerfile.mounts import check_mount
from carrack.build.dockerfile.syntax import Syntax, parse
from carrack.errors import InvalidParameter
from carrack.oci.platform import Platform


class Kind(Enum):
    """Where files come from."""

    STAGE = "stage"
    IMAGE = "image"
    CONTEXT = "context"
    SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Origin:
    """A source of files: a stage by its number, or an image or named context by its name."""

    kind: Kind
    name: str = ""
    stage: int = -1


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows it; `triggers` are the ONBUILD instructions of the stage it rests on, run first."""

    number: int
    name: str
    base: Origin
    opening: From
    instructions: tuple[Instruction, ...]
    platform: Platform | None = None
    triggers: tuple[Instruction, ...] = ()

    @property
    def shown(self) -> str:
        """The name that messages use."""
        return self.name or f"stage-{self.number}"


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What the one who builds says about the file as a whole."""

    build_arguments: Mapping[str, str] = field(default_factory=dict)
    automatic: Mapping[str, str] = field(default_factory=dict)
    """Of `arguments.platform_arguments`."""
    named_contexts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole Dockerfile, ready to be built."""

    syntax: Syntax
    stages: tuple[Stage, ...]
    global_declarations: tuple[Arg, ...]
    global_values: Mapping[str, str]
    named_contexts: frozenset[str]

    def target(self, name: str = "") -> Stage:
        """The stage of that name or number, the last one for "". Raises InvalidParameter."""
        if not name:
            return self.stages[-1]
        number = self._stage(name, len(self.stages))
        if number is None:
            hint = suggestion(name, (stage.shown for stage in self.stages))
            raise InvalidParameter(f'target stage "{name}" could not be found{hint}')
        return self.stages[number]

    def origin(self, name: str, user: Stage) -> Origin:
        """What `--from=name` means in a stage. Raises Fault for a number no stage has and for a stage that comes later."""
        number = self._stage(name, len(self.stages))
        if number is None:
            return _outside(name, self.named_contexts)
        if number == user.number:
            raise Fault(f"circular dependency detected on stage: {user.shown}", name)
        if number > user.number:
            raise Fault(
                f'cannot copy from stage "{name}", it needs to be defined before current stage "{user.shown}"',
                name,
            )
        stage = self.stages[number]
        return Origin(Kind.CONTEXT, stage.name) if stage.name in self.named_contexts else Origin(Kind.STAGE, stage.name, number)

    def origins(self, stage: Stage) -> tuple[Origin, ...]:
        """All a stage takes from: its base first, then in the order of its instructions. Raises DockerfileError."""
        found = [stage.base]
        for instruction in (*stage.triggers, *stage.instructions):
            try:
                found += [self.origin(name, stage) for name in _named_by(instruction)]
            except Fault as fault:
                raise _at(fault, self.syntax, instruction.position) from None
        return tuple(dict.fromkeys(found))

    def needed(self, target: Stage) -> tuple[Stage, ...]:
        """The stages that must be built for the target, itself included, in file order. Raises DockerfileError."""
        wanted: set[int] = set()
        waiting = [target.number]
        while waiting:
            number = waiting.pop()
            if number in wanted:
                continue
            wanted.add(number)
            waiting += [origin.stage for origin in self.origins(self.stages[number]) if origin.kind is Kind.STAGE]
        return tuple(stage for stage in self.stages if stage.number in wanted)

    def _stage(self, name: str, count: int) -> int | None:
        if name.isascii() and name.isdigit():
            number = int(name[:9])
            if number >= count:
                raise Fault(f"invalid stage index {name}", name)
            return number
        return next((stage.number for stage in reversed(self.stages) if stage.name and stage.name == name.lower()), None)


def read_dockerfile(content: bytes | str, inputs: BuildInputs, file: str = "Dockerfile") -> Dockerfile:
    """A Dockerfile's text to its stages. Raises DockerfileError."""
    syntax = parse(content, file)
    return stages_of(syntax, instructions_of(syntax), inputs)


def stages_of(syntax: Syntax, instructions: tuple[Instruction, ...], inputs: BuildInputs) -> Dockerfile:
    """Divide instructions into stages and fill in their FROM lines. Raises DockerfileError."""
    openings = [index for index, each in enumerate(instructions) if isinstance(each, From)]
    first = openings[0] if openings else len(instructions)
    declared: list[Arg] = []
    for instruction in instructions[:first]:
        if not isinstance(instruction, Arg):
            raise _at(Fault("no build stage in current context", instruction.keyword), syntax, instruction.position)
        declared.append(instruction)
    if not openings:
        raise _at(Fault("dockerfile contains no stages to build"), syntax, instructions[-1].position)
    values = _globals(declared, syntax, inputs)
    stages: list[Stage] = []
    for start, end in zip(openings, [*openings[1:], len(instructions)], strict=True):
        opening = instructions[start]
        assert isinstance(opening, From)
        try:
            stages.append(_stage(opening, instructions[start + 1 : end], stages, values, syntax.escape, inputs))
        except Fault as fault:
            raise _at(fault, syntax, opening.position) from None
    return Dockerfile(syntax, tuple(stages), tuple(declared), values, inputs.named_contexts)


def trigger_instructions(expressions: Iterable[str]) -> tuple[Instruction, ...]:
    """The instructions that ONBUILD left in a base image or stage. Raises Fault for one that is no single instruction."""
    found: list[Instruction] = []
    for expression in expressions:
        try:
            statements = parse(expression, "ONBUILD").statements
        except DockerfileError as error:
            raise Fault(f"{error.reason} (in ONBUILD {expression})") from None
        if len(statements) != 1:
            raise Fault("onbuild trigger should be a single expression")
        instruction = instruction_of(statements[0])
        if isinstance(instruction, (From, Onbuild)):
            raise Fault(f"{statements[0].keyword.upper()} isn't allowed as an ONBUILD trigger")
        found.append(instruction)
    return tuple(found)


def _globals(declared: list[Arg], syntax: Syntax, inputs: BuildInputs) -> Mapping[str, str]:
    values: Mapping[str, str] = global_arguments((), inputs.automatic, inputs.build_arguments)
    for arg in declared:
        try:
            values = global_arguments((arg,), values, inputs.build_arguments, syntax.escape)
        except Fault as fault:
            raise _at(fault, syntax, arg.position) from None
    return values


def _stage(
    opening: From,
    body: tuple[Instruction, ...],
    earlier: list[Stage],
    values: Mapping[str, str],
    escape: str,
    inputs: BuildInputs,
) -> Stage:
    image = Expansion(values.get, escape).word(opening.image)
    if not image:
        raise Fault(f"base name ({opening.image}) should not be blank", opening.image)
    base = _base(image, opening.name, earlier, inputs.named_contexts)
    triggers: tuple[Instruction, ...] = ()
    if base.kind is Kind.STAGE:
        left = [each for each in earlier[base.stage].instructions if isinstance(each, Onbuild)]
        triggers = trigger_instructions(each.expression for each in left)
    return Stage(len(earlier), opening.name, base, opening, body, _platform(opening, values, escape), triggers)


def _base(image: str, name: str, earlier: list[Stage], contexts: frozenset[str]) -> Origin:
    if name and name in contexts:
        return Origin(Kind.CONTEXT, name)
    for stage in reversed(earlier):
        if stage.name and stage.name == image:
            return Origin(Kind.STAGE, stage.name, stage.number)
    return _outside(image, contexts)


def _outside(name: str, contexts: frozenset[str]) -> Origin:
    if name in contexts:
        return Origin(Kind.CONTEXT, name)
    return Origin(Kind.SCRATCH) if name == "scratch" else Origin(Kind.IMAGE, name)


def _platform(opening: From, values: Mapping[str, str], escape: str) -> Platform | None:
    if not opening.platform:
        return None
    result = Expansion(values.get, escape).expand(opening.platform)
    hint = next((found for name in sorted(result.missing) if (found := suggestion(name, values))), "")
    if not result.text:
        raise Fault(f"empty platform value from expression {opening.platform}{hint}", opening.platform)
    try:
        return Platform.parse(result.text)
    except InvalidParameter as error:
        raise Fault(f"failed to parse platform {opening.platform}: {error.message}{hint}", opening.platform) from None


def _named_by(instruction: Instruction) -> tuple[str, ...]:
    if isinstance(instruction, Copy) and instruction.source_stage:
        return (instruction.source_stage,)
    if isinstance(instruction, Run):
        return tuple(name for text in instruction.mounts if (name := check_mount(text)))
    return ()


def _at(fault: Fault, syntax: Syntax, position: Position) -> DockerfileError:
    return locate(fault, syntax.file, syntax.lines, position)

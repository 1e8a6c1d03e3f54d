"""The checks of `--check` that need the Dockerfile alone: a parsed file to its warnings, in the order of its lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import Fault, Position, locate, suggestion
from carrack.build.dockerfile.instruction import (
    Arg,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Shell,
    Workdir,
)  # fmt: skip
from carrack.build.dockerfile.instructions_of import instruction_of
from carrack.build.dockerfile.lint_rules import LintChoice, LintWarning, choice_above, read_choice
from carrack.build.dockerfile.quantity import split_port
from carrack.build.dockerfile.stages import Dockerfile, Stage

_SECRET = re.compile(r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE)
_PUBLIC = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_RESERVED = ("context", "scratch")


@dataclass(frozen=True, slots=True)
class _Finding:
    rule: str
    message: str
    at: Instruction


def lint(file: Dockerfile) -> tuple[LintWarning, ...]:
    """Every warning of a file, its `check` directives obeyed. Raises DockerfileError for a malformed directive."""
    try:
        choice = read_choice(file.syntax.directive("check"))
    except Fault as fault:
        line = next(found.line for found in file.syntax.directives if found.name == "check")
        raise locate(fault, file.syntax.file, file.syntax.lines, Position(line, line)) from None
    warnings = [
        LintWarning("NoEmptyContinuation", "Empty continuation line", Position(line, line))
        for line in file.syntax.empty_continuations
        if choice.wants("NoEmptyContinuation")
    ]
    warnings += [LintWarning(found.rule, found.message, found.at.position) for found in _findings(file) if _wanted(found, choice)]
    return tuple(sorted(warnings, key=lambda warning: (warning.position.start, warning.rule)))


def _wanted(found: _Finding, choice: LintChoice) -> bool:
    return choice.merged(choice_above(found.at.comments)).wants(found.rule)


def _findings(file: Dockerfile) -> Iterator[_Finding]:
    everything = [instruction_of(statement) for statement in file.syntax.statements]
    yield from _casing(everything)
    yield from _stage_names(file.stages)
    for declared in file.global_declarations:
        yield from _description("ARG", declared, tuple(each.name for each in declared.arguments))
    for stage in file.stages:
        yield from _from(file, stage)
        yield from _repeated(stage)
        yield from _workdirs(file, stage)
        shell_chosen = any(isinstance(each, Shell) for below in _chain(file, stage)[1:] for each in below.instructions)
        for instruction in stage.instructions:
            shell_chosen = shell_chosen or isinstance(instruction, Shell)
            if not (shell_chosen and isinstance(instruction, (Cmd, Entrypoint))):  # who chose a shell means to use it
                yield from _alone(instruction)


def _casing(everything: list[Instruction]) -> Iterator[_Finding]:
    lower = sum(each.keyword.islower() for each in everything)
    upper = sum(each.keyword.isupper() for each in everything)
    wanted = "lowercase" if lower > upper else "uppercase"
    for each in everything:
        if not (each.keyword.islower() if lower > upper else each.keyword.isupper()):
            message = f"Command '{each.keyword}' should match the case of the command majority ({wanted})"
            yield _Finding("ConsistentInstructionCasing", message, each)


def _stage_names(stages: Iterable[Stage]) -> Iterator[_Finding]:
    seen: set[str] = set()
    for stage in stages:
        opening = stage.opening
        if stage.name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            yield _Finding("ReservedStageName", message, opening)
        if stage.name and stage.name in seen:
            message = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield _Finding("DuplicateStageName", message, opening)
        seen.add(stage.name)
        if opening.name_as_written != opening.name:
            yield _Finding("StageNameCasing", f"Stage name '{opening.name_as_written}' should be lowercase", opening)
        if _mixed(opening):
            message = f"'{opening.as_keyword}' and '{opening.keyword}' keywords' casing do not match"
            yield _Finding("FromAsCasing", message, opening)


def _mixed(opening: From) -> bool:
    if not opening.as_keyword:
        return False
    if opening.keyword.islower():
        return not opening.as_keyword.islower()
    return opening.keyword.isupper() and not opening.as_keyword.isupper()


def _from(file: Dockerfile, stage: Stage) -> Iterator[_Finding]:
    opening, known = stage.opening, file.global_values
    declared = {each.name for arg in file.global_declarations for each in arg.arguments}
    platform = Expansion(known.get, file.syntax.escape).expand(opening.platform)
    image = Expansion(known.get, file.syntax.escape).expand(opening.image)
    for name in sorted((image.missing | platform.missing) - declared):
        message = f"FROM argument '{name}' is not declared{suggestion(name, [*known, *declared])}"
        yield _Finding("UndefinedArgInFrom", message, opening)
    if platform.found == {"TARGETPLATFORM"} and not platform.missing and platform.text == known["TARGETPLATFORM"]:
        message = f"Setting platform to predefined {opening.platform} in FROM is redundant as this is the default behavior"
        yield _Finding("RedundantTargetPlatform", message, opening)
    constant = stage.platform is not None and not platform.found and not platform.missing
    if constant and stage.platform and stage.platform.os not in stage.name and stage.platform.architecture not in stage.name:
        message = f'FROM --platform flag should not use constant value "{platform.text}"'
        yield _Finding("FromPlatformFlagConstDisallowed", message, opening)
    if stage.name:
        yield from _description("FROM", opening, (stage.name,))


def _repeated(stage: Stage) -> Iterator[_Finding]:
    last: dict[type[Instruction], Instruction] = {}
    for each in stage.instructions:
        if isinstance(each, (Cmd, Entrypoint, Healthcheck)):
            if type(each) in last:
                message = (
                    f"Multiple {each.keyword.upper()} instructions should not be used in the same stage"
                    " because only the last one will be used"
                )
                yield _Finding("MultipleInstructionsDisallowed", message, last[type(each)])
            last[type(each)] = each


def _chain(file: Dockerfile, stage: Stage) -> list[Stage]:
    """The stage and those it rests on, nearest first."""
    chain = [stage]
    while chain[-1].base.stage >= 0:
        chain.append(file.stages[chain[-1].base.stage])
    return chain


def _workdirs(file: Dockerfile, stage: Stage) -> Iterator[_Finding]:
    """A relative WORKDIR before any absolute one, in the stage or in those it rests on."""
    chain = _chain(file, stage)
    absolute = any(
        isinstance(each, Workdir) and each.path.startswith(("/", "$")) for below in chain[1:] for each in below.instructions
    )
    for each in stage.instructions:
        if not isinstance(each, Workdir):
            continue
        absolute = absolute or each.path.lstrip("\"'").startswith(("/", "$"))
        if not absolute:
            message = f'Relative workdir "{each.path}" can have unexpected results if the base image changes'
            yield _Finding("WorkdirRelativePath", message, each)


def _alone(each: Instruction) -> Iterator[_Finding]:
    """What one instruction shows by itself."""
    match each:
        case Maintainer():
            yield _Finding("MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", each)
        case Cmd() | Entrypoint() if each.command.shell:
            message = f"JSON arguments recommended for {each.keyword.upper()} to prevent unintended behavior related to OS signals"
            yield _Finding("JSONArgsRecommended", message, each)
        case Env() | Label():
            keyword = each.keyword.upper()
            if any(pair.legacy for pair in each.pairs):
                message = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
                yield _Finding("LegacyKeyValueFormat", message, each)
            if isinstance(each, Env):
                yield from _secrets(each, "ENV", (pair.name for pair in each.pairs))
        case Arg():
            names = tuple(argument.name for argument in each.arguments)
            yield from _secrets(each, "ARG", names)
            yield from _description("ARG", each, names)
        case Expose():
            yield from _ports(each)


def _secrets(each: Instruction, keyword: str, names: Iterable[str]) -> Iterator[_Finding]:
    for name in names:
        if _SECRET.search(name) and not _PUBLIC.search(name):
            message = f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")'
            yield _Finding("SecretsUsedInArgOrEnv", message, each)


def _ports(each: Expose) -> Iterator[_Finding]:
    for port in each.ports:
        address, host, container = split_port(port)
        protocol = container.partition("/")[2]
        if protocol != protocol.lower():
            yield _Finding("ExposeProtoCasing", f"Defined protocol '{port}' in EXPOSE instruction should be lowercase", each)
        if (address or host) and "$" not in port:
            message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            yield _Finding("ExposeInvalidFormat", message, each)


def _description(keyword: str, each: Instruction, names: tuple[str, ...]) -> Iterator[_Finding]:
    if each.comments and each.comments[-1].split(" ")[0] not in names:
        shown = names[0] if len(names) == 1 else "<arg_key>"
        message = f"Comment for {keyword} should follow the format: `# {shown} <description>`"
        yield _Finding("InvalidDefinitionDescription", message, each)

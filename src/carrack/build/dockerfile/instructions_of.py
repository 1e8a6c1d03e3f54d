"""Statements to instructions: flags read, arguments counted, Docker's own words where something cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, TypedDict

from carrack.build.dockerfile.failure import Fault, Position, locate, suggestion
from carrack.build.dockerfile.flags import Flags, Takes, read_flags
from carrack.build.dockerfile.heredoc import Heredoc, parse_heredoc
from carrack.build.dockerfile.instruction import (
    Add,
    Arg,
    Argument,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from carrack.build.dockerfile.mounts import check_mount, read_device
from carrack.build.dockerfile.quantity import interval
from carrack.build.dockerfile.syntax import Pair, Statement, Syntax
from carrack.build.dockerfile.words import SPACES

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_ONBUILD = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)
_COPY_FLAGS = {
    "chown": Takes.VALUE, "from": Takes.VALUE, "chmod": Takes.VALUE, "link": Takes.SWITCH, "exclude": Takes.VALUES,
    "parents": Takes.SWITCH,
}  # fmt: skip
_ADD_FLAGS = {
    "chown": Takes.VALUE, "chmod": Takes.VALUE, "link": Takes.SWITCH, "keep-git-dir": Takes.SWITCH, "checksum": Takes.VALUE,
    "unpack": Takes.SWITCH, "exclude": Takes.VALUES,
}  # fmt: skip
_RUN_FLAGS = {"mount": Takes.VALUES, "network": Takes.VALUE, "security": Takes.VALUE, "device": Takes.VALUES}
_HEALTH_FLAGS = dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), Takes.VALUE)
_NETWORKS = ("default", "none", "host")
_SECURITY = ("insecure", "sandbox")


class _Frame(TypedDict):
    """What every instruction takes over from its statement."""

    keyword: str
    source: str
    comments: tuple[str, ...]
    position: Position


def instructions_of(syntax: Syntax) -> tuple[Instruction, ...]:
    """Every instruction of a parsed file. Raises DockerfileError at the first that cannot be meant."""
    found: list[Instruction] = []
    for statement in syntax.statements:
        try:
            found.append(instruction_of(statement))
        except Fault as fault:
            raise locate(fault, syntax.file, syntax.lines, statement.position) from None
    return tuple(found)


def instruction_of(statement: Statement) -> Instruction:
    """One instruction. Raises Fault."""
    read = _READERS.get(statement.keyword.lower())
    if read is None:
        hint = suggestion(statement.keyword, (name.upper() for name in _READERS), fold=True)
        raise Fault(f"unknown instruction: {statement.keyword}{hint}", statement.keyword)
    return read(statement)


def _frame(statement: Statement) -> _Frame:
    return {
        "keyword": statement.keyword,
        "source": statement.original.strip(SPACES),
        "comments": statement.comments,
        "position": statement.position,
    }


def _plain(statement: Statement) -> None:
    """Refuse every flag."""
    read_flags(statement.flags, {})


def _only_argument(statement: Statement) -> str:
    if len(statement.arguments) != 1:
        raise Fault(f"{statement.keyword.upper()} requires exactly one argument")
    _plain(statement)
    return statement.arguments[0]


def _some(statement: Statement) -> tuple[str, ...]:
    if not statement.arguments:
        raise Fault(f"{statement.keyword.upper()} requires at least one argument")
    return statement.arguments


def _from(statement: Statement) -> From:
    words = statement.arguments
    written = as_keyword = ""
    if len(words) == 3 and words[1].lower() == "as":
        as_keyword, written = words[1], words[2]
        if not _STAGE_NAME.fullmatch(written.lower()):
            raise Fault(f'invalid name for build stage: "{written}", name can\'t start with a number or contain symbols', written)
    elif len(words) != 1:
        raise Fault("FROM requires either one or three arguments")
    flags = read_flags(statement.flags, {"platform": Takes.VALUE})
    return From(
        image=words[0],
        name=written.lower(),
        name_as_written=written,
        as_keyword=as_keyword,
        platform=flags.text("platform"),
        **_frame(statement),
    )


def _arg(statement: Statement) -> Arg:
    _some(statement)
    arguments: list[Argument] = []
    for word in statement.arguments:
        name, equals, value = word.partition("=")
        if equals and not name:
            raise Fault("ARG names can not be blank", word)
        arguments.append(Argument(name=name, default=value if equals else None))
    return Arg(arguments=tuple(arguments), **_frame(statement))


def _pairs(statement: Statement) -> tuple[Pair, ...]:
    _plain(statement)
    keyword = statement.keyword.upper()
    if not statement.pairs:
        raise Fault(f"{keyword} requires at least one argument")
    for pair in statement.pairs:
        if not pair.name:
            raise Fault(f"{keyword} names can not be blank", f"={pair.value}")
    return statement.pairs


def _command(statement: Statement, words: tuple[str, ...]) -> CommandLine:
    if statement.json:
        return CommandLine(words=words, shell=False)
    return CommandLine(words=(" ".join(words),) if words else (), shell=True, heredocs=statement.heredocs)  # noqa: S604  # a word of ours: no process is started


def _run(statement: Statement) -> Run:
    flags = read_flags(statement.flags, _RUN_FLAGS)
    for text in flags.texts("mount"):
        check_mount(text)
    network, security = flags.text("network", "default"), flags.text("security", "sandbox")
    if network not in _NETWORKS:
        raise Fault(f'invalid network mode "{network}"{suggestion(network, _NETWORKS)}', network)
    if security not in _SECURITY:
        raise Fault(f'security "{security}" is not valid{suggestion(security, _SECURITY)}', security)
    return Run(
        command=_command(statement, statement.arguments),
        mounts=flags.texts("mount"),
        network=network,
        security=security,
        devices=tuple(read_device(text) for text in flags.texts("device")),
        **_frame(statement),
    )


def _paths(statement: Statement) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    """Sources, heredocs among them, destination."""
    keyword = statement.keyword.upper()
    if len(statement.arguments) < 2:
        raise Fault(f"{keyword} requires at least two arguments, but only one was provided. Destination could not be determined")
    *sources, destination = statement.arguments
    if not statement.json and parse_heredoc(destination) is not None:
        raise Fault(f"{keyword} cannot accept a heredoc as a destination", destination)
    if statement.json:
        return tuple(sources), (), destination
    contents = {heredoc.name: heredoc for heredoc in statement.heredocs}
    paths: list[str] = []
    files: list[Heredoc] = []
    for source in sources:
        heredoc = parse_heredoc(source)
        if heredoc is None:
            paths.append(source)
        else:
            files.append(replace(heredoc, content=contents[heredoc.name].content if heredoc.name in contents else ""))
    return tuple(paths), tuple(files), destination


def _copy(statement: Statement) -> Copy:
    sources, files, destination = _paths(statement)
    flags = read_flags(statement.flags, _COPY_FLAGS)
    if "$" in flags.text("from"):
        raise Fault(
            "variable expansion is not supported for --from, define a new stage with FROM"
            " using ARG from global scope as a workaround",
            "--from",
        )
    return Copy(
        sources=sources,
        destination=destination,
        files=files,
        source_stage=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.switch("link"),
        parents=flags.switch("parents"),
        excludes=flags.texts("exclude"),
        **_frame(statement),
    )


def _add(statement: Statement) -> Add:
    sources, files, destination = _paths(statement)
    flags = read_flags(statement.flags, _ADD_FLAGS)
    return Add(
        sources=sources,
        destination=destination,
        files=files,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        checksum=flags.text("checksum"),
        link=flags.switch("link"),
        keep_git_dir=flags.maybe("keep-git-dir"),
        unpack=flags.maybe("unpack"),
        excludes=flags.texts("exclude"),
        **_frame(statement),
    )


def _volume(statement: Statement) -> Volume:
    _some(statement)
    _plain(statement)
    paths = tuple(path.strip(SPACES) for path in statement.arguments)
    if "" in paths:
        raise Fault("VOLUME specified can not be an empty string")
    return Volume(paths=paths, **_frame(statement))


def _expose(statement: Statement) -> Expose:
    _some(statement)
    _plain(statement)
    return Expose(ports=tuple(sorted(statement.arguments)), **_frame(statement))


def _shell(statement: Statement) -> Shell:
    _plain(statement)
    _some(statement)
    if not statement.json:
        raise Fault(f"SHELL requires the arguments to be in JSON form, got: {statement.original.strip(SPACES)}")
    return Shell(words=statement.arguments, **_frame(statement))


def _healthcheck(statement: Statement) -> Healthcheck:
    kind, *rest = _some(statement)
    if kind.upper() == "NONE":
        if rest:
            raise Fault("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(test=("NONE",), **_frame(statement))
    flags = read_flags(statement.flags, _HEALTH_FLAGS)
    if kind.upper() != "CMD":
        raise Fault(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)', kind)
    command = _command(statement, tuple(rest))
    if not command.words:
        raise Fault("Missing command after HEALTHCHECK CMD")
    return Healthcheck(
        test=("CMD-SHELL" if command.shell else "CMD", *command.words),
        interval=interval("interval", flags.text("interval")),
        timeout=interval("timeout", flags.text("timeout")),
        start_period=interval("start-period", flags.text("start-period")),
        start_interval=interval("start-interval", flags.text("start-interval")),
        retries=_retries(flags),
        **_frame(statement),
    )


def _retries(flags: Flags) -> int:
    text = flags.text("retries")
    if not text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text) or not -(1 << 31) <= int(text) < 1 << 31:
        raise Fault(f'--retries is no number of 32 bits: "{text}"', text)
    if int(text) < 0:
        raise Fault(f"--retries cannot be negative ({int(text)})", text)
    return int(text)


def _onbuild(statement: Statement) -> Onbuild:
    if statement.trigger is None:
        raise Fault("ONBUILD requires at least one argument")
    _plain(statement)
    trigger = statement.trigger.keyword.upper()
    if trigger == "ONBUILD":
        raise Fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", statement.trigger.keyword)
    if trigger in ("MAINTAINER", "FROM"):
        raise Fault(f"{trigger} isn't allowed as an ONBUILD trigger", statement.trigger.keyword)
    expression = _ONBUILD.sub("", statement.original)
    for heredoc in statement.heredocs:
        expression += f"\n{heredoc.content}{heredoc.name}"
    return Onbuild(expression=expression, **_frame(statement))


_Reader: TypeAlias = Callable[[Statement], Instruction]


def _cmd(statement: Statement) -> Cmd:
    _plain(statement)
    return Cmd(command=_command(statement, statement.arguments), **_frame(statement))


def _entrypoint(statement: Statement) -> Entrypoint:
    _plain(statement)
    return Entrypoint(command=_command(statement, statement.arguments), **_frame(statement))


_READERS: dict[str, _Reader] = {
    "add": _add,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": lambda statement: Env(pairs=_pairs(statement), **_frame(statement)),
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": lambda statement: Label(pairs=_pairs(statement), **_frame(statement)),
    "maintainer": lambda statement: Maintainer(name=_only_argument(statement), **_frame(statement)),
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": lambda statement: StopSignal(signal=_only_argument(statement), **_frame(statement)),
    "user": lambda statement: User(user=_only_argument(statement), **_frame(statement)),
    "volume": _volume,
    "workdir": lambda statement: Workdir(path=_only_argument(statement), **_frame(statement)),
}

"""Which parts of which instruction take variables, and the instruction with them filled in.

ADD, COPY, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR do; a heredoc of ADD and COPY does unless its name is quoted,
and its quotes mean nothing. RUN, CMD, ENTRYPOINT, HEALTHCHECK, SHELL and ONBUILD leave `$` to the shell; RUN's mounts are the
exception, read by `mounts.read_mount`. FROM and ARG have scopes of their own (`arguments`, `stages`). Every part of one
instruction sees the variables as they were before it. Source: Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

from dataclasses import replace

from carrack.build.dockerfile.expansion import Expansion, Lookup
from carrack.build.dockerfile.heredoc import Heredoc
from carrack.build.dockerfile.instruction import Add, Copy, Env, Expose, Instruction, Label, StopSignal, User, Volume, Workdir
from carrack.build.dockerfile.syntax import Pair


def substituted(instruction: Instruction, lookup: Lookup, escape: str = "\\") -> Instruction:
    """The instruction with its variables filled in; one that takes none comes back as it is. Raises Fault."""
    expand = Expansion(lookup, escape)
    match instruction:
        case Env() | Label():
            return replace(instruction, pairs=_pairs(instruction.pairs, expand))
        case Add():
            return _paths(replace(instruction, checksum=expand.word(instruction.checksum)), expand)
        case Copy():
            return _paths(instruction, expand)
        case Expose():
            return replace(instruction, ports=tuple(word for port in instruction.ports for word in expand.words(port)))
        case StopSignal():
            return replace(instruction, signal=expand.word(instruction.signal))
        case User():
            return replace(instruction, user=expand.word(instruction.user))
        case Volume():
            return replace(instruction, paths=tuple(expand.word(path) for path in instruction.paths))
        case Workdir():
            return replace(instruction, path=expand.word(instruction.path))
        case _:
            return instruction


def _pairs(pairs: tuple[Pair, ...], expand: Expansion) -> tuple[Pair, ...]:
    return tuple(Pair(expand.word(pair.name), expand.word(pair.value), pair.legacy) for pair in pairs)


def _paths(instruction: Add | Copy, expand: Expansion) -> Add | Copy:
    return replace(
        instruction,
        chown=expand.word(instruction.chown),
        chmod=expand.word(instruction.chmod),
        sources=tuple(expand.word(source) for source in instruction.sources),
        destination=expand.word(instruction.destination),
        files=tuple(_content(file, expand.lookup) for file in instruction.files),
    )


def _content(file: Heredoc, lookup: Lookup) -> Heredoc:
    """The heredoc with its final text; a backslash escapes here whatever the escape directive says, as in BuildKit."""
    text = Expansion(lookup, ignore_quotes=True).word(file.text) if file.expand else file.text
    return replace(file, content=text, chomp=False)

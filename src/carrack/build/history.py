"""The lines of an image's history, in the form that BuildKit gives them and that tools read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from carrack.build.dockerfile.instruction import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
)  # fmt: skip
from carrack.oci.image_config import ExecutionConfig

COMMENT = "buildkit.dockerfile.v0"
"""What readers of histories know these lines by."""
_TOUCHES_FILES = " # buildkit"


def of_run(arguments: Sequence[str], build_arguments: Mapping[str, str]) -> str:
    """RUN, the build arguments that it sees in front of its command."""
    seen = [f"|{len(build_arguments)}", *(f"{name}={value}" for name, value in build_arguments.items())] if build_arguments else []
    return f"RUN {' '.join([*seen, *arguments])}{_TOUCHES_FILES}"


def of_copy(instruction: Copy | Add) -> str:
    """COPY or ADD, its variables filled in."""
    words = ["ADD" if isinstance(instruction, Add) else "COPY"]
    if instruction.chown:
        words.append(f"--chown={instruction.chown}")
    if instruction.chmod:
        words.append(f"--chmod={instruction.chmod}")
    if instruction.link:
        words.append("--link")
    if isinstance(instruction, Copy) and instruction.parents:
        words.append("--parents")
    words += [*(f"<<{file.name}" for file in instruction.files), *instruction.sources, instruction.destination]
    return " ".join(words) + _TOUCHES_FILES


def of_workdir(path: str) -> str:
    """WORKDIR, as the absolute path that it came to."""
    return f"WORKDIR {path}{_TOUCHES_FILES}"


def of_configuration(instruction: Instruction, config: ExecutionConfig, values: Mapping[str, str]) -> str:
    """An instruction that touches no file; `config` is what it left, `values` what variables are worth after it."""
    match instruction:
        case Env():
            return "ENV " + " ".join(f"{pair.name}={pair.value}" for pair in instruction.pairs)
        case Label():
            return "LABEL " + " ".join(f"{pair.name}={pair.value}" for pair in instruction.pairs)
        case Cmd():
            return f"CMD {_quoted(config.cmd or ())}"
        case Entrypoint():
            return f"ENTRYPOINT {_quoted(config.entrypoint or ())}"
        case Shell():
            return f"SHELL [{' '.join(instruction.words)}]"
        case User():
            return f"USER {instruction.user}"
        case Volume():
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case Expose():
            return f"EXPOSE [{' '.join(instruction.ports)}]"
        case StopSignal():
            return f"STOPSIGNAL {instruction.signal}"
        case Healthcheck():
            return f"HEALTHCHECK {_quoted(instruction.test)}"
        case Onbuild():
            return f"ONBUILD {instruction.expression}"
        case Arg():
            return "ARG " + " ".join(
                f"{each.name}={values[each.name]}" if each.name in values else each.name for each in instruction.arguments
            )
        case Maintainer():
            return f"MAINTAINER {instruction.name}"
        case _:
            return instruction.source


def shown_command(line: CommandLine) -> str:
    """A RUN's command on one line, for displays: a heredoc by its first line."""
    text = " ".join(line.words) if line.shell else _json(line.words)
    for heredoc in line.heredocs:
        first = next(iter(heredoc.content.splitlines()), "").strip()
        text += f" ({first[:40]}…)" if first else ""
    return text


def _quoted(words: Iterable[str]) -> str:
    return "[" + " ".join(_json_word(word) for word in words) + "]"


def _json(words: Iterable[str]) -> str:
    return "[" + ", ".join(_json_word(word) for word in words) + "]"


def _json_word(word: str) -> str:
    import json

    return json.dumps(word, ensure_ascii=False)

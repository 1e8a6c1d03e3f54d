"""What a Dockerfile offers to who builds it: its targets, and a target's arguments, secrets, ssh agents and cache mounts. Pure.

The documents are those of BuildKit's frontend methods (``--call=targets``, ``--call=outline``), which programs read. A comment
right above that begins with the name of a stage or argument describes it. Source: Docker's manual, "Invoke a frontend method".
"""

from __future__ import annotations

import posixpath
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from carrack.build.dockerfile.arguments import platform_arguments
from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.instruction import Arg, Argument, Instruction, Run
from carrack.build.dockerfile.mounts import read_mount
from carrack.build.dockerfile.stages import Dockerfile, Kind, Stage
from carrack.oci.platform import machine

VERSION = "1.0.0"
METHODS: Mapping[str, str] = {
    "outline": "List all parameters current build target supports",
    "targets": "List all targets current build supports",
    "lint": "Lint a Dockerfile",
    "subrequests.describe": "List available subrequest types",
}

Document = dict[str, Any]
_AUTOMATIC = frozenset(platform_arguments(machine(), machine()))
"""Arguments that nobody sets."""


def targets(file: Dockerfile, content: bytes) -> Document:
    """Every stage that has a name, and the last."""
    found = []
    for stage in file.stages:
        is_last = stage is file.stages[-1]
        if not stage.name and not is_last:
            continue
        described = {
            "name": stage.name,
            "default": is_last,
            "description": _description(stage.opening, stage.name),
            "base": stage.base.name if stage.base.kind is not Kind.SCRATCH else "scratch",
            "platform": str(stage.platform or ""),
        }
        found.append({**{key: value for key, value in described.items() if value}, "location": _location(stage.opening)})
    return {"targets": found, "sources": [b64encode(content).decode()]}


def outline(file: Dockerfile, target: Stage, content: bytes, given: Mapping[str, str]) -> Document:
    """All that can be set for a target, in the order of the file. `given` are the build arguments of this build."""
    arguments: dict[str, Document] = {}
    mounts: dict[tuple[str, str], Document] = {}
    globals_used: dict[str, None] = {}
    declared = {argument.name: (arg, argument) for arg in file.global_declarations for argument in arg.arguments}
    for stage in file.needed(target):
        globals_used |= dict.fromkeys(_used(stage.opening.image, stage.opening.platform, escape=file.syntax.escape))
        values: dict[str, str] = {}
        for instruction in (*stage.triggers, *stage.instructions):
            if isinstance(instruction, Arg):
                for argument in instruction.arguments:
                    if argument.name in _AUTOMATIC:
                        values[argument.name] = file.global_values.get(argument.name, "")
                        continue
                    if argument.default is None and argument.name in declared and not _description(instruction, argument.name):
                        globals_used[argument.name] = None
                        values[argument.name] = file.global_values.get(argument.name, "")
                        continue
                    value = _value(argument, values, given, file)
                    values[argument.name] = value
                    arguments.setdefault(argument.name, _argument(instruction, argument.name, value))
            elif isinstance(instruction, Run):
                for kind, name, document in _mounts(instruction, values, file.syntax.escape):
                    mounts.setdefault((kind, name), document)
    for name in globals_used:
        if name in declared:
            arguments[name] = _argument(declared[name][0], name, file.global_values.get(name, ""))
    found: Document = {
        "name": target.name,
        "description": _description(target.opening, target.name),
        "args": sorted(arguments.values(), key=_line),
        **{kind: [document for (of, _), document in mounts.items() if of == kind] for kind in ("secrets", "ssh", "cache")},
    }
    return {**{key: value for key, value in found.items() if value}, "sources": [b64encode(content).decode()]}


def methods() -> Document:
    """What may be asked (``--call=subrequests.describe``)."""
    return {
        "methods": [
            {"name": f"frontend.{name}", "version": VERSION, "type": "rpc", "description": text} for name, text in METHODS.items()
        ]
    }


def _argument(instruction: Instruction, name: str, value: str) -> Document:
    described = {"description": _description(instruction, name), "value": value}
    return {"name": name, **{key: text for key, text in described.items() if text}, "location": _location(instruction)}


def _value(argument: Argument, values: Mapping[str, str], given: Mapping[str, str], file: Dockerfile) -> str:
    if argument.name in given:
        return given[argument.name]
    if argument.default is None:
        return file.global_values.get(argument.name, "")
    return Expansion(lambda name: values.get(name, ""), file.syntax.escape).word(argument.default)


def _mounts(run: Run, values: Mapping[str, str], escape: str) -> Iterator[tuple[str, str, Document]]:
    expand = Expansion(lambda name: values.get(name, ""), escape)
    for text in run.mounts:
        mount = read_mount(text, expand.word)
        if mount.type == "secret":
            name = mount.id or posixpath.basename(mount.source or mount.target)
            yield "secrets", name, _required(run, name, required=mount.required)
        elif mount.type == "ssh":
            yield "ssh", mount.id or "default", _required(run, mount.id or "default", required=mount.required)
        elif mount.type == "cache":
            name = mount.id or posixpath.normpath(mount.target)
            yield "cache", name, {"ID": name, "Location": _location(run)}


def _required(run: Run, name: str, *, required: bool) -> Document:
    return {"name": name, **({"required": True} if required else {}), "location": _location(run)}


def _used(*texts: str, escape: str) -> Iterator[str]:
    """The names of the variables in some words."""
    found: dict[str, None] = {}

    def lookup(name: str) -> str:
        found[name] = None
        return "x"

    for text in texts:
        Expansion(lookup, escape).expand(text)
    yield from found


def _description(instruction: Instruction, name: str) -> str:
    """The comment right above, when it begins with the name."""
    for comment in reversed(instruction.comments):
        first, _, rest = comment.strip().partition(" ")
        if name and first.lower() == name.lower():
            return rest.strip()
    return ""


def _location(instruction: Instruction) -> Document:
    position = instruction.position
    return {"ranges": [{"start": {"line": position.start}, "end": {"line": position.end}}]}


def _line(document: Document) -> int:
    line: int = document["location"]["ranges"][0]["start"]["line"]
    return line

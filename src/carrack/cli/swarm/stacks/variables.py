"""Variables of a Compose file, filled in from the environment: shell's forms, and each text as the type its place has."""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure
from carrack.cli.values import go_quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_WHOLE = frozenset(
    ("replicas", "parallelism", "max_attempts", "max_replicas_per_node", "retries", "published", "target", "pids", "size")
)
_TRUTHS = frozenset(
    ("tty", "stdin_open", "read_only", "privileged", "init", "external", "internal", "attachable", "nocopy", "disable")
)


def fill(value: Any, path: str, key: str) -> Any:
    """The value with every variable in it filled in. `path` names its place for CommandFailure, `key` tells its type."""
    if isinstance(value, dict):
        return {name: fill(inner, f"{path}.{name}", str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, f"{path}.[]", "") for inner in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    try:
        filled = substitute(value, os.environ)
    except ValueError as error:
        raise CommandFailure(
            f'invalid interpolation format for {path}: "{error}"; you may need to escape any $ with another $'
        ) from None
    return _cast(filled, key, path)


def _cast(text: str, key: str, path: str) -> Any:
    """A variable's text as the type its place has."""
    if key in _TRUTHS and text.lower() in ("true", "y", "yes", "on", "false", "n", "no", "off"):
        return text.lower() in ("true", "y", "yes", "on")
    if key in _WHOLE:
        if not text.lstrip("-").isdigit():
            raise CommandFailure(
                f"error while interpolating {path}: failed to cast to expected type: "
                f"strconv.Atoi: parsing {go_quote(text)}: invalid syntax"
            )
        return int(text)
    if key == "max_failure_ratio":
        try:
            return float(text)
        except ValueError:
            return text
    return text


def substitute(template: str, variables: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, with `:-`, `-`, `:?` and `?` as a shell has them; `$$` is a dollar. Raises ValueError."""
    pieces: list[str] = []
    position = 0
    while (start := template.find("$", position)) != -1:
        pieces.append(template[position:start])
        following = template[start + 1 : start + 2]
        if following == "$":
            pieces.append("$")
            position = start + 2
        elif following == "{":
            end = template.find("}", start)
            if end == -1:
                raise ValueError(template)
            pieces.append(_braced(template[start + 2 : end], template, variables))
            position = end + 1
        else:
            end = start + 1
            while end < len(template) and (template[end].isascii() and (template[end].isalnum() or template[end] == "_")):
                end += 1
            name = template[start + 1 : end]
            if not name or name[0].isdigit():
                raise ValueError(template)
            pieces.append(variables.get(name, ""))
            position = end
    return "".join(pieces) + template[position:]


def _braced(text: str, template: str, variables: Mapping[str, str]) -> str:
    name = text
    operator = rest = ""
    for index, letter in enumerate(text):
        if letter in ":-?":
            name = text[:index]
            operator = text[index : index + 2] if letter == ":" else letter
            rest = text[index + len(operator) :]
            break
    valid = (
        bool(name) and not name[0].isdigit() and all(letter.isascii() and (letter.isalnum() or letter == "_") for letter in name)
    )
    if not valid or (operator and operator not in (":-", "-", ":?", "?")):
        raise ValueError(template)
    value = variables.get(name)
    missing = value is None or (operator.startswith(":") and value == "")
    if missing and operator.endswith("?"):
        raise ValueError(
            f"required variable {name} is missing a value: {rest}" if rest else f"required variable {name} is missing a value"
        )
    return rest if missing and operator.endswith("-") else value or ""

"""Compose files as text: read as Docker's command reads YAML, and written as it writes it.

The reader takes YAML 1.1 without its surprises, as Docker's does: `yes` and `80:80` are texts. It needs PyYAML, which the bare
Python of the command line does not have: such a command becomes itself again on the Python that has it.
"""

from __future__ import annotations

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def need_yaml() -> None:
    """Makes sure PyYAML can be imported: else this process starts again on the Python that has it. Raises CommandFailure."""
    from carrack.cli.programs import need

    need("yaml", "PyYAML")


def read_yaml(text: bytes) -> Any:
    """The document of a text. Raises CommandFailure."""
    need_yaml()
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        """Fewer implicit types, and no key twice."""

    def mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in lines:
                raise CommandFailure(
                    f'yaml: unmarshal errors:\n  line {line}: mapping key "{key}" already defined at line {lines[key]}'
                )
            lines[key] = line
        loader.flatten_mapping(node)
        return {
            loader.construct_object(key_node, deep=True): loader.construct_object(value_node, deep=True)
            for key_node, value_node in node.value
        }

    Loader.yaml_implicit_resolvers = {}
    Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0b[01_]+|0o?[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
    )
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(
            r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN))$"
        ),
        list("-+0123456789."),
    )
    Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader=Loader)  # a SafeLoader  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise CommandFailure(f"yaml: {place}{getattr(error, 'problem', None) or error}") from None


_PLAIN_SPECIAL = ("true", "false", "null", "yes", "no", "on", "off", "y", "n", "~", "")


def write_yaml(value: Any, indent: int = 0) -> str:
    """A document in Docker's layout: two blanks a level, lists set in under their key."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            name = _scalar(str(key))
            if isinstance(inner, (dict, list)) and inner:
                lines.append(f"{pad}{name}:\n{write_yaml(inner, indent + 2)}")
            elif isinstance(inner, str) and "\n" in inner:
                lines.append(f"{pad}{name}: {_block(inner, indent + 2)}")
            else:
                lines.append(f"{pad}{name}: {write_yaml(inner)}")
        return "".join(lines)
    if isinstance(value, list) and value:
        lines = []
        for inner in value:
            if isinstance(inner, (dict, list)) and inner:
                text = write_yaml(inner, indent + 2)
                lines.append(f"{pad}- {text[indent + 2 :]}")
            elif isinstance(inner, str) and "\n" in inner:
                lines.append(f"{pad}- {_block(inner, indent + 2)}")
            else:
                lines.append(f"{pad}- {write_yaml(inner)}")
        return "".join(lines)
    return f"{_scalar(value)}\n"


def _block(text: str, indent: int) -> str:
    """Several lines as a literal block."""
    mark = "|-" if not text.endswith("\n") else "|+" if text.endswith("\n\n") else "|"
    body = "".join([f"{' ' * indent}{line}\n" if line else "\n" for line in text.removesuffix("\n").split("\n")])
    return f"{mark}\n{body}"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return _text(value)


def _text(text: str) -> str:
    import json
    import re

    looks_like_number = (
        re.fullmatch(r"[-+]?((\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|0[xob][\da-fA-F_]+|\.(inf|nan))", text) is not None
    )
    looks_like_time = re.fullmatch(r"\d{4}-\d\d?-\d\d?.*|[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?", text) is not None
    if text.lower() in _PLAIN_SPECIAL or looks_like_number or looks_like_time:
        return f'"{text}"'
    opens = text[0] in "!&*{}[],#|>@`\"'%?:- \t" and not re.match(r"[-?:][^\s]", text)
    if opens or ": " in text or " #" in text or text.endswith((":", " ")):
        return "'" + text.replace("'", "''") + "'"
    if "\n" in text or not text.isprintable():
        return json.dumps(text, ensure_ascii=False)
    return text

"""Who owes a docstring: the rule of docs/contributing.md, held.

What a type cannot say is said once, where a reader looks first. So a method of a port is documented there, and the class that keeps
the port names it; a field of a document is documented by the standard whose name the class bears.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src/carrack"
MODULES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_bytes()) for path in SOURCE.rglob("*.py")}
Function = ast.FunctionDef | ast.AsyncFunctionDef
SHORT = 120


@dataclass
class Kind:
    """All classes of one name."""

    bases: set[str] = field(default_factory=set)
    documented: set[str] = field(default_factory=set)
    """Their methods that have a docstring."""


KINDS: dict[str, Kind] = defaultdict(Kind)

OWN_BODY = {"Protocol", "NamedTuple", "Enum", "IntEnum", "IntFlag", "Struct", "Generic", "TypedDict"}
"""Foreign bases that call nothing of a class: what it has is its own affair."""


def bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]


def last(name: str) -> str:
    return name.rpartition(".")[2]


def classes(body: list[ast.stmt]) -> Iterator[ast.ClassDef]:
    """Those of a module, also where only a type checker looks."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node
        elif isinstance(node, ast.If):
            yield from classes(node.body)


for _node in (node for tree in MODULES.values() for node in classes(tree.body)):
    _methods = [each for each in _node.body if isinstance(each, Function)]
    KINDS[_node.name].bases |= {last(base) for base in bases(_node)}
    KINDS[_node.name].documented |= {each.name for each in _methods if ast.get_docstring(each)}


def is_foreign(base: str) -> bool:
    return base.startswith("asyncio.") or (last(base) not in KINDS and last(base) not in OWN_BODY)


def promises(name: str, method: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a class of that name, or a base of it, documents the method."""
    if name not in KINDS or name in seen:
        return False
    kind = KINDS[name]
    return method in kind.documented or any(promises(base, method, seen | {name}) for base in kind.bases)


def named_by(node: ast.ClassDef) -> set[str]:
    """The classes that a class points to: its bases, and those in backticks in its docstring."""
    quoted = re.findall(r"`([\w.]+)`", ast.get_docstring(node) or "")
    return {last(name) for name in [*bases(node), *quoted]} - {node.name}


def is_short(function: Function) -> bool:
    """One statement that does what the name says, such as an accessor; no port, whose body is empty."""
    first, *more = function.body
    compound = isinstance(first, ast.If | ast.For | ast.While | ast.Try | ast.With | ast.Match)
    empty = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return not more and not compound and not empty and len(ast.unparse(first)) < SHORT


def is_handler(function: Function) -> bool:
    """Whether it answers a request and takes nothing else."""
    arguments = [each for each in [*function.args.args, *function.args.kwonlyargs] if each.arg != "self"]
    return len(arguments) == 1 and ast.unparse(arguments[0].annotation or arguments[0]) == "Request"


def owes(function: Function, owner: ast.ClassDef | None) -> bool:
    if function.name.startswith("_") or ast.get_docstring(function) or is_short(function) or is_handler(function):
        return False
    if any(ast.unparse(decorator) == "overload" for decorator in function.decorator_list):
        return False
    if owner is None:
        return True
    if any(is_foreign(base) for base in bases(owner)):
        return False
    return not any(promises(name, function.name) for name in named_by(owner))


def is_document(node: ast.ClassDef) -> bool:
    """Whether a class is a JSON document of the standard that its module's docstring names."""
    return any(base in ("_Document", "_Sparse") for base in bases(node))


def silent(module: str, body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[str]:
    before = f"{owner.name}." if owner else ""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            namesake = node.name.lower() == Path(module).stem.replace("_", "")
            if not ast.get_docstring(node) and not is_document(node) and not namesake:
                yield before + node.name
            yield from silent(module, node.body, node)
        elif isinstance(node, Function) and owes(node, owner):
            yield before + node.name


def test_what_is_public_says_what_its_types_cannot() -> None:
    found = {name: list(silent(name, tree.body)) for name, tree in MODULES.items()}
    assert {name: owing for name, owing in found.items() if owing} == {}


def test_every_module_begins_with_what_it_holds() -> None:
    assert [name for name, tree in MODULES.items() if tree.body and not ast.get_docstring(tree)] == []

"""What no file may forget: the structure that docs/architecture.md describes, as far as import-linter does not hold it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from carrack import __version__

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PAGE = (ROOT / "docs/architecture.md").read_text()


def modules() -> dict[str, Path]:
    """Every module of Carrack by its full name."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(node: ast.AST) -> Iterator[str]:
    """What is imported when the code runs, at once or by and by; not what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (name.name for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{name.name}" for name in child.names)
        elif not is_for_types(child):
            yield from imported(child)


def test_no_module_is_imported_by_what_it_imports() -> None:
    known = modules()
    imports: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = (target if target in known else target.rpartition(".")[0] for target in imported(ast.parse(path.read_bytes())))
        imports[name] = {target for target in targets if target in known and target != name}
    while imports:
        free = {name for name, needs in imports.items() if not needs}
        if not free:  # what is left is a circle, and who imports it
            used = {target for needs in imports.values() for target in needs}
            assert not imports, f"circles of imports among {sorted(used & imports.keys())}"
        imports = {name: needs - free for name, needs in imports.items() if name not in free}


def test_every_law_has_a_test_that_attempts_its_breach() -> None:
    laws = re.findall(r"^(\d+)\. ", PAGE.partition("### Laws")[2].partition("\n## ")[0], re.MULTILINE)
    marked = {
        number for path in (ROOT / "tests").rglob("test_*.py") for number in re.findall(r"mark\.law\((\d+)\)", path.read_text())
    }
    assert laws == [str(number) for number in range(1, len(laws) + 1)]
    assert marked == set(laws)


def test_every_folder_stands_in_the_architecture() -> None:
    rows = re.findall(r"^\| [\d+–]+ \| (.*?) \|", PAGE.partition("## Folders and floors")[2], re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`([a-z_]+)(?:/|\.py)`", row)}
    there = {path.stem for path in (SOURCE / "carrack").iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"}
    assert there - described == {"__init__"}
    assert described - there == set()


def test_the_version_is_one() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


def test_every_page_can_be_found_from_the_readme() -> None:
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        links = re.findall(r"\]\(([^):#\s]+)", page.read_text())
        targets = [(page.parent / link).resolve() for link in links]
        pages = [each for target in targets for each in (target.glob("*.md") if target.is_dir() else [target])]
        waiting += [each for each in pages if each.suffix == ".md" and each.exists()]
    assert set((ROOT / "docs").rglob("*.md")) - found == set()

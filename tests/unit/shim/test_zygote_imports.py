"""What a zygote holds: the committed list of its modules, and that it can get no other (law 1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from carrack.shim import zygote_process

LIST = Path(__file__).parent / "zygote_modules.txt"
PATH = zygote_process._import_path()

IMPORT = f"import sys; sys.path[0:0] = {PATH!r}; sys.modules['typing_extensions'] = None; import carrack.shim.zygote as zygote\n"


def run(program: str) -> list[str]:
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", IMPORT + program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return set(run("zygote.everything.warm_up(); print(*(each for each, module in sys.modules.items() if module))"))


def outside(names: set[str]) -> set[str]:
    """Our own folders are ours to change; what they bring in from elsewhere is what the list is about."""
    return {name for name in names if not name.startswith("carrack")}


def test_the_modules_from_elsewhere_are_those_of_the_committed_list(loaded: set[str]) -> None:
    """A new one costs every container memory: add it to the list only when it is worth that."""
    assert outside(loaded) <= set(LIST.read_text().split())


def test_the_list_holds_no_module_that_is_gone(loaded: set[str]) -> None:
    assert set(LIST.read_text().split()) <= outside(loaded)


@pytest.mark.parametrize(
    "heavy", ["asyncio", "subprocess", "threading", "logging", "ssl", "sqlite3", "json", "tempfile", "traceback"]
)
def test_no_heavy_module_is_loaded(loaded: set[str], heavy: str) -> None:
    assert heavy not in loaded


def test_floors_above_are_not_loaded(loaded: set[str]) -> None:
    assert not [name for name in loaded if name.startswith(("carrack.engine", "carrack.api", "carrack.daemon", "carrack.http"))]


def test_after_the_door_is_shut_nothing_can_be_imported() -> None:
    program = """
zygote.forbid_imports()
for name in ("json", "subprocess", "encodings.cp437"):
    try:
        __import__(name)
    except ImportError:
        print("refused")
try:
    b"x".decode("cp437")
except LookupError:
    print("unknown")
"""
    assert run(program) == ["refused"] * 3 + ["unknown"]


def test_what_was_loaded_goes_on_working_after_the_door_is_shut() -> None:
    program = """
zygote.everything.warm_up()
zygote.forbid_imports()
from carrack.archive import compression
for each in compression.Compression:
    if each is not compression.Compression.NONE:
        compression._member(each)
print("x".encode("ascii").decode("latin-1"))
"""
    assert run(program) == ["x"]

"""What starting costs: the modules a short command loads are listed, and nothing joins the list unseen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrack.cli.launcher import launcher_text
from tests.rig.recorder import Recorder

ROOT = Path(__file__).resolve().parents[3]
BUDGET = Path(__file__).with_name("start_up_modules.txt")

PROGRAM = """
import sys
before = set(sys.modules)
sys.path.insert(0, {source!r})
sys.argv = ["carrack", *{words!r}]
from carrack.cli.__main__ import main
code = main()
print(*sorted(set(sys.modules) - before), sep="\\n", file=sys.stderr)
sys.exit(code)
"""


def modules_of(words: list[str], recorder: Recorder) -> list[str]:
    program = PROGRAM.format(source=str(ROOT / "src"), words=words)
    python = "/usr/bin/python3" if sys.version_info[:2] == (3, 11) and os.path.exists("/usr/bin/python3") else sys.executable
    done = subprocess.run(
        [python, "-ISc", program], env=recorder.environment(), capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the standard library of another Python loads other modules")
def test_ps_loads_these_modules_and_no_other() -> None:
    with Recorder(answers={"GET /containers/json": []}) as recorder:
        assert modules_of(["ps"], recorder) == BUDGET.read_text().split()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_stream_that_was_closed_for_us_is_not_taken_by_the_connection(closed: str) -> None:
    with Recorder(answers={"GET /containers/json": []}) as recorder:
        script = f"exec {ROOT}/.venv/bin/carrack ps -q {closed}"
        done = subprocess.run(["sh", "-c", script], env=recorder.environment(), capture_output=True, check=False, timeout=20)
        assert (done.returncode, [request.path for request in recorder.take()]) == (0, ["/containers/json"])


HEAVY = set("re json socket ssl typing enum dataclasses collections asyncio signal subprocess tarfile msgspec".split())
SHORT = ("ps", "images", "network ls", "volume ls", "stop a", "logs a", "rm a", "run -d x", "inspect a", "info", "version")


@pytest.mark.parametrize("words", [line.split() for line in SHORT], ids=SHORT)
def test_a_short_command_loads_nothing_heavy(words: list[str]) -> None:
    container = {"Id": "a", "Config": {"Tty": False}}
    answers = {
        "GET /containers/json": [],
        "GET /images/json": [],
        "GET /networks": [],
        "GET /volumes": {"Volumes": []},
        "POST /containers/a/stop": {},
        "DELETE /containers/a": {},
        "GET /containers/a/json": container,
        "GET /containers/a/logs": "",
        "POST /containers/create": {"Id": "a", "Warnings": []},
        "POST /containers/a/start": {},
        "GET /info": {"ID": "a"},
        "GET /version": {"Version": "1", "Components": [{"Name": "Engine", "Version": "1", "Details": {}}]},
    }
    with Recorder(answers=answers) as recorder:
        assert HEAVY & set(modules_of(words, recorder)) == set()


def test_client_and_command_line_import_where_there_is_no_linux() -> None:
    """Everything that is in the tree imports without the modules only Linux has."""
    names = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for folder in ("client", "cli")
        for path in sorted((ROOT / "src/carrack" / folder).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    program = (
        "import importlib, os, sys\n"
        "for name in ('epoll', ): delattr(__import__('select'), name)\n"
        "for name in ('memfd_create', 'pidfd_open', 'setns', 'unshare', 'sched_getaffinity'):\n"
        "    if hasattr(os, name): delattr(os, name)\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_the_launcher_starts_python_bare() -> None:
    assert launcher_text("/place/src", "/usr/bin/python3").splitlines()[0] == "#!/usr/bin/python3 -IS"

"""Man pages and the command reference: made from the command table, well-formed, and as the table is now."""

import re
import shutil
from pathlib import Path

from carrack.cli.catalogue import load
from carrack.cli.reference import all_paths, man_pages, reference, short_name
from tests.rig.commands import run
from tests.rig.engine import carrack_program


def test_every_command_and_flag_is_in_the_reference() -> None:
    sections = dict(re.findall(r"^### carrack ([^\n]+)\n(.*?)(?=^##|\Z)", reference(), re.MULTILINE | re.DOTALL))
    for path in all_paths():
        shown = {flag.name for flag in load(path).flags.values() if not flag.hidden}
        assert set(re.findall(r"`--([\w-]+)`", sections[short_name(path)])) >= shown, path


def test_every_command_has_a_man_page_under_its_short_and_its_long_name() -> None:
    pages = man_pages(date="2026-01-02")
    for path in all_paths():
        assert f"carrack-{path.replace(' ', '-')}.1" in pages
        assert pages[f"carrack-{short_name(path).replace(' ', '-')}.1"].startswith(".TH")


def test_the_pages_are_well_formed(tmp_path: Path) -> None:
    mandoc = shutil.which("mandoc")
    assert mandoc is not None, "scripts/test installs it"
    run([carrack_program(), "system", "manpages", str(tmp_path)]).ok()
    pages = sorted(tmp_path.glob("*.1"))
    assert len(pages) > 150
    checked = run([mandoc, "-T", "lint", "-W", "warning", *map(str, pages)])
    assert checked.stdout + checked.stderr == ""


def test_a_folder_that_cannot_be_written_is_named() -> None:
    done = run([carrack_program(), "system", "manpages", "/proc/nowhere"])
    assert (done.code, done.stderr) == (1, "cannot write to /proc/nowhere: no such file or directory\n")

"""`scripts/quickstart` as a newcomer runs it: from the clone to the page, again, and clean."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.commands import Result, run
from tests.rig.engine import ROOT
from tests.rig.leaks import observe, settled

QUICKSTART = str(ROOT / "scripts/quickstart")
SOCKET = Path("/run/carrack-quickstart/carrack.sock")


@pytest.fixture(scope="module")
def before() -> set[str]:
    """What was on the machine before."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    if SOCKET.exists():
        pytest.skip("a quickstart is in use on this machine")
    return observe()


@pytest.fixture(scope="module")
def first_run(before: set[str]) -> Iterator[Result]:
    """The first run; whatever happens, its daemon is gone after the module."""
    assert before
    yield run([QUICKSTART], timeout_seconds=300)
    run([QUICKSTART, "--clean"], timeout_seconds=60)


@pytest.mark.timeout(330)
def test_it_serves_a_page_from_a_container(first_run: Result) -> None:
    assert "<h1>Hello from inside a Carrack container</h1>" in first_run.ok()


def test_it_shows_ps_logs_exec_stop_and_rm(first_run: Result) -> None:
    for command in ("run -d", "ps", "logs web", "exec web ps", "stop -t 1 web", "rm web"):
        assert f"$ carrack {command}" in first_run.stdout


def test_its_last_words_say_what_runs_and_how_to_stop_it(first_run: Result) -> None:
    closing = first_run.stdout.split("It works.")[1]
    pid = Path("/run/carrack-quickstart/carrackd.pid").read_text().strip()
    assert f'carrackd (pid {pid}, instance "quickstart") is still running' in closing
    assert "scripts/quickstart --clean" in closing


def test_it_can_be_run_again(first_run: Result) -> None:
    assert first_run.code == 0
    again = run([QUICKSTART], timeout_seconds=120)
    assert "carrackd runs already" in again.ok()
    assert "image busybox is there already" in again.stdout


@pytest.mark.timeout(120)
def test_clean_leaves_nothing(first_run: Result, before: set[str]) -> None:
    assert first_run.code == 0
    run([QUICKSTART, "--clean"], timeout_seconds=60).ok()
    assert not (ROOT / ".quickstart").exists()
    assert not SOCKET.parent.exists()
    assert not settled(before, look=lambda: {item for item in observe() if "quickstart" in item})


def test_clean_is_no_error_when_there_is_nothing(before: set[str]) -> None:
    assert before
    run([QUICKSTART, "--clean"], timeout_seconds=60).ok()


def test_an_unknown_argument_is_refused_in_one_sentence() -> None:
    refused = run([QUICKSTART, "--what"])
    assert refused.code == 1
    assert refused.stderr == "quickstart: unknown argument --what (try --help)\n"

"""carrackd's own log in systemd's journal: each line has its priority, and only there."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrack.daemon.log_lines import JournalLines, formatter


def record(level: int, text: str, name: str = "carrack.daemon") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, text, (), None)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_each_level_has_syslogs_number(level: int, priority: int) -> None:
    assert JournalLines().format(record(level, "said")) == f"<{priority}>said"


def test_every_line_of_a_traceback_is_an_error() -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        made = record(logging.ERROR, "failed", "carrack.lifecycle")
        made.exc_info = sys.exc_info()
    lines = JournalLines().format(made).split("\n")
    assert lines[0] == "<3>lifecycle: failed"
    assert len(lines) > 4
    assert all(line.startswith("<3>") for line in lines)


def test_a_stream_that_is_not_the_journals_gets_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert formatter("text").format(record(logging.INFO, "said")).endswith('level=INFO msg="said" logger=carrack.daemon')
    assert json.loads(formatter("json").format(record(logging.INFO, "said")))["msg"] == "said"


def test_a_refusal_to_start_is_an_error_in_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as journal:
        found = os.fstat(journal.fileno())
        env = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run([sys.executable, "-m", "carrack.daemon", "--no-such-flag"], stderr=journal, env=env, check=False)
    assert (tmp_path / "journal").read_text().startswith("<3>carrackd: ")

"""How carrackd's own log is written: logfmt as dockerd's, JSON, or lines for systemd's journal with their level in front."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Of syslog(3), as sd-daemon(3) wants them in front of a line."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR, "fatal": logging.CRITICAL}


def level_of(word: str, *, debug: bool) -> int:
    """Of `log-level` and `debug`, the level of the log."""
    return logging.DEBUG if debug else _LEVELS[word]


def formatter(kind: str) -> logging.Formatter:
    """For `log-format` text or json; text that goes to the journal leaves the time to it and tells the level its way."""
    if kind == "json":
        return JsonLines()
    if goes_to_the_journal():
        return JournalLines()
    return logging.Formatter('time="%(asctime)s" level=%(levelname)s msg="%(message)s" logger=%(name)s')


def goes_to_the_journal() -> bool:
    """Whether standard error is the stream that systemd gave this service (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def complain(text: str) -> None:
    """The sentence with which carrackd refuses to run."""
    sys.stderr.write(f"{'<3>' if goes_to_the_journal() else ''}carrackd: {text}\n")


class JournalLines(logging.Formatter):
    """Each line with its priority, those of a traceback too, so that `journalctl -p err` finds it whole."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 6)
        part = record.name.removeprefix("carrack.")
        text = super().format(record)
        lines = (text if part == "daemon" else f"{part}: {text}").split("\n")
        return "\n".join(f"<{priority}>{line}" for line in lines)


class JsonLines(logging.Formatter):
    """One object per line, as dockerd's `log-format: json` has them."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "logger": record.name,
        }
        if record.exc_info:
            document["error"] = self.formatException(record.exc_info)
        return json.dumps(document)

"""What carrack-oci says about its work: logrus's lines, on stderr or in the file that an engine named."""

from __future__ import annotations

import json
import sys

from carrack.runtime.command.store import now
from carrack.runtime.failure import words

_path = ""
_as_json = False
_debug = False


def configure(path: str, form: str, debug: bool) -> None:
    """Where lines go (empty: stderr), ``text`` or ``json``, and whether debug lines are written at all."""
    global _path, _as_json, _debug
    _path, _as_json, _debug = path, form == "json", debug


def debugging() -> bool:
    return _debug


def warn(message: str) -> None:
    log("warning", message)


def log(level: str, message: str) -> None:
    """Write one line of that level."""
    if level == "debug" and not _debug:
        return
    if _path:
        _append(level, message)
    else:
        sys.stderr.write(_text(level, message))


def fail(message: str) -> None:
    """Tell an error, on stderr also when a log file has it."""
    log("error", message)
    if _path:
        sys.stderr.write(message + "\n")


def _text(level: str, message: str) -> str:
    return f"time={json.dumps(now())} level={level} msg={json.dumps(message, ensure_ascii=False)}\n"


def _append(level: str, message: str) -> None:
    line = json.dumps({"level": level, "msg": message, "time": now()}) + "\n" if _as_json else _text(level, message)
    try:
        with open(_path, "a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        sys.stderr.write(f"{_path}: {words(error)}\n")

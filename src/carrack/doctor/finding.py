"""What an examination finds."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

TRIAL_SECONDS = 10.0


class Verdict(StrEnum):
    """How bad it is."""

    GOOD = "ok"
    LACKING = "warning"
    """Containers run, but something is not there for them."""
    BAD = "failure"
    """No container runs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its name, how it is, and what to do when it is not as it should be."""

    subject: str
    verdict: Verdict
    fact: str
    advice: str = ""


def tried(trial: Callable[[], object]) -> str:
    """Does something in a child of this process, which takes what it changes with it; what went wrong, or an empty text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            trial()
            os.write(writing, b"+")
        except BaseException as error:  # whatever it is, the parent is told  # noqa: BLE001
            os.write(writing, (str(error) or type(error).__name__).encode()[:4000])
        os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], TRIAL_SECONDS)
        answer = os.read(reading, 4096).decode("utf-8", "replace") if ready else f"no answer within {TRIAL_SECONDS:g} seconds"
        if not ready:
            os.kill(child, 9)
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    return "" if answer == "+" else answer or "the trial ended without a word"

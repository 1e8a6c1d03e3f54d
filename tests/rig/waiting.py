"""Waiting for a fact that sends no event (a process gone, a link away). Everything that can be waited for properly (a line of
output, an exit, an event of the API) is; this polls what cannot, and says what it waited for when it gives up."""

import os
import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE_SECONDS = 0.01
_PATIENCE = float(os.environ.get("CARRACK_TEST_PATIENCE", "1"))
"""How many times as long as usual to wait: in an emulated machine everything takes its time."""


def until(probe: Callable[[], T | None], what: str, *, timeout_seconds: float = 30.0) -> T:
    """Ask again and again until the probe answers something true; return that answer."""
    timeout_seconds *= _PATIENCE
    deadline = time.monotonic() + timeout_seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s in vain for {what}")
        select.select([], [], [], _PAUSE_SECONDS)

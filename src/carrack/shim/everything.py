"""Every module that a shim, an exec, an init or a worker can ever need, imported before the zygote's first fork (law 1)."""

from __future__ import annotations

import encodings.ascii
import encodings.latin_1
import encodings.utf_8  # noqa: F401

import carrack.shim.errand  # noqa: F401
from carrack.archive import compression
from carrack.runtime import create


def warm_up() -> None:
    """What is computed at its first use and shared by every child afterwards."""
    compression.preload()
    create.prepare()

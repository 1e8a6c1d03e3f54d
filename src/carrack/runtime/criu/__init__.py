"""Checkpoints by CRIU: a program of its own that writes running processes to disk, and makes processes of what it wrote.

It is spoken to as its manual says for programs that want it as a child: ``criu swrk FD``, protocol buffers over a socket
(`rpc.py`). `dump.py` writes a container out, `restore.py` lets one go on: a creation of another kind, to the shim's maker.
"""

from __future__ import annotations

import os

PROGRAM = "criu"
MISSING = "checkpoints need CRIU, which is not installed on this host (no `criu` in PATH)"
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find() -> str:
    """The path of criu; empty when this host has none."""
    for directory in f"{os.environ.get('PATH', '')}:{SEARCH}".split(":"):
        path = f"{directory}/{PROGRAM}"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""

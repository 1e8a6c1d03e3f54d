"""CRIU, which Debian 12 has not: that of Debian 14 with the libraries it wants, unpacked into a folder of its own. (Debian 13 has
4.1.1, which knows no kernel after 6.15: it cannot write out a TCP socket there.)

Made once per machine from whatever archive it installs from, and kept below /var/cache/carrack-tests. A daemon finds it by PATH.
"""

import os
from functools import cache
from pathlib import Path

from tests.rig.later_debian import SUITE, unpack_packages
from tests.rig.once import made_once

_VERSION = 1
_WRAPPER = """#!/bin/sh
exec {folder}/usr/lib64/ld-linux-x86-64.so.2 --library-path {folder}/usr/lib/x86_64-linux-gnu {folder}/usr/sbin/criu "$@"
"""


def criu_path() -> str:
    """A PATH with criu in front."""
    return f"{criu_folder()}/bin:{os.environ['PATH']}"


@cache
def criu_folder() -> Path:
    """Where criu is unpacked; it works at this place only. Some seconds the first time."""
    return made_once(f"criu-{SUITE}-{_VERSION}", _make)


def _make(folder: Path) -> None:
    def wrap(making: Path) -> None:
        wrapper = making / "bin/criu"
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(_WRAPPER.format(folder=folder))
        wrapper.chmod(0o755)

    unpack_packages(folder, "criu", with_libraries=True, finish=wrap)

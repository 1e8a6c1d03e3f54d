"""Which program makes a container: ours, or another OCI runtime that the administrator names or this host has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from carrack.errors import InvalidParameter

OURS = "carrack"
_OURS_BY_DOCKERS_NAMES = ("io.containerd.runc.v2", "io.containerd.runtime.v1.linux")
"""What Docker calls its own default, in requests copied from its `inspect`."""
_KNOWN = ("crun", "runc")
_MORE_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Program:
    """Another runtime: an absolute path, and words to put before every command."""

    path: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtimes:
    """The runtimes of a daemon by name, but for our own, and which of all is the default."""

    others: Mapping[str, Program] = field(default_factory=dict)
    default: str = OURS

    def check(self, name: str) -> None:
        """Raises InvalidParameter in Docker's words for a name that means nothing here."""
        self.find(name)

    def find(self, name: str) -> Program | None:
        """The program of a name; None: ours. Raises InvalidParameter."""
        if name in ("", OURS, *_OURS_BY_DOCKERS_NAMES):
            return None if name or self.default == OURS else self.others[self.default]
        try:
            return self.others[name]
        except KeyError:
            raise InvalidParameter(f"unknown or invalid runtime name: {name}") from None


def here(named: Mapping[str, Program], default: str) -> Runtimes:
    """The named ones, and crun and runc where they are installed. Raises InvalidParameter."""
    if OURS in named:
        raise InvalidParameter(f"runtime name '{OURS}' is reserved")
    search = f"{os.environ.get('PATH', '')}:{_MORE_PATHS}"
    found: dict[str, Program] = {}
    for name in _KNOWN:
        path = shutil.which(name, path=search)
        if path:
            found[name] = Program(path)
    for name, program in named.items():
        path = shutil.which(program.path, path=search)
        if path is None:
            raise InvalidParameter(f"runtime {name}: {program.path} is not there, or cannot be executed")
        found[name] = Program(os.path.abspath(path), program.arguments)
    runtimes = Runtimes(found, default or OURS)
    if runtimes.default != OURS and runtimes.default not in found:
        raise InvalidParameter(f"specified default runtime '{runtimes.default}' does not exist")
    return runtimes

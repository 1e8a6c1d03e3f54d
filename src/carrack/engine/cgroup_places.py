"""Where a container's cgroup is: below a parent that is a path, or in a slice of systemd's.

    PARENT/<id>                                     a path, as dockerd's driver `cgroupfs` has it
    /a.slice/a-b.slice/carrack-<id>.scope/container  `a-b.slice` where systemd rules: a scope of its own, delegated to us

What systemd does not know of in its slices it may change at any reload: it switches controllers off that no unit of its own asks
for. A delegated scope it leaves alone, all but the scope's own limits; so the container is one level below, as with crun.
"""

from __future__ import annotations

import re
from typing import Protocol

from carrack.errors import InvalidParameter

SUFFIX = ".slice"
INSIDE = "container"
"""The container's own cgroup in its scope."""
_STEM = re.compile(r"[A-Za-z0-9:_.\\@]+(-[A-Za-z0-9:_.\\@]+)*")


class Hold(Protocol):
    """A scope that stands though no container is in it yet."""

    def release(self) -> None:
        """From now on it ends with what is in it. Idempotent."""


class Slices(Protocol):
    """systemd, as a start needs it. Blocking."""

    def hold(self, slice_name: str, scope: str, directory: str) -> Hold:
        """Have a delegated scope in that slice, to be found at `directory` below the hierarchy's root. Raises SystemFailure."""


def is_slice(parent: str) -> bool:
    """Whether a parent is named as a slice, not as a path."""
    return parent.endswith(SUFFIX) and "/" not in parent


def path_of_slice(name: str) -> str:
    """``a-b.slice`` → ``/a.slice/a-b.slice`` (systemd.slice(5)). Raises InvalidParameter."""
    stem = name.removesuffix(SUFFIX)
    if stem == "-":
        return ""
    if _STEM.fullmatch(stem) is None:
        raise InvalidParameter(f"invalid slice name: {name}")
    parts = stem.split("-")
    return "".join(f"/{'-'.join(parts[:count])}{SUFFIX}" for count in range(1, len(parts) + 1))


def scope_of(container_id: str) -> str:
    return f"carrack-{container_id}.scope"


def place(container_id: str, parent: str, *, slices: bool) -> str:
    """The path of a container's cgroup below every hierarchy's root. `slices`: whether systemd is there to make them."""
    if slices and is_slice(parent):
        return f"{path_of_slice(parent)}/{scope_of(container_id)}/{INSIDE}"
    return f"/{parent.strip('/')}/{container_id}"


def check(parent: str, *, slices: bool, slices_only: bool) -> None:
    """Raises InvalidParameter for a parent that cannot be one, in Docker's words."""
    if slices_only and not (is_slice(parent) and len(parent) > len(SUFFIX)):
        raise InvalidParameter('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"')
    if ".." in parent.split("/") or "\0" in parent:
        raise InvalidParameter(f"invalid cgroup parent: {parent!r}")
    if slices and is_slice(parent):
        path_of_slice(parent)

"""Scopes in slices of systemd's, for containers with `--cgroup-parent xxx.slice`: implements `engine.cgroup_places.Slices`.

A scope begins with a process and ends with its last. Until a container's init is there a holder is: a program that waits for the
end of its input, whose other end is ours, so that it goes with this daemon whatever happens.
"""

from __future__ import annotations

import os
import subprocess
import time

from carrack.daemon import systemd
from carrack.daemon.systemd_bus import SystemdBus
from carrack.errors import Conflict, SystemFailure
from carrack.runtime import cgroups

_SECONDS = 20.0
_PAUSE_SECONDS = 0.005
_BESIDE = "start"
"""Where the holder is: a cgroup with processes in itself cannot hand controllers down (cgroup-v2.rst, no internal processes)."""


class SystemdSlices:
    """`Slices` by systemd's own socket."""

    def hold(self, slice_name: str, scope: str, directory: str) -> SystemdHold:
        try:
            holder = subprocess.Popen(
                ["cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise SystemFailure(f"cannot begin {scope}: cat: {error.strerror}") from error
        hold = SystemdHold(holder)
        try:
            self._start(scope, holder.pid, slice_name)
            leaf = f"{cgroups.detect().unified}{directory}/{_BESIDE}"
            os.makedirs(leaf, exist_ok=True)
            with open(f"{leaf}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(holder.pid))
        except OSError as error:
            hold.release()
            raise SystemFailure(f"cannot begin {scope} in {slice_name}: {error.filename or ''}: {error.strerror}") from error
        except BaseException:
            hold.release()
            raise
        return hold

    def _start(self, scope: str, pid: int, slice_name: str) -> None:
        """Begin the scope and wait until the process is in it; one of the same name may be just about to go."""
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                with SystemdBus() as bus:
                    bus.start_scope(scope, pid, "A container of Carrack", before="carrackd.service", slice_name=slice_name)
                break
            except Conflict:
                if time.monotonic() > deadline:
                    raise SystemFailure(f"systemd has a {scope} already") from None
                time.sleep(_PAUSE_SECONDS)
        while f"/{scope}" not in _groups(pid):
            if time.monotonic() > deadline:
                raise SystemFailure(f"systemd did not put process {pid} into {scope}")
            time.sleep(_PAUSE_SECONDS)


class SystemdHold:
    """`Hold` by a process of ours, which is the first in its scope."""

    def __init__(self, holder: subprocess.Popen[bytes]) -> None:
        self._holder: subprocess.Popen[bytes] | None = holder

    def release(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait()


def here(driver: str) -> SystemdSlices | None:
    """Whether slices are systemd's here: on version 2, where it runs, unless the driver is `cgroupfs`. Raises SystemFailure."""
    rules = systemd.is_running() and cgroups.detect().version == 2
    if driver == "systemd" and not rules:
        raise SystemFailure("native.cgroupdriver=systemd needs a machine that systemd has started, with cgroup version 2")
    return SystemdSlices() if rules and driver != "cgroupfs" else None


def _groups(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()

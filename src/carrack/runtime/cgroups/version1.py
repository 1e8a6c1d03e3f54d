"""A cgroup of version 1: one directory in each hierarchy. See Documentation/admin-guide/cgroup-v1.

On a hybrid machine there is one more in the version 2 hierarchy, without controllers: processes are born into it, which costs
nothing, and its `cgroup.kill` ends them all at one stroke, faster than any of them forks.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import TYPE_CHECKING

from carrack.runtime.cgroups.directories import (
    kill_each,
    make_directory,
    pids_below,
    read_file,
    remove_tree,
    write_file,
)
from carrack.runtime.cgroups.layout import Layout
from carrack.runtime.cgroups.limits import Write, allowed_devices, devices_of, writes_of
from carrack.runtime.cgroups.statistics import Statistics, statistics_v1

if TYPE_CHECKING:
    from carrack.oci.runtime_spec import Resources

_FREEZE_ATTEMPTS = 1000
_NO_SWAP = "no swap limit"


class CgroupV1:
    """Implements `Cgroup`."""

    joined_by_birth = False

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._layout = layout
        self._directories = tuple(hierarchy.mountpoint + path for hierarchy in layout.hierarchies)
        self._unified = layout.unified + path if layout.unified else ""

    def directory(self, controller: str) -> str:
        mountpoint = self._layout.mountpoint(controller)
        return mountpoint + self.path if mountpoint else ""

    def create(self) -> None:
        """Make the directories. A cpuset is born empty: it takes its parent's processors and memory nodes at once."""
        for hierarchy, directory in zip(self._layout.hierarchies, self._directories, strict=True):
            make_directory(directory)
            if "cpuset" in hierarchy.controllers:
                _inherit_cpuset(directory, hierarchy.mountpoint)

    def create_birthplace(self) -> None:
        if self._unified:
            try:
                make_directory(self._unified)
            except OSError:
                self._unified = ""  # read-only or full: version 1 does without

    def apply(self, writes: tuple[Write, ...]) -> list[str]:
        warnings: list[str] = []
        postponed: Write | None = None
        for write in writes:
            directory = self.directory(write.controller)
            if not directory:
                warnings.append(_unsupported(write))
                continue
            try:
                _write_first(directory, write.file, write.value)
            except FileNotFoundError:
                warnings.append(_unsupported(write))
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP and write.warning:
                    warnings.append(write.warning)  # the device's scheduler knows no weights
                    continue
                if error.errno != errno.EINVAL or write.file != "cpu.cfs_period_us" or _later(writes, "cpu.cfs_quota_us") is None:
                    raise
                postponed = write  # below a parent's limit a shorter period is good only with its smaller quota
            else:
                if postponed is not None and write.file == "cpu.cfs_quota_us":
                    _write_first(directory, postponed.file, postponed.value)
        return warnings

    def update(self, resources: Resources) -> list[str]:
        writes = writes_of(resources, 1)
        if resources.memory and resources.memory.limit == -1 and not resources.memory.swap:
            # no limit of memory means none of memory and swap either, which must not be the smaller
            writes = (Write("memory", "memory.memsw.limit_in_bytes", "-1", _NO_SWAP), *writes)
        if resources.memory and resources.memory.limit and resources.memory.swap:
            writes = self._memory_in_order(writes)
        warnings = [warning for warning in self.apply(writes) if warning != _NO_SWAP]
        if resources.devices:
            self.restrict_devices(devices_of(resources))
        return warnings

    def _memory_in_order(self, writes: tuple[Write, ...]) -> tuple[Write, ...]:
        """memory ≤ memory+swap holds at every instant, so a growing pair is written with the sum first."""
        values = {
            write.file: int(write.value) for write in writes if write.controller == "memory" and write.value.lstrip("-").isdigit()
        }
        limit = values["memory.limit_in_bytes"]
        swap = values["memory.memsw.limit_in_bytes"]
        try:
            current = int(read_file(self.directory("memory") + "/memory.memsw.limit_in_bytes"))
        except OSError:
            return writes
        if swap != -1 and (limit == -1 or limit <= current):
            return writes
        first = [write for write in writes if write.file == "memory.memsw.limit_in_bytes"]
        return tuple(first + [write for write in writes if write not in first])

    def restrict_devices(self, rules: tuple[tuple[bool, str], ...]) -> None:
        directory = self.directory("devices")
        if not directory:
            return
        wanted = allowed_devices(rules)
        present = _present_devices(directory)
        if wanted is not None and present is not None:
            # what both have is never taken away, not for a moment
            for text in sorted(wanted - present):
                write_file(directory + "/devices.allow", text)
            for text in sorted(present - wanted):
                write_file(directory + "/devices.deny", text)
            return
        for allow, text in rules:
            file = "/devices.allow" if allow else "/devices.deny"
            write_file(directory + file, "a" if text.startswith("a *:*") else text)

    def join(self) -> None:
        # `tasks`, not `cgroup.procs`: the latter waits for every thread group of the machine to hold still (7-16 ms)
        self.add(0)

    def add(self, pid: int) -> None:
        for directory in self._directories:
            write_file(directory + "/tasks", str(pid))

    def directory_fd(self) -> int:
        try:
            return os.open(self._unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if self._unified else -1
        except FileNotFoundError:
            return -1

    def directory_fd_of(self, pid: int) -> int:
        return -1

    def freeze(self) -> None:
        directory = self.directory("freezer")
        if not directory:
            raise OSError(errno.EOPNOTSUPP, "the freezer cgroup is not mounted", self.path)
        for attempt in range(_FREEZE_ATTEMPTS):
            write_file(directory + "/freezer.state", "FROZEN")
            if read_file(directory + "/freezer.state").strip() == "FROZEN":
                return
            if attempt % 50 == 49:
                write_file(directory + "/freezer.state", "THAWED")  # a process in the midst of a fork needs to move on
            time.sleep(0.0002 if attempt < 50 else 0.002)
        write_file(directory + "/freezer.state", "THAWED")
        raise OSError(errno.EBUSY, "unable to freeze", self.path)

    def thaw(self) -> None:
        directory = self.directory("freezer")
        if directory:
            write_file(directory + "/freezer.state", "THAWED")

    def frozen(self) -> bool:
        directory = self.directory("freezer")
        if not directory:
            return False
        try:
            return read_file(directory + "/freezer.state").strip() in ("FROZEN", "FREEZING")
        except FileNotFoundError:
            return False

    def processes(self) -> list[int]:
        for controller in ("freezer", "devices", "pids", "memory"):
            directory = self.directory(controller)
            if directory:
                return pids_below(directory, "cgroup.procs")
        return pids_below(self._directories[0], "cgroup.procs")

    def kill(self) -> None:
        if not self._kill_at_one_stroke():
            try:
                self.freeze()  # or what forks faster than it is killed gets away
            except OSError:
                pass
        kill_each(self.processes, signal.SIGKILL)
        try:
            self.thaw()  # until then a frozen process does not even die
        except OSError:
            pass

    def _kill_at_one_stroke(self) -> bool:
        if not self._unified:
            return False
        try:
            write_file(self._unified + "/cgroup.kill", "1")
        except OSError:
            return False  # Linux before 5.14, or nobody was born there
        return True

    def remove(self) -> None:
        remove_tree((*self._directories, self._unified) if self._unified else self._directories)

    def watch_out_of_memory(self) -> int:
        directory = self.directory("memory")
        if not directory:
            return -1
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(directory + "/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(event)
            return -1
        try:
            write_file(directory + "/cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)
        return event

    def out_of_memory_kills(self) -> int:
        directory = self.directory("memory")
        try:
            for line in read_file(directory + "/memory.oom_control").splitlines() if directory else ():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except FileNotFoundError:
            return 0
        return 0

    def statistics(self) -> Statistics:
        return statistics_v1(self.directory)


def _unsupported(write: Write) -> str:
    if not write.warning:
        raise OSError(errno.ENOENT, f"cannot set {write.file}: the machine has no such cgroup file", write.file)
    return write.warning


def _write_first(directory: str, files: str, value: str) -> None:
    """Write to the first of several names (``new|old``) that exists."""
    names = files.split("|")
    for name in names[:-1]:
        try:
            write_file(f"{directory}/{name}", value)
            return
        except FileNotFoundError:
            continue
    write_file(f"{directory}/{names[-1]}", value)


def _later(writes: tuple[Write, ...], file: str) -> Write | None:
    return next((write for write in writes if write.file == file), None)


def _present_devices(directory: str) -> set[str] | None:
    """What devices.list allows, one access letter each; None: everything."""
    found: set[str] = set()
    for line in read_file(directory + "/devices.list").splitlines():
        if line.startswith("a "):
            return None
        device, _, access = line.rpartition(" ")
        found |= {f"{device} {letter}" for letter in access}
    return found


def _inherit_cpuset(directory: str, root: str) -> None:
    for file in ("/cpuset.cpus", "/cpuset.mems"):
        if read_file(directory + file).strip():
            continue
        parent = directory.rpartition("/")[0]
        if len(parent) > len(root):
            _inherit_cpuset(parent, root)
        write_file(directory + file, read_file(parent + file).strip())

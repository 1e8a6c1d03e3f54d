"""A cgroup of version 2: one directory of the unified hierarchy. See Documentation/admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from carrack.kernel import bpf, inotify
from carrack.runtime.cgroups.devices import program
from carrack.runtime.cgroups.directories import kill_each, make_directory, pids_below, read_file, remove_tree, write_file
from carrack.runtime.cgroups.layout import Layout, own_paths
from carrack.runtime.cgroups.limits import Write, devices_of, writes_of
from carrack.runtime.cgroups.statistics import Statistics, statistics_v2

if TYPE_CHECKING:
    from carrack.oci.runtime_spec import Resources

_FREEZE_SECONDS = 10.0


class CgroupV2:
    """Implements `Cgroup`."""

    joined_by_birth = True

    def __init__(self, path: str, layout: Layout) -> None:
        self.path = path
        self._root = layout.unified
        self._directory = layout.unified + path

    def directory(self, controller: str) -> str:
        return self._directory

    def create_birthplace(self) -> None:
        self.create()

    def create(self) -> None:
        """Make the directory, and have every cgroup above it hand down the controllers it has."""
        make_directory(self._directory)
        above = self._root
        for name in self.path.strip("/").split("/"):
            available = read_file(above + "/cgroup.controllers").split()
            enabled = read_file(above + "/cgroup.subtree_control").split()
            missing = [controller for controller in available if controller not in enabled]
            if missing:
                _hand_down(above, missing)
            above = f"{above}/{name}"

    def apply(self, writes: tuple[Write, ...]) -> list[str]:
        warnings: list[str] = []
        for write in writes:
            try:
                write_file(f"{self._directory}/{write.file}", write.value)
            except FileNotFoundError:
                if write.file == "io.bfq.weight" and self._io_weight(write):
                    continue
                if not write.warning:
                    raise
                warnings.append(write.warning)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP or not write.warning:
                    raise
                warnings.append(write.warning)  # the device's scheduler knows no weights
        return warnings

    def _io_weight(self, write: Write) -> bool:
        """Without the bfq scheduler: io.weight, whose scale is 1..10000 instead of 10..1000."""
        device, _, weight = write.value.rpartition(" ")
        scaled = str(1 + (int(weight) - 10) * 9999 // 990) if weight.isdecimal() else weight
        try:
            write_file(self._directory + "/io.weight", f"{device} {scaled}" if device else f"default {scaled}")
        except FileNotFoundError:
            return False
        return True

    def update(self, resources: Resources) -> list[str]:
        warnings = self.apply(writes_of(resources, 2))
        if resources.devices:
            self.restrict_devices(devices_of(resources))
        return warnings

    def restrict_devices(self, rules: tuple[tuple[bool, str], ...]) -> None:
        """Attach the rules as a BPF program in place of the one that is there."""
        directory_fd = self.directory_fd()
        try:
            old = bpf.device_programs(directory_fd)
            new = bpf.load_device_program(program(rules))
            try:
                bpf.attach_device_program(directory_fd, new)
            finally:
                os.close(new)
            for identifier in old:
                bpf.detach_device_program(directory_fd, identifier)
        finally:
            os.close(directory_fd)

    def join(self) -> None:
        self.add(0)

    def add(self, pid: int) -> None:
        write_file(self._directory + "/cgroup.procs", str(pid))

    def directory_fd(self) -> int:
        return os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def directory_fd_of(self, pid: int) -> int:
        path = own_paths(read_file(f"/proc/{pid}/cgroup")).get("", "")
        if path != self.path and not path.startswith(self.path + "/"):
            raise OSError(errno.ESRCH, f"process {pid} is not in it", self.path)
        return os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def freeze(self) -> None:
        self._set_frozen(True)

    def thaw(self) -> None:
        self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> None:
        events = os.open(self._directory + "/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write_file(self._directory + "/cgroup.freeze", str(int(frozen)))
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            deadline = time.monotonic() + _FREEZE_SECONDS
            while f"frozen {int(frozen)}" not in os.pread(events, 4096, 0).decode():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise OSError(errno.EBUSY, "timeout while waiting for the cgroup to freeze", self.path)
                poll.poll(min(left * 1000, 100))
        finally:
            os.close(events)

    def frozen(self) -> bool:
        try:
            return "frozen 1" in read_file(self._directory + "/cgroup.events")
        except FileNotFoundError:
            return False

    def processes(self) -> list[int]:
        return pids_below(self._directory, "cgroup.procs")

    def kill(self) -> None:
        try:
            write_file(self._directory + "/cgroup.kill", "1")
        except FileNotFoundError:
            if os.path.lexists(self._directory):  # Linux before 5.14
                kill_each(self.processes, signal.SIGKILL)

    def remove(self) -> None:
        remove_tree((self._directory,))

    def watch_out_of_memory(self) -> int:
        try:
            return inotify.watch_modified(self._directory + "/memory.events")
        except FileNotFoundError:
            return -1

    def out_of_memory_kills(self) -> int:
        try:
            lines = read_file(self._directory + "/memory.events").splitlines()
        except FileNotFoundError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def statistics(self) -> Statistics:
        return statistics_v2(self._directory)


def _hand_down(directory: str, controllers: list[str]) -> None:
    """Enable all at once; when one of them cannot be, each on its own, and what fails stays off."""
    try:
        write_file(directory + "/cgroup.subtree_control", " ".join("+" + controller for controller in controllers))
        return
    except OSError:
        pass
    for controller in controllers:
        try:
            write_file(directory + "/cgroup.subtree_control", "+" + controller)
        except OSError:
            continue

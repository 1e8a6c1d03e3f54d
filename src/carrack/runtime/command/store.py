"""The state of carrack-oci's containers on disk: one directory each below --root, and what is true of its process right now."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import time

import msgspec

from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.oci.runtime_spec import RuntimeSpec
from carrack.runtime import cgroups

DEFAULT_ROOT = "/run/carrack-oci"
_IDENTIFIER = re.compile(r"[\w+\-.]+")


class Record(msgspec.Struct, rename="camel"):
    """state.json: what `create` knows and every later command needs."""

    id: str
    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat: tells this process from a later one of the same number."""
    bundle: str
    rootfs: str
    cgroup: str
    created: str
    spec: RuntimeSpec
    oci_version: str = "1.2.0"
    terminal: bool = False
    descriptors: tuple[str, ...] = ()
    """What its standard input, output and errors were outside, as /proc shows it; a checkpoint must know them again."""


class Container:
    """A container of the store."""

    def __init__(self, directory: str, record: Record) -> None:
        self.directory = directory
        self.record = record

    @property
    def gate(self) -> str:
        """The FIFO whose byte lets init go on; it exists until `start`."""
        return os.path.join(self.directory, "exec.fifo")

    def cgroup(self) -> cgroups.Cgroup:
        return cgroups.open(self.record.cgroup)

    def status(self) -> str:
        """``created``, ``running``, ``paused`` or ``stopped``."""
        state, start = process_stat(self.record.pid)
        if state in ("", "Z", "X") or start != self.record.start_time:
            return "stopped"
        if self.cgroup().frozen():
            return "paused"
        return "created" if os.path.exists(self.gate) else "running"

    def owns_pid_namespace(self) -> bool:
        """Whether its end is the end of every process in it (pid_namespaces(7))."""
        linux = self.record.spec.linux
        return linux is not None and any(each.type == "pid" and not each.path for each in linux.namespaces)

    def forget(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class Store:
    """The containers below one --root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def reserve(self, identifier: str) -> str:
        """Make the directory of a new container. Raises Conflict when there is one, InvalidParameter on a bad name."""
        directory = self._directory(identifier)
        os.makedirs(self.root, 0o700, exist_ok=True)
        try:
            os.mkdir(directory, 0o711)
        except FileExistsError:
            raise Conflict("container with given ID already exists") from None
        return directory

    def save(self, container: Container) -> None:
        """Write state.json, whole or not at all."""
        path = os.path.join(container.directory, "state.json")
        with open(path + ".new", "wb") as file:
            file.write(msgspec.json.encode(container.record))
        os.rename(path + ".new", path)

    def get(self, identifier: str) -> Container:
        """Raises NotFound."""
        directory = self._directory(identifier)
        try:
            with open(os.path.join(directory, "state.json"), "rb") as file:
                return Container(directory, msgspec.json.decode(file.read(), type=Record))
        except FileNotFoundError:
            raise NotFound("container does not exist") from None

    def list(self) -> list[Container]:
        """Every container, by name; one that vanishes meanwhile is left out."""
        try:
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                found.append(self.get(name))
            except (NotFound, InvalidParameter):
                continue
        return found

    def _directory(self, identifier: str) -> str:
        if not identifier or identifier in (".", "..") or not _IDENTIFIER.fullmatch(identifier):
            raise InvalidParameter("invalid container ID format" if identifier else "container id cannot be empty")
        return os.path.join(self.root, identifier)


def process_stat(pid: int) -> tuple[str, int]:
    """(state letter, start time) of a process; ("", 0) when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[19])


def now() -> str:
    """This instant as RFC 3339 with nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def write_pid(path: str, pid: int) -> None:
    """A pid file appears with its content or not at all."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(temporary, path)


def release_gate(path: str) -> None:
    """Open init's gate and wait until it has gone through. Raises Conflict when nobody waits there."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise Conflict("cannot start a container that has stopped") from None
    try:
        os.write(fd, b"0")
        _until_no_reader(fd)
    finally:
        os.close(fd)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _until_no_reader(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll(10_000)


def hold_gate(directory: str) -> int:
    """Make the FIFO and open it for init, who reads from it."""
    path = os.path.join(directory, "exec.fifo")
    os.mkfifo(path, 0o622)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return fd

"""The last steps before a program runs, the same for init and exec: stdio, working directory, who it is, which file it is.

Everything here runs inside the container's root. Texts are those of runc, from which Docker's client reads the exit code.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import NamedTuple

from carrack.kernel import terminal
from carrack.oci.runtime_spec import Process
from carrack.runtime import users
from carrack.runtime.failure import InitFailed, words

EXEC_FAILED = 255
"""The exit code when the kernel refuses the file at the last moment, as runc has it."""


class Stdio(NamedTuple):
    """The descriptors a process gets as 0, 1 and 2; -1: /dev/null. The caller keeps and closes its own."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


def account_of(process: Process) -> users.Account:
    """User, groups and home by the container's own files. Raises InvalidParameter with Docker's text."""
    wish = process.user
    passwd = _bounded("/etc/passwd")
    if wish.username:
        group = _bounded("/etc/group")
        found = users.resolve(wish.username, passwd, group)
        # The primary group stands among the others, so that a set-gid drop cannot lose a denial (CVE-2022-36109).
        wished = (*wish.additional_gids, *(users.resolve_group(name, group) for name in wish.additional_groups))
        groups = tuple(dict.fromkeys((found.gid, *found.groups, *wished)))
        return users.Account(found.uid, found.gid, groups, found.home)
    return users.Account(wish.uid, wish.gid, wish.additional_gids, users.home_of(wish.uid, passwd))


def _bounded(path: str) -> bytes:
    """A file of the container, as far as the bound goes; empty when it is missing or no ordinary file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    return read_user_file(fd)


def read_user_file(fd: int) -> bytes:
    """A container's passwd or group file, as far as the bound goes; empty when it is no ordinary file. Closes the descriptor."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        content = b""
        while len(content) < users.LARGEST_FILE and (chunk := os.read(fd, 1 << 18)):
            content += chunk
        return content
    finally:
        os.close(fd)


def enter_directory(path: str) -> None:
    """Make `path` the working directory, and make sure that it lies in the container (CVE-2024-21626)."""
    try:
        os.chdir(path)
    except OSError as error:
        raise InitFailed(f'chdir to cwd ("{path}") set in config.json failed: {words(error)}') from None
    try:
        outside = not os.getcwd().startswith("/")
    except OSError:
        outside = True
    if outside:
        raise InitFailed(
            "current working directory is outside of container mount namespace root -- possible container breakout detected"
        )


def environment_of(process: Process, home: str) -> dict[bytes, bytes]:
    """The environment as execve takes it; HOME from the passwd file when the spec does not say it."""
    environment: dict[bytes, bytes] = {}
    for each in process.env:
        name, equals, value = each.encode(errors="surrogateescape").partition(b"=")
        if equals and name:
            environment[name] = value
    if not environment.get(b"HOME"):
        environment[b"HOME"] = home.encode(errors="surrogateescape")
    return environment


def find_program(name: str, search_path: str) -> str:
    """The file that `name` means, as Go's LookPath finds it. Raises InitFailed with its text."""
    if not name:
        raise InitFailed('exec: "": executable file not found in $PATH')
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            raise InitFailed(f'exec: "{name}": stat {name}: {words(error)}') from None
        problem = _not_executable(mode)
        if problem:
            raise InitFailed(f'exec: "{name}": {problem}')
        return name
    for directory in search_path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            if not _not_executable(os.stat(candidate).st_mode):
                return candidate
        except OSError:
            continue
    raise InitFailed(f'exec: "{name}": executable file not found in $PATH')


def _not_executable(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "is a directory"
    return "" if mode & 0o111 else "permission denied"


def place_stdio(stdio: Stdio, uid: int) -> None:
    """Put the descriptors at 0, 1 and 2. Those that are no null device come to belong to the container's user.

    The host's null device becomes the container's own: nothing of the host stays open that a checkpoint could not find again.
    """
    chosen = [stdio.stdin, stdio.stdout, stdio.stderr]
    if any(fd < 0 or _is_null(fd) for fd in chosen):
        null = _own_null(required=-1 in chosen)
        chosen = [null if fd < 0 or (null >= 0 and _is_null(fd)) else fd for fd in chosen]
    if any(fd <= 2 and fd != place for place, fd in enumerate(chosen)):
        # a source would be overwritten before its turn
        chosen = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in chosen]
    for place, fd in enumerate(chosen):
        if fd == place:
            os.set_inheritable(fd, True)
        else:
            os.dup2(fd, place, inheritable=True)
    if uid:
        for place in range(3):
            _give(place, uid)


def _own_null(*, required: bool) -> int:
    """The container's null device; -1 when it has none and does not need it."""
    try:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        if required:
            raise
        return -1
    if required or _is_null(null):
        return null
    os.close(null)
    return -1


def _is_null(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _give(fd: int, uid: int) -> None:
    status = os.fstat(fd)
    if status.st_uid == uid or _is_null(fd):
        return
    try:
        os.fchown(fd, uid, status.st_gid)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
            raise


def place_terminal(slave_fd: int, uid: int) -> None:
    """The terminal as stdin, stdout and stderr of its user, controlling this session."""
    if uid:
        _give(slave_fd, uid)
    place_stdio(Stdio(slave_fd, slave_fd, slave_fd), 0)
    terminal.make_controlling(0)


def execute(path: str, process: Process, environment: dict[bytes, bytes]) -> None:
    """Become the program. When the kernel refuses the file, say so on its stderr and leave, as runc does."""
    arguments = [each.encode(errors="surrogateescape") for each in process.args]
    try:
        os.execve(path.encode(errors="surrogateescape"), arguments, environment)
    except OSError as error:
        os.write(2, f"exec {path}: {words(error)}\n".encode(errors="surrogateescape"))
    finally:
        os._exit(EXEC_FAILED)

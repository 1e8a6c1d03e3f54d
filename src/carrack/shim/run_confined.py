"""A program of the host at work on a tree of strangers, in a file system that holds little else than the program."""

from __future__ import annotations

import errno
import os
import signal

from carrack.kernel import capabilities, mount, process
from carrack.shim.confinement import detached
from carrack.shim.messages import RunConfined

WORKSPACE = "/workspace"
_SHOWN_DIRECTORIES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu")
_SHOWN_SETTINGS = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssl",
)
"""What name resolution, the dynamic linker, TLS and ssh's host keys need."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LOOK_ONLY = mount.ATTR_RDONLY | mount.ATTR_NOSUID
_HIGHEST_CAPABILITY = 63


def run_confined(job: RunConfined, directory_fd: int, output_fd: int, error_fd: int) -> int:
    """Run the program to its end: its exit status, 128 and the signal when one ended it. Raises OSError."""
    workspace = detached(directory_fd)
    mount.set_attributes(workspace, add=mount.ATTR_NOSUID | mount.ATTR_NODEV)
    taken = [(path, _taken(path)) for path in (*_SHOWN_DIRECTORIES, *_SHOWN_SETTINGS, *_DEVICES)]
    process.unshare(process.CLONE_NEWNS | process.CLONE_NEWPID | process.CLONE_NEWIPC)
    mount.set_attributes(mount.AT_FDCWD, "/", propagation=mount.MS_PRIVATE, recursive=True)
    root = mount.new_file_system("tmpfs", ("mode=755", "size=1m"), mount.ATTR_NOSUID)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount.attach(root, here)
    os.close(here)
    os.fchdir(root)
    for path, fd in taken:
        _show(path.lstrip("/"), fd)
    for name, fd in (("tmp", mount.new_file_system("tmpfs", ("mode=1777", "size=64m"))), (WORKSPACE[1:], workspace)):
        os.mkdir(name, 0o755)
        mount.attach(fd, mount.AT_FDCWD, name)
        os.close(fd)
    mount.pivot_root(".", ".")
    mount.unmount(".", mount.MNT_DETACH)
    mount.set_attributes(root, add=mount.ATTR_RDONLY)
    os.close(root)
    child = os.fork()
    if child == 0:
        _become(job, output_fd, error_fd)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _taken(path: str) -> int:
    """What the host has there, read-only and detached; -1 when it has nothing. A link such as /bin is taken as a link."""
    if os.path.islink(path) and path in _SHOWN_DIRECTORIES:
        return -1
    try:
        fd = mount.clone_tree(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return -1
        raise
    mount.set_attributes(fd, propagation=mount.MS_PRIVATE)
    mount.set_attributes(fd, add=_LOOK_ONLY | (0 if path in _DEVICES else mount.ATTR_NODEV))
    return fd


def _show(name: str, fd: int) -> None:
    """Put what was taken under the same name below the new root, which is the working directory."""
    if fd < 0:
        if os.path.islink(f"/{name}") and f"/{name}" in _SHOWN_DIRECTORIES:
            os.symlink(os.readlink(f"/{name}"), name)
        return
    parent = os.path.dirname(name)
    if parent:
        os.makedirs(parent, exist_ok=True)
    if os.path.isdir(f"/{name}"):
        os.mkdir(name)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    mount.attach(fd, mount.AT_FDCWD, name)
    os.close(fd)


def _become(job: RunConfined, output_fd: int, error_fd: int) -> None:
    """The program's process: the first of its process namespace, whose end ends all it started."""
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (output_fd, 1), (error_fd, 2)):
            os.dup2(source, target)
        process.close_range(3)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(ignored, signal.SIG_DFL)
        os.chdir(WORKSPACE)
        for number in range(_HIGHEST_CAPABILITY + 1):
            if process.bounding_has(number):
                process.drop_from_bounding(number)
        capabilities.set(0, 0, 0)
        process.set_no_new_privileges()
        environment = dict(text.partition("=")[::2] for text in job.environment)
        os.execve(job.arguments[0], job.arguments, environment)
    except OSError as error:
        os.write(2, f"{error.filename or job.arguments[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)

"""Processes: clone3 with namespaces, pidfds, prctl, and what a process may change of itself.

`fork_into` is the one place that forks by a raw system call. It runs between the interpreter's own before-fork and after-fork
steps, so that locks and thread state are right in the child, and refuses to run beside other threads.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
from ctypes import c_int, c_uint64

from carrack.kernel.libc import Number, c_char_p, c_long, c_uint, c_ulong, c_void_p, check, declare, libc

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PARENT = 0x8000
_CLONE_PIDFD = 0x1000
_CLONE_PARENT_SETTID = 0x100000
_CLONE_INTO_CGROUP = 0x200000000
_SIGCHLD = 17

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47

_CLOSE_RANGE_CLOEXEC = 4


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


# PyDLL keeps the interpreter's lock over the call: in the child there is nobody left to give it back.
_python_libc = ctypes.PyDLL(None, use_errno=True)
_clone3 = _python_libc["syscall"]
_clone3.argtypes = (c_long, c_void_p, c_long)
_clone3.restype = c_long
_clone = _python_libc["syscall"]
_clone.argtypes = (c_long, c_ulong, c_void_p, c_void_p, c_void_p, c_void_p)
_clone.restype = c_long
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
for _step in (_before_fork, _after_fork_parent, _after_fork_child):
    _step.argtypes = ()
    _step.restype = None

_prctl = libc["prctl"]
_prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_unshare = libc["unshare"]
_unshare.argtypes = (c_int,)
_setns = libc["setns"]
_setns.argtypes = (c_int, c_int)
_setfsuid = libc["setfsuid"]
_setfsuid.argtypes = (c_uint,)
_setfsgid = libc["setfsgid"]
_setfsgid.argtypes = (c_uint,)
_personality = libc["personality"]
_personality.argtypes = (c_ulong,)
_sethostname = libc["sethostname"]
_sethostname.argtypes = (c_char_p, ctypes.c_size_t)
_setdomainname = libc["setdomainname"]
_setdomainname.argtypes = (c_char_p, ctypes.c_size_t)
_close_range = declare(Number.close_range, c_uint, c_uint, c_uint)
_pidfd_send_signal = declare(Number.pidfd_send_signal, c_int, c_int, c_void_p, c_uint)


class SharedNumber:
    """An integer that parent and children share: the kernel writes a pid there without anyone sending a message."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._cell = c_int.from_buffer(self._memory)

    @property
    def value(self) -> int:
        return self._cell.value

    @property
    def address(self) -> int:
        return ctypes.addressof(self._cell)


def _refuse_threads() -> None:
    if _thread._count():
        raise RuntimeError("a raw fork beside other threads would copy their locks without their owners")


def fork_into(flags: int, *, cgroup_fd: int = -1, pid_goes_to: SharedNumber | None = None) -> tuple[int, int]:
    """Fork with clone3(2): (pid, pidfd) in the parent, (0, -1) in the child.

    `flags` are CLONE_NEW* (and CLONE_PARENT); `cgroup_fd` is a cgroup v2 directory to be born in; `pid_goes_to` is told the pid as
    well, for a process that shares the number. The caller must be the only thread; the pidfd is close-on-exec.
    """
    _refuse_threads()
    pidfd = c_int(-1)
    arguments = _CloneArguments(flags=flags | _CLONE_PIDFD, pidfd=ctypes.addressof(pidfd))
    if not flags & CLONE_PARENT:
        arguments.exit_signal = _SIGCHLD
    if pid_goes_to is not None:
        arguments.flags |= _CLONE_PARENT_SETTID
        arguments.parent_tid = pid_goes_to.address
    if cgroup_fd >= 0:
        arguments.flags |= _CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    _before_fork()
    pid = _clone3(Number.clone3, ctypes.addressof(arguments), ctypes.sizeof(arguments))
    if pid == 0:
        _after_fork_child()
        return 0, -1
    error = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        raise OSError(error, os.strerror(error), "clone3")
    return pid, pidfd.value


def pid_of(pidfd: int) -> int:
    """The pid of a process that lives, as this process sees it; -1 of one that has ended."""
    fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = os.read(fd, 4096).split(b"\n")
    finally:
        os.close(fd)
    return next(int(line.split()[1]) for line in lines if line.startswith(b"Pid:"))


def fork_sibling(pid_goes_to: SharedNumber) -> int:
    """Fork a child of this process's own parent, by clone(2) so that filters which know no clone3 let it pass.

    Returns 0 in the child, else its pid as this process sees it; the same number stands in `pid_goes_to` before either returns.
    """
    _refuse_threads()
    _before_fork()
    pid: int = _clone(Number.clone, CLONE_PARENT | _CLONE_PARENT_SETTID | _SIGCHLD, None, pid_goes_to.address, None, None)
    if pid == 0:
        _after_fork_child()
        return 0
    error = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        raise OSError(error, os.strerror(error), "clone")
    return pid


def unshare(flags: int) -> None:
    check(_unshare(flags), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace (or, with a pidfd, each namespace of `flags`) that `fd` refers to."""
    check(_setns(fd, flags), "setns")


def send_signal(pidfd: int, signal: int) -> None:
    check(_pidfd_send_signal(pidfd, signal, None, 0), "pidfd_send_signal")


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from `first` to `last`, both included."""
    if first <= last:
        check(_close_range(first, last, 0), "close_range")


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every descriptor that is not in `keep`."""
    first = 0
    for fd in sorted(fd for fd in set(keep) if fd >= 0):
        close_range(first, fd - 1)
        first = fd + 1
    close_range(first)


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on to be closed by exec."""
    check(_close_range(first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC), "close_range")


def set_parent_death_signal(signal: int) -> None:
    """Ask for `signal` when the parent dies. A change of credentials or an exec of a privileged file takes it back."""
    check(_prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl PR_SET_PDEATHSIG")


def set_dumpable(dumpable: bool) -> None:
    check(_prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl PR_SET_DUMPABLE")


def keep_capabilities(keep: bool) -> None:
    """Whether permitted capabilities outlive the change from root to another user."""
    check(_prctl(_PR_SET_KEEPCAPS, int(keep), 0, 0, 0), "prctl PR_SET_KEEPCAPS")


def become_subreaper() -> None:
    check(_prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER")


def set_no_new_privileges() -> None:
    check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl PR_SET_NO_NEW_PRIVS")


def bounding_has(capability: int) -> bool:
    """Whether the bounding set holds `capability`; False also for numbers that this kernel does not know."""
    return bool(_prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1)


def drop_from_bounding(capability: int) -> None:
    check(_prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl PR_CAPBSET_DROP")


def clear_ambient() -> None:
    check(_prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0), "prctl PR_CAP_AMBIENT_CLEAR_ALL")


def raise_ambient(capability: int) -> None:
    check(_prctl(_PR_CAP_AMBIENT, 2, capability, 0, 0), "prctl PR_CAP_AMBIENT_RAISE")


def set_file_owner(uid: int, gid: int) -> None:
    """Whom the files belong to that this process makes (setfsuid(2)). A user other than root loses the power over others' files:
    take it back by `capabilities.set` where it is to be kept."""
    _setfsgid(gid)
    _setfsuid(uid)


def set_personality(value: int) -> None:
    check(_personality(value), "personality")


def set_hostname(name: str) -> None:
    """The host name of this UTS namespace (sethostname(2)). Raises OSError."""
    text = name.encode()
    check(_sethostname(text, len(text)), "sethostname")


def set_domainname(name: str) -> None:
    """The NIS domain name of this UTS namespace (setdomainname(2)). Raises OSError."""
    text = name.encode()
    check(_setdomainname(text, len(text)), "setdomainname")

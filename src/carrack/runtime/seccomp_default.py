"""Docker's default seccomp profile as data, made concrete for a set of capabilities and an architecture.

What is allowed and why is Docker's documented policy (docs.docker.com/engine/security/seccomp): everything an ordinary program
calls, the rest only with the capability that covers it, and address families that reach beyond the container not at all.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from carrack.oci.runtime_spec import Seccomp, SeccompArg, SeccompRule

_EVERYONE = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64
clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr
fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32
getrlimit get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents
io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr
lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat
shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
process_vm_readv process_vm_writev ptrace
"""

_WITH_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
        setdomainname sethostname setns syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

_ARCHITECTURES = {
    "x86_64": (("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"), "arch_prctl modify_ldt"),
    "aarch64": (
        ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    "riscv64": (("SCMP_ARCH_RISCV64",), "riscv_flush_icache"),
    "ppc64le": (("SCMP_ARCH_PPC64LE",), "sync_file_range2 swapcontext"),
    "s390x": (("SCMP_ARCH_S390X", "SCMP_ARCH_S390"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
}

# Address families an ordinary container may open. Left out: AF_ALG (38) and AF_VSOCK (40), which reach the host's kernel keys and
# its hypervisor, and the dead protocols between.
_FAMILIES_BELOW = 12
_FAMILIES = (13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45)

# personality(2): Linux, the 32-bit Linux, both without address randomisation, and the question what is set
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

# every CLONE_NEW* flag of clone(2): all must be absent
_NAMESPACE_FLAGS = 0x7E020000


def profile(capabilities: Iterable[str], machine: str) -> Seccomp:
    """The default profile for a container with these capabilities (its bounding set) on `machine` (uname's word).

    Made concrete: what Docker's own file says by conditions is decided here.
    """
    held = frozenset(capabilities)
    architectures, calls = _ARCHITECTURES.get(machine, ((), ""))
    rules = [_allow(_EVERYONE + " " + calls)]
    rules.append(_allow("socket", SeccompArg(0, _FAMILIES_BELOW, "SCMP_CMP_LT")))
    rules += [_allow("socket", SeccompArg(0, family, "SCMP_CMP_EQ")) for family in _FAMILIES]
    rules += [_allow("personality", SeccompArg(0, value, "SCMP_CMP_EQ")) for value in _PERSONALITIES]
    rules += [_allow(names) for capability, names in _WITH_CAPABILITY.items() if capability in held]
    if "CAP_SYS_ADMIN" not in held:
        flags_at = 1 if machine == "s390x" else 0
        rules.append(_allow("clone", SeccompArg(flags_at, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ")))
        # its flags lie in memory, where no filter can look: programs fall back to clone
        rules.append(SeccompRule(("clone3",), "SCMP_ACT_ERRNO", errno.ENOSYS))
    return Seccomp(
        default_action="SCMP_ACT_ERRNO", default_errno_ret=errno.EPERM, architectures=architectures, syscalls=tuple(rules)
    )


def _allow(names: str, *args: SeccompArg) -> SeccompRule:
    return SeccompRule(tuple(names.split()), "SCMP_ACT_ALLOW", args=args)

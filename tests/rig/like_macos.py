"""Runs the client as if this were macOS: `sys.platform` says so, and what Python offers on Linux alone is gone before the client is
imported. As a program: `python -IS like_macos.py SOURCES WORDS...`.
"""

import sys

GONE = {
    "os": "memfd_create pidfd_open splice sched_getaffinity sched_setaffinity eventfd eventfd_read eventfd_write pipe2"
    " posix_fadvise posix_fallocate getxattr listxattr setxattr removexattr O_PATH O_TMPFILE O_DIRECT copy_file_range getrandom"
    " setns unshare getresuid getresgid setresuid setresgid fdatasync sendfile",
    "_socket": "SOCK_CLOEXEC SOCK_NONBLOCK MSG_CMSG_CLOEXEC MSG_NOSIGNAL SO_PEERCRED AF_NETLINK AF_VSOCK AF_PACKET SO_PASSCRED",
    "select": "epoll",
    "signal": "sigtimedwait sigwaitinfo pidfd_send_signal SIGPOLL SIGPWR SIGSTKFLT SIGRTMIN SIGRTMAX",
    "fcntl": "F_ADD_SEALS F_GET_SEALS F_SETPIPE_SZ F_NOTIFY",
}


def main() -> int:
    """The client's exit code."""
    sys.platform = "darwin"
    for module, names in GONE.items():
        for name in names.split():
            if hasattr(__import__(module), name):
                delattr(__import__(module), name)
    sys.path.insert(0, sys.argv[1])
    from carrack.cli.__main__ import run

    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())

"""What systemd and carrackd tell each other: sockets handed over, readiness, reload, watchdog, and whether the machine goes down.

See sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3). Without systemd every function here does nothing, or says so.
"""

from __future__ import annotations

import os
import socket
import time

from carrack.daemon.systemd_bus import SystemdBus
from carrack.errors import CarrackError, InvalidParameter

_FIRST_FD = 3


def is_running() -> bool:
    """Whether systemd is this machine's init (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def has_sockets() -> bool:
    """Whether systemd has handed over sockets."""
    return _count() > 0


def _count() -> int:
    return int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0


def given_sockets(wanted: str) -> list[socket.socket]:
    """The listening sockets of socket activation: all of them, or the one with that number or name. Raises InvalidParameter."""
    count = _count()
    if not count:
        raise InvalidParameter("no sockets found via socket activation: make sure the service was started by systemd")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    numbers = range(_FIRST_FD, _FIRST_FD + count)
    if wanted and wanted != "*":
        by_name = [fd for fd, name in zip(numbers, names, strict=False) if name == wanted]
        chosen = by_name or [fd for fd in numbers if str(fd) == wanted]
        if not chosen:
            raise InvalidParameter(f"systemd handed over no socket {wanted!r}")
        numbers = range(chosen[0], chosen[0] + 1)
    found = []
    for fd in numbers:
        os.set_inheritable(fd, False)
        found.append(socket.socket(fileno=os.dup(fd)))
    return found


def notify(*lines: str) -> None:
    """Tell the service manager, if there is one that listens (``READY=1``, ``STATUS=…``)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall("\n".join(lines).encode())
        except OSError:
            pass  # a manager that does not listen need not be told


def notify_reloading() -> None:
    """A reload begins; ``READY=1`` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


async def feed_watchdog() -> None:
    """While this loop turns, the watchdog hears of it twice as often as it wants. Returns at once where there is none."""
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    if not microseconds or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    import asyncio  # a seventh of what a start imports: not before the zygote is on its way

    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(microseconds / 2e6)


def machine_goes_down() -> bool:
    """Whether the machine is shutting down or rebooting, as its init sees it; also when we are the first process of a container."""
    if os.getpid() == 1:
        return True
    if not is_running():
        return False
    try:
        with SystemdBus() as bus:
            return bus.system_state() == "stopping"
    except CarrackError:
        return False

"""`top`: the container's processes, read from /proc for ps's full format, from the host's ps(1) for any other."""

from __future__ import annotations

import os
import pwd
import subprocess
import time

from carrack.engine.container import Processes
from carrack.errors import InvalidParameter, SystemFailure

TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_TICKS = os.sysconf("SC_CLK_TCK")
_PS_SECONDS = 10.0


def processes(pids: list[int], ps_args: str) -> Processes:
    """The rows of `ps <ps_args>` that belong to these processes. Blocking. Raises InvalidParameter, SystemFailure."""
    if ps_args.strip() in ("", "-ef"):
        return Processes(TITLES, [row for pid in sorted(pids) if (row := _row(pid))])
    return _by_program(set(pids), ps_args.split())


def _row(pid: int) -> list[str]:
    """One line of `ps -ef` (proc(5), /proc/pid/stat); empty when the process has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            head, _, tail = file.read(4096).decode(errors="replace").rpartition(")")
        fields = tail.split()
        owner = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read(65536).rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return []
    now, uptime = time.time(), _uptime()
    started = now - uptime + int(fields[19]) / _TICKS
    spent = (int(fields[11]) + int(fields[12])) // _TICKS
    age = max(now - started, 1.0)
    moment = time.localtime(started)
    shown = time.strftime("%H:%M" if now - started < 86400 else "%b%d", moment)
    name = head.partition("(")[2]
    return [
        _user(owner),
        str(pid),
        fields[1],
        str(int(spent * 100 / age)),
        shown,
        _terminal(int(fields[4])),
        f"{spent // 3600:02d}:{spent // 60 % 60:02d}:{spent % 60:02d}",
        command or f"[{name}]",
    ]


def _by_program(pids: set[int], arguments: list[str]) -> Processes:
    try:
        done = subprocess.run(["ps", *arguments], capture_output=True, timeout=_PS_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise SystemFailure("ps is not installed on this host (Debian: procps): only `-ef` can be shown without it") from None
    except subprocess.TimeoutExpired:
        raise SystemFailure("ps did not answer") from None
    if done.returncode != 0:
        raise InvalidParameter(f"ps: {done.stderr.decode(errors='replace').strip().partition(chr(10))[0]}")
    lines = done.stdout.decode(errors="replace").splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        words = line.split(None, len(titles) - 1)
        if len(words) > column and words[column].isdecimal() and int(words[column]) in pids:
            rows.append(words)
    return Processes(titles, rows)


def _uptime() -> float:
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0])


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _terminal(device: int) -> str:
    if device == 0:
        return "?"
    major, minor = os.major(device), os.minor(device)
    return f"pts/{minor}" if 136 <= major <= 143 else f"tty{minor}" if major == 4 else "?"

"""What a container is given, read from inside it and from the kernel: to be laid side by side for two engines.

.venv/bin/python -m tests.rig.confinement        prints Carrack's default container beside that of Debian's dockerd
"""

import ctypes
import os
import signal
import struct
import sys
from dataclasses import dataclass

from tests.rig.engine import CommandLine, Engine, docker_program

_SCRIPT = r"""
echo '== status'; grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status
echo '== writable'
find /proc /sys -maxdepth 4 \( -path '/proc/[0-9]*' -o -path '/proc/*self' \) -prune -o -type f -print 2>/dev/null |
  while read -r f; do [ -w "$f" ] && echo "$f"; done
find /proc/sys /proc/irq /proc/bus /sys/fs /sys/kernel -maxdepth 3 -type d 2>/dev/null |
  while read -r d; do [ -w "$d" ] && echo "$d/"; done
echo '== devices'; find /dev -type c -o -type b -o -type l | sort | while read -r d; do
  [ -L "$d" ] && echo "$d -> $(readlink $d)" || echo "$d $(stat -c '%t:%T %a' $d)"; done
echo '== descriptors'; ls /proc/1/fd
echo '== environment'; tr '\0' '\n' < /proc/1/environ | sort
echo '== mounts'; cut -d' ' -f5,6 /proc/self/mountinfo
echo '== limits'; cut -c1-50 /proc/1/limits
"""


@dataclass(frozen=True)
class Confinement:
    """One container's."""

    capabilities: dict[str, int]
    flags: dict[str, str]
    writable: frozenset[str]
    devices: frozenset[str]
    descriptors: frozenset[str]
    environment: frozenset[str]
    mounts: frozenset[str]
    allowed_calls: frozenset[int]
    """x86-64 system calls that the filter lets pass whatever their arguments (all zero)."""


def observe(engine: Engine) -> Confinement:
    """Run a default container and look at it."""
    cli = CommandLine(engine, [docker_program()])
    name = "confined"
    cli.ok("run", "-d", "--name", name, "--hostname", "ship", "busybox", "sleep", "1000")
    try:
        sections: dict[str, list[str]] = {}
        for line in cli.ok("exec", name, "sh", "-c", _SCRIPT).splitlines():
            if line.startswith("== "):
                sections[line[3:]] = []
            else:
                list(sections.values())[-1].append(line)
        status = dict(line.split(":\t", 1) for line in sections["status"])
        pid = int(cli.ok("inspect", "-f", "{{.State.Pid}}", name))
        filters = seccomp_filters(pid)
        return Confinement(
            capabilities={key: int(value, 16) for key, value in status.items() if key.startswith("Cap")},
            flags={key: value for key, value in status.items() if not key.startswith("Cap")},
            writable=frozenset(sections["writable"]),
            devices=frozenset(sections["devices"]),
            descriptors=frozenset(sections["descriptors"]),
            environment=frozenset(sections["environment"]),
            mounts=frozenset(sections["mounts"]),
            allowed_calls=frozenset(number for number in range(470) if all(verdict(each, number) == _ALLOW for each in filters)),
        )
    finally:
        cli.ok("rm", "-f", name)


# ── seccomp: the filter as the kernel holds it ────────────────────────────────────────────────────────────────────────────────

_ALLOW = 0x7FFF0000
_X86_64 = 0xC000003E
_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def seccomp_filters(pid: int) -> list[list[tuple[int, int, int, int]]]:
    """The classic BPF programs in force on a process (ptrace(2), PTRACE_SECCOMP_GET_FILTER); an instruction: (code, jt, jf, k)."""
    _ptrace(_SEIZE, pid, 0, 0)
    try:
        _ptrace(_INTERRUPT, pid, 0, 0)
        os.waitpid(pid, 0x40000000)  # __WALL
        found: list[list[tuple[int, int, int, int]]] = []
        while True:
            try:
                count = _ptrace(_GET_FILTER, pid, len(found), 0)
            except FileNotFoundError:
                return found
            buffer = ctypes.create_string_buffer(count * 8)
            _ptrace(_GET_FILTER, pid, len(found), ctypes.addressof(buffer))
            found.append([struct.unpack_from("<HBBI", buffer, 8 * each) for each in range(count)])
    finally:
        _ptrace(_DETACH, pid, 0, 0)
        os.kill(pid, signal.SIGCONT)


def _ptrace(request: int, pid: int, address: int, data: int) -> int:
    result = int(_libc.ptrace(request, pid, address, data))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"ptrace {request:#x}")
    return result


def verdict(program: list[tuple[int, int, int, int]], number: int) -> int:
    """What a filter answers to a call of that number with all arguments zero: bpf(4) in the few words that seccomp has of it."""
    accumulator = index = place = 0
    memory = [0] * 16
    while True:
        code, if_true, if_false, k = program[place]
        place += 1
        kind = code & 7
        if kind == 0:  # load
            accumulator = memory[k] if code & 0xE0 == 0x60 else k if code & 0xE0 == 0 else {0: number, 4: _X86_64}.get(k, 0)
        elif kind == 1:
            index = k if code & 0xE0 == 0 else memory[k]
        elif kind == 2:
            memory[k] = accumulator
        elif kind == 3:
            memory[k] = index
        elif kind == 4:
            operand = index if code & 8 else k
            operation = code & 0xF0
            accumulator = {
                0x00: accumulator + operand,
                0x10: accumulator - operand,
                0x40: accumulator | operand,
                0x50: accumulator & operand,
                0xA0: accumulator ^ operand,
            }[operation] & 0xFFFFFFFF
        elif kind == 5:
            operand = index if code & 8 else k
            operation = code & 0xF0
            if operation == 0:
                place += k
            else:
                taken = {0x10: accumulator == operand, 0x20: accumulator > operand, 0x30: accumulator >= operand}.get(
                    operation, bool(accumulator & operand)
                )
                place += if_true if taken else if_false
        elif kind == 6:
            return accumulator if code & 0x18 == 0x10 else k
        elif code & 0xF8 == 0:
            index = accumulator
        else:
            accumulator = index


# ── side by side ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def side_by_side(left: Confinement, right: Confinement, names: tuple[str, str]) -> str:
    """Both as a table: what both have, and what one has alone."""
    lines = [f"{'':<22}{names[0]:<24}{names[1]}"]
    for key in left.capabilities:
        lines.append(f"{key:<22}{left.capabilities[key]:<24x}{right.capabilities.get(key, 0):x}")
    for key in left.flags:
        lines.append(f"{key:<22}{left.flags[key]:<24}{right.flags.get(key, '')}")
    for field in ("allowed_calls", "writable", "devices", "descriptors", "environment", "mounts"):
        mine, theirs = getattr(left, field), getattr(right, field)
        lines.append(f"{field:<22}{len(mine):<24}{len(theirs)}")
        lines += [f"    only {names[0]}: {each}" for each in sorted(mine - theirs, key=str)]
        lines += [f"    only {names[1]}: {each}" for each in sorted(theirs - mine, key=str)]
    return "\n".join(lines)


def main() -> None:
    from tests.conftest import EnginePool, Images
    from tests.rig.archives import Recipe, busybox_entries, tar

    rootfs = tar(busybox_entries())
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    pool = EnginePool(Images(rootfs, Recipe((rootfs,), ("busybox:latest",), {"Cmd": ["sh"], "Env": [path]}, ("busybox",))))
    try:
        ours, theirs = observe(pool.shared("carrackd")), observe(pool.shared("dockerd"))
        sys.stdout.write(side_by_side(ours, theirs, ("carrackd", "dockerd")) + "\n")
    finally:
        pool.close()


if __name__ == "__main__":
    main()

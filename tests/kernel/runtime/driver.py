"""A single-threaded program that makes one container with the real runtime and tells as JSON what came of it.

The tests run it in a process of its own, because pytest's may have threads and a raw fork must not. See `conftest.py`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

import msgspec

from carrack.kernel import mount, process
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import Process, RuntimeSpec
from carrack.runtime import cgroups, seccomp
from carrack.runtime.create import Creation, StartFailed, Stdio, create, enter, prepare


class Wanted(msgspec.Struct):
    spec: RuntimeSpec
    lower: tuple[str, ...]
    upper: str
    work: str
    cgroup: str
    execs: tuple[Process, ...] = ()
    keep_init: bool = False
    """Init is killed once the execs are done, instead of awaited."""
    abandon: bool = False
    old_kernel: bool = False
    """Behave as on Linux before 6.5: no `lowerdir+`."""
    typed: bytes = b""
    """What is written to the console once the program has said something."""


class Ended(msgspec.Struct):
    status: int = -1
    output: str = ""
    error: str = ""
    exit_code: int = 0
    kind: str = ""
    cause: str = ""
    oom_kills: int = 0


class Told(msgspec.Struct):
    init: Ended
    execs: list[Ended]
    warnings: list[str] = []
    cgroup_left: bool = False
    pid: int = 0


def main() -> None:
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    process.set_dumpable(False)
    prepare()
    _forget_how_to_import()
    if wanted.old_kernel:
        _pretend_to_be_old()
    told = _make(wanted)
    sys.stdout.buffer.write(msgspec.json.encode(told))


def _forget_how_to_import() -> None:
    """Law 1, as a zygote keeps it: whatever makes a container, or execs into one, was imported before."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _pretend_to_be_old() -> None:
    configure = mount.configure

    def old(context_fd: int, key: str, value: str | None = None) -> None:
        if key == "lowerdir+":
            raise OSError(22, "Invalid argument", key)
        configure(context_fd, key, value)

    mount.configure = old


def _make(wanted: Wanted) -> Told:
    spec = wanted.spec
    resources = spec.linux.resources if spec.linux else None
    plan = cgroups.plan(wanted.cgroup, resources)
    filter_bytes = seccomp.compile(spec.linux.seccomp) if spec.linux and spec.linux.seccomp else b""
    root = Mount("overlay", "overlay", "", (f"upperdir={wanted.upper}", f"workdir={wanted.work}"), wanted.lower)
    reader, writer = os.pipe()
    told = Told(Ended(), [])
    try:
        creation = create(
            spec, rootfs=(root,), cgroup=plan, stdio=Stdio(-1, writer, writer), seccomp_filter=filter_bytes, container_id="test"
        )
        told.pid = creation.pid
        if wanted.abandon:
            creation.abandon()
        else:
            _live(wanted, creation, reader, writer, told, filter_bytes)
    except StartFailed as failure:
        told.init = _failed(failure)
    told.cgroup_left = any(os.path.exists(f"{each.mountpoint}{plan.path}") for each in plan.layout.hierarchies)
    return told


def _failed(failure: StartFailed) -> Ended:
    return Ended(error=failure.message, exit_code=failure.exit_code, kind=failure.kind, cause=failure.cause)


def _live(wanted: Wanted, creation: Creation, reader: int, writer: int, told: Told, filter_bytes: bytes) -> None:
    creation.ready()
    creation.go()
    os.close(writer)
    told.warnings = creation.warnings
    for each in wanted.execs:
        told.execs.append(_exec(creation, each, filter_bytes))
    if wanted.keep_init:
        process.send_signal(creation.pidfd, signal.SIGKILL)
    source = creation.console_fd if creation.console_fd >= 0 else reader
    output = ""
    if wanted.typed:
        output = os.read(source, 4096).decode()
        os.write(source, wanted.typed)
    output += _read_all(source)
    told.init = Ended(_reap(creation.pidfd), output, oom_kills=creation.cgroup.out_of_memory_kills())
    creation.cgroup.remove()


def _exec(creation: Creation, wanted: Process, filter_bytes: bytes) -> Ended:
    reader, writer = os.pipe()
    try:
        entered = enter(
            creation.pidfd, wanted, cgroup=creation.cgroup, stdio=Stdio(-1, writer, writer), seccomp_filter=filter_bytes
        )
    except StartFailed as failure:
        return _failed(failure)
    os.close(writer)
    output = _read_all(entered.console_fd if entered.console_fd >= 0 else reader)
    return Ended(_reap(entered.pidfd), output)


def _read_all(fd: int) -> str:
    output = b""
    deadline = time.monotonic() + 30
    while select.select((fd,), (), (), deadline - time.monotonic())[0]:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    return output.decode()


def _reap(pidfd: int) -> int:
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


if __name__ == "__main__":
    main()

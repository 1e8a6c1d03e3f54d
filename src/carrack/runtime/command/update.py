"""`update`: new limits for a running container."""

from __future__ import annotations

import sys

import msgspec

from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.oci.runtime_spec import BlockIOLimits, CpuLimits, Linux, MemoryLimits, PidsLimit, Resources
from carrack.runtime.command.arguments import Arguments, flag
from carrack.runtime.command.lifecycle import one_identifier
from carrack.runtime.command.store import Store

UPDATE_FLAGS = (
    flag("resources r"),
    *(
        flag(name)
        for name in (
            "blkio-weight",
            "cpu-period",
            "cpu-quota",
            "cpu-burst",
            "cpu-share",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cpu-idle",
            "cpuset-cpus",
            "cpuset-mems",
            "kernel-memory",
            "kernel-memory-tcp",
            "memory",
            "memory-reservation",
            "memory-swap",
            "pids-limit",
        )
    ),
)

_SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def update(store: Store, arguments: Arguments) -> int:
    """`update ID`: other limits for a container that runs, kept for its record. Raises Conflict."""
    container = store.get(one_identifier(arguments))
    if container.status() == "stopped":
        raise Conflict("container not running")
    linux = container.record.spec.linux or Linux()
    resources = _wanted(arguments)
    for warning in container.cgroup().update(_complete(resources, linux.resources or Resources())):
        sys.stderr.write(f"{warning}\n")
    merged = merge(linux.resources or Resources(), resources)
    spec = msgspec.structs.replace(container.record.spec, linux=msgspec.structs.replace(linux, resources=merged))
    container.record = msgspec.structs.replace(container.record, spec=spec)
    store.save(container)
    return 0


def _wanted(arguments: Arguments) -> Resources:
    path = arguments.text("resources")
    if path:
        try:
            if path == "-":
                return msgspec.json.decode(sys.stdin.buffer.read(), type=Resources)
            with open(path, "rb") as file:
                return msgspec.json.decode(file.read(), type=Resources)
        except FileNotFoundError:
            raise NotFound(f"open {path}: no such file or directory") from None
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"{path}: {error}") from None
    return _of_flags(arguments)


def _of_flags(arguments: Arguments) -> Resources:
    cpu = CpuLimits(
        shares=arguments.number("cpu-share"),
        quota=arguments.number("cpu-quota"),
        burst=arguments.number("cpu-burst"),
        period=arguments.number("cpu-period"),
        realtime_runtime=arguments.number("cpu-rt-runtime"),
        realtime_period=arguments.number("cpu-rt-period"),
        idle=arguments.number("cpu-idle"),
        cpus=arguments.text("cpuset-cpus"),
        mems=arguments.text("cpuset-mems"),
    )
    memory = MemoryLimits(
        limit=_size(arguments, "memory"),
        reservation=_size(arguments, "memory-reservation"),
        swap=_size(arguments, "memory-swap"),
        kernel=_size(arguments, "kernel-memory"),
        kernel_tcp=_size(arguments, "kernel-memory-tcp"),
    )
    pids = arguments.number("pids-limit")
    weight = arguments.number("blkio-weight")
    return Resources(
        cpu=cpu if cpu != CpuLimits() else None,
        memory=memory if memory != MemoryLimits() else None,
        pids=PidsLimit(pids) if pids is not None else None,
        block_io=BlockIOLimits(weight=weight) if weight else None,
    )


def _size(arguments: Arguments, name: str) -> int | None:
    """Bytes, with Docker's suffixes: ``64m``, ``1GiB``; -1: no limit."""
    if not arguments.has(name):
        return None
    text = arguments.text(name).strip().lower()
    if text == "-1":
        return -1
    number = text.rstrip("bitkmgp")
    suffix = text[len(number) :].replace("ib", "").rstrip("b")
    try:
        return int(float(number) * _SUFFIXES[suffix])
    except (ValueError, KeyError):
        raise InvalidParameter(f"invalid value for {name}: invalid size: '{text}'") from None


def _complete(change: Resources, present: Resources) -> Resources:
    """What one file of the kernel holds together is written together: quota with its period, memory with its swap."""
    cpu, memory = change.cpu, change.memory
    if cpu and present.cpu and (cpu.quota is None) != (cpu.period is None):
        cpu = msgspec.structs.replace(cpu, quota=cpu.quota or present.cpu.quota, period=cpu.period or present.cpu.period)
    if memory and present.memory and memory.swap is not None and memory.limit is None:
        memory = msgspec.structs.replace(memory, limit=present.memory.limit)
    return msgspec.structs.replace(change, cpu=cpu, memory=memory)


def merge(present: Resources, change: Resources) -> Resources:
    """`present` with everything that `change` says."""
    return msgspec.structs.replace(
        present,
        **{
            name: _merged(getattr(present, name), value)
            for name in present.__struct_fields__
            if (value := getattr(change, name)) not in (None, ())
        },
    )


def _merged(present: object, change: object) -> object:
    if not isinstance(change, msgspec.Struct) or not isinstance(present, msgspec.Struct):
        return change
    said = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) not in (None, (), "", False)}
    return msgspec.structs.replace(present, **said)

"""`carrack update`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.containers.spec import read_restart_policy
from carrack.cli.failure import CommandFailure
from carrack.cli.values import read_swap_bytes
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_NUMBERS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "kernel-memory": "KernelMemory",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
}


def build_update(parsed: Parsed) -> dict[str, Any]:
    """The body of POST /containers/{id}/update. Raises CommandFailure."""
    document: dict[str, Any] = {
        field: parsed.number(flag) for flag, field in _NUMBERS.items() if flag != "kernel-memory" or parsed.changed(flag)
    }
    document["CpusetCpus"] = parsed.text("cpuset-cpus")
    document["CpusetMems"] = parsed.text("cpuset-mems")
    # what `update` has no flag for is null, which the daemon takes as "leave it"
    lists = ("WeightDevice", "DeviceReadBps", "DeviceWriteBps", "DeviceReadIOps", "DeviceWriteIOps")
    document.update(dict.fromkeys([f"Blkio{name}" for name in lists]))
    unset = ("DeviceCgroupRules", "DeviceRequests", "Devices", "MemorySwappiness", "OomKillDisable", "Ulimits")
    document.update(dict.fromkeys(unset))
    document.update(CgroupParent="", CpuCount=0, CpuPercent=0, IOMaximumBandwidth=0, IOMaximumIOps=0)
    document["PidsLimit"] = parsed.number("pids-limit") or None
    try:
        policy = read_restart_policy(parsed.text("restart"))
    except ValueError as error:
        raise CommandFailure(str(error)) from None
    document["RestartPolicy"] = policy
    return document


def _update(session: Session, parsed: Parsed) -> None:
    if not any(parsed.changed(flag) for flag in (*_NUMBERS, "cpuset-cpus", "cpuset-mems", "pids-limit", "restart")):
        raise CommandFailure("you must provide one or more flags when using this command")
    document = build_update(parsed)
    warnings: list[str] = []
    failures: list[str] = []
    for name in parsed.arguments:
        try:
            answer = session.engine.json("POST", container_path(name, "/update"), document=document)
        except CarrackError as error:
            failures.append(str(error))
            continue
        session.out.line(name)
        warnings.extend((answer or {}).get("Warnings") or ())
    if warnings:
        session.out.line("\n".join(warnings))
    if failures:
        raise CommandFailure("\n".join(failures))


COMMANDS = (
    Command(
        "container update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Change the limits of containers",
        _update,
        at_least=1,
        aliases="container update, update",
        checks={"memory-swap": read_swap_bytes},
        flags="""
            --blkio-weight uint16      Relative weight of block IO, 10 to 1000, or 0 for none (default 0)
            --cpu-period int           CFS period in microseconds
            --cpu-quota int            CFS quota in microseconds
            --cpu-rt-period int@1.25        Real-time period in microseconds
            --cpu-rt-runtime int@1.25       Real-time runtime in microseconds
        -c, --cpu-shares int           Relative weight of CPU time
            --cpus decimal@1.29             Number of CPUs
            --cpuset-cpus string       CPUs the container may use (0-3, 0,1)
            --cpuset-mems string       Memory nodes the container may use (0-3, 0,1)
            --kernel-memory bytes!     Kernel memory limit
        -m, --memory bytes             Memory limit
            --memory-reservation bytes Memory soft limit
            --memory-swap bytes        Limit of memory and swap together, -1 for unlimited swap
            --pids-limit int@1.40           Number of processes it may have (-1 for unlimited)
            --restart string           What to do when it exits
        """,
    ),
)

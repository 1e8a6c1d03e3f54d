"""state, list, ps, events, pause, resume: looking at containers, and stopping the clock for one."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from datetime import timedelta

from carrack.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from carrack.runtime.cgroups import Statistics
from carrack.runtime.command.arguments import Arguments, flag
from carrack.runtime.command.lifecycle import one_identifier
from carrack.runtime.command.store import Container, Store

LIST_FLAGS = (flag("format f"), flag("quiet q", value=False))
PS_FLAGS = (flag("format f"),)
EVENTS_FLAGS = (flag("interval"), flag("stats", value=False))


def _state(container: Container) -> dict[str, object]:
    record = container.record
    status = container.status()
    document: dict[str, object] = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": 0 if status == "stopped" else record.pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": "root",
    }
    if record.spec.annotations:
        document["annotations"] = record.spec.annotations
    return document


def state(store: Store, arguments: Arguments) -> int:
    """`state ID`: the OCI state as JSON."""
    document = _state(store.get(one_identifier(arguments)))
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0


def list_containers(store: Store, arguments: Arguments) -> int:
    """`list`: every container of the store."""
    documents = [_state(container) for container in store.list()]
    if arguments.on("quiet"):
        sys.stdout.writelines(f"{each['id']}\n" for each in documents)
    elif arguments.text("format", "table") == "json":
        sys.stdout.write(json.dumps(documents or None, separators=(",", ":")) + "\n")
    elif arguments.text("format", "table") == "table":
        rows: list[tuple[str, ...]] = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
        rows += [tuple(str(each[key]) for key in ("id", "pid", "status", "bundle", "created", "owner")) for each in documents]
        _table(rows)
    else:
        raise InvalidParameter("invalid format option")
    return 0


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("".join(text.ljust(width) for text, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n")


def processes(store: Store, arguments: Arguments) -> int:
    """`ps`: the container's processes as the host's ps(1) shows them, or their numbers as JSON."""
    container = store.get(one_identifier(arguments))
    pids = container.cgroup().processes()
    chosen = arguments.text("format", "table")
    if chosen == "json":
        sys.stdout.write(json.dumps(pids, separators=(",", ":")) + "\n")
        return 0
    if chosen != "table":
        raise InvalidParameter("invalid format option")
    command = ["ps", *(arguments.positional[1:] or ["-ef"])]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except FileNotFoundError:
        raise SystemFailure('exec: "ps": executable file not found in $PATH') from None
    except subprocess.CalledProcessError as error:
        raise SystemFailure(f"exit status {error.returncode}: {error.stderr.strip()}") from None
    _print_of(shown, pids)
    return 0


def _print_of(lines: list[str], pids: list[int]) -> None:
    header = lines[0].split()
    if "PID" not in header:
        raise SystemFailure("couldn't find PID field in ps output")
    column = header.index("PID")
    sys.stdout.write(lines[0] + "\n")
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            sys.stdout.write(line + "\n")


def pause(store: Store, arguments: Arguments) -> int:
    """`pause ID`. Raises Conflict when it does not run."""
    container = store.get(one_identifier(arguments))
    status = container.status()
    if status not in ("running", "created"):
        raise Conflict(f"container not running or created: {status}")
    container.cgroup().freeze()
    return 0


def resume(store: Store, arguments: Arguments) -> int:
    """`resume ID`. Raises Conflict when it is not paused."""
    container = store.get(one_identifier(arguments))
    if container.status() != "paused":
        raise Conflict("container not paused")
    container.cgroup().thaw()
    return 0


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def events(store: Store, arguments: Arguments) -> int:
    """Statistics every interval and out-of-memory events, one JSON document a line, until the container ends."""
    container = store.get(one_identifier(arguments))
    interval = seconds_of(arguments.text("interval", "5s"))
    if interval <= 0:
        raise InvalidParameter("duration interval must be greater than 0")
    if container.status() == "stopped":
        raise NotFound(f"container with id {container.record.id} is not running")
    if arguments.on("stats"):
        _event(container, "stats", statistics_document(container.cgroup().statistics()))
        return 0
    _follow(container, interval)
    return 0


def _follow(container: Container, interval_seconds: float) -> None:
    watch = container.cgroup().watch_out_of_memory()
    pidfd = os.pidfd_open(container.record.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if watch >= 0:
        poll.register(watch, select.POLLIN)
    due = time.monotonic() + interval_seconds
    while True:
        ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000))
        if watch in ready:
            os.read(watch, 4096)
            if container.status() != "stopped":
                _event(container, "oom", None)
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            _event(container, "stats", statistics_document(container.cgroup().statistics()))
            due += interval_seconds


def _event(container: Container, kind: str, document: object) -> None:
    event: dict[str, object] = {"type": kind, "id": container.record.id}
    if document is not None:
        event["data"] = document
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def seconds_of(text: str) -> float:
    """A Go duration such as ``1m30s`` or ``100ms``. Raises InvalidParameter."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    total, number, unit = timedelta(), "", ""
    for letter in text + "0":
        if letter.isdigit() or letter == ".":
            if unit:
                if unit not in units or not number:
                    raise InvalidParameter(f'invalid duration "{text}"')
                total += timedelta(seconds=float(number) * units[unit])
                number, unit = "", ""
            number += letter
        else:
            unit += letter
    if number != "0" or not text:
        raise InvalidParameter(f'invalid duration "{text}"')
    return total.total_seconds()


def statistics_document(reading: Statistics) -> dict[str, object]:
    """runc's JSON of a reading."""
    memory: dict[str, object] = {
        "usage": {
            "limit": reading.memory_limit_bytes or (1 << 63) - 1,
            "usage": reading.memory_usage_bytes,
            "max": reading.memory_peak_bytes,
            "failcnt": reading.memory_failures,
        },
        "swap": {"limit": reading.swap_limit_bytes, "usage": reading.swap_usage_bytes, "failcnt": 0},
        "kernel": {"limit": 0, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": reading.memory,
    }
    usage = {
        "total": reading.cpu_total_nanoseconds,
        "percpu": list(reading.cpu_each_nanoseconds),
        "kernel": reading.cpu_kernel_nanoseconds,
        "user": reading.cpu_user_nanoseconds,
    }
    throttling = {
        "periods": reading.throttling_periods,
        "throttledPeriods": reading.throttled_periods,
        "throttledTime": reading.throttled_nanoseconds,
    }
    blocks = [
        {"major": each.major, "minor": each.minor, "op": each.operation, "value": each.value} for each in reading.io_service_bytes
    ]
    return {
        "cpu": {"usage": usage, "throttling": throttling},
        "memory": memory,
        "pids": {"current": reading.pids, "limit": reading.pids_limit},
        "blkio": {"ioServiceBytesRecursive": blocks},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }

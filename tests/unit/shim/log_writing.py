"""Logs written as a shim writes them, for the tests of what is on disk and of the readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from mmap import mmap
from pathlib import Path

from carrack.shim.aside import compress
from carrack.shim.framing import STDOUT
from carrack.shim.logs.opening import open_log
from carrack.shim.logs.reader import read
from carrack.shim.logs.record import LogRecord, LogRequest
from carrack.shim.logs.writer import Log
from carrack.shim.messages import LogPlan

SECOND = 1_000_000_000
BUFFER = mmap(-1, 64 * 1024)
DRIVERS = ("local", "json-file")


def plan(directory: Path, driver: str, **options: object) -> LogPlan:
    return LogPlan(driver=driver, path=str(directory / "container.log"), **options)  # type: ignore[arg-type]


def compress_now(source_fd: int, target: str, done: Callable[[bool], None]) -> None:
    compress(source_fd, target)
    done(True)


def write(log: Log, *reads: bytes, stream: int = STDOUT, at: int = SECOND) -> None:
    """Each read as one read of the container's output; the n-th happens n seconds after `at`."""
    for number, content in enumerate(reads):
        BUFFER[: len(content)] = content
        log.write(stream, BUFFER, len(content), at + number * SECOND)


def written(wanted: LogPlan, *reads: bytes) -> None:
    """A whole log of one stream."""
    log = open_log(wanted, compress_now)
    write(log, *reads)
    log.flush(SECOND * 1000)
    log.close()


def lines(records: Iterable[LogRecord]) -> list[bytes]:
    return [record.line for record in records]


def read_lines(wanted: LogPlan, **request: object) -> list[bytes]:
    return lines(read(wanted, LogRequest(**request)))  # type: ignore[arg-type]

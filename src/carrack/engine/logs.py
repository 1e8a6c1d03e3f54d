"""Logs for those who ask: read from disk here, followed in the shim. Blocking parts run in pool threads."""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator, Callable

from carrack.engine import log_options
from carrack.engine.container import Container
from carrack.engine.streams import MULTIPLEXED, RAW, AttachOptions, LogOptions
from carrack.engine.threads import stream_from_thread
from carrack.shim.logs.reader import read_rendered
from carrack.shim.logs.record import LogRequest, Rendering
from carrack.shim.messages import FollowLogs

REPLAY_SECONDS = 30.0
"""How long a client that attaches to a stopped container may take for each block of its old output."""


def content_type(container: Container) -> str:
    return RAW if container.config.tty else MULTIPLEXED


def follow_order(options: LogOptions) -> Callable[[int], FollowLogs]:
    """What a shim is asked for `logs -f`."""
    return lambda sequence: FollowLogs(
        sequence,
        stdout=options.stdout,
        stderr=options.stderr,
        since_nanoseconds=options.since_nanoseconds,
        until_nanoseconds=options.until_nanoseconds,
        tail=options.tail,
        timestamps=options.timestamps,
        details=options.details,
    )


def read(container: Container, options: LogOptions) -> AsyncIterator[bytes]:
    """What is on disk, as blocks of the stream a client gets."""
    request = LogRequest(
        stdout=options.stdout,
        stderr=options.stderr,
        since_nanoseconds=options.since_nanoseconds,
        until_nanoseconds=options.until_nanoseconds,
        tail=options.tail,
    )
    how = Rendering(framed=not container.config.tty, timestamps=options.timestamps, details=options.details)
    return stream_from_thread(read_rendered(log_options.plan(container), request, how))


def replay(container: Container, fd: int, options: AttachOptions) -> None:
    """Write the old output to a client that attaches to a container that does not run. Blocking; a gone client is no error."""
    if container.log_driver == "none":
        return
    request = LogRequest(stdout=options.stdout, stderr=options.stderr)
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    for block in read_rendered(log_options.plan(container), request, Rendering(framed=not container.config.tty)):
        view = memoryview(block)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                if not waiting.poll(REPLAY_SECONDS * 1000):
                    return
            except OSError:
                return

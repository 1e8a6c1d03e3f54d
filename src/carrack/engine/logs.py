"""Logs for those who ask: read from disk here, followed in the shim. Blocking parts run in pool threads."""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator, Callable

from carrack.engine import log_options
from carrack.engine.container import Container
from carrack.engine.streams import MULTIPLEXED, RAW, AttachOptions, LogOptions
from carrack.engine.threads import in_thread, stream_from_thread
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


async def read(container: Container, options: LogOptions) -> AsyncIterator[bytes]:
    """What is on disk now, as blocks of the stream a client gets, even if the container is removed before they are fetched."""
    request = LogRequest(
        stdout=options.stdout,
        stderr=options.stderr,
        since_nanoseconds=options.since_nanoseconds,
        until_nanoseconds=options.until_nanoseconds,
        tail=options.tail,
    )
    how = Rendering(framed=not container.config.tty, timestamps=options.timestamps, details=options.details)
    return stream_from_thread(await in_thread(read_rendered, log_options.plan(container), request, how))


async def give_rest(container: Container, options: LogOptions, fd: int) -> None:
    """The whole log to a client of `logs -f` whose container ended at this very moment: HTTP chunks, and their end. Takes `fd`."""
    try:
        try:
            async for block in await read(container, options):
                await in_thread(_write_all, fd, b"%x\r\n%b\r\n" % (len(block), block))
        finally:
            await in_thread(_write_all, fd, b"0\r\n\r\n")
    except (OSError, TimeoutError):
        pass  # the client has gone, or does not read
    finally:
        os.close(fd)


def replay(container: Container, fd: int, options: AttachOptions) -> None:
    """Write the old output to a client that attaches to a container that does not run. Blocking; a gone client is no error."""
    if container.log_driver == "none":
        return
    request = LogRequest(stdout=options.stdout, stderr=options.stderr)
    try:
        for block in read_rendered(log_options.plan(container), request, Rendering(framed=not container.config.tty)):
            _write_all(fd, block)
    except (OSError, TimeoutError):
        return


def _write_all(fd: int, content: bytes) -> None:
    """Write to a client that may be slow. Blocking. Raises OSError when it has gone, TimeoutError when it does not read."""
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    view = memoryview(content)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            if not waiting.poll(REPLAY_SECONDS * 1000):
                raise TimeoutError from None

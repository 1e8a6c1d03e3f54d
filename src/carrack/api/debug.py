"""The daemon looked at from inside: `GET /debug/…`, at Docker's paths. Texts for people: Go's binary profiles have no meaning here.

Whoever reaches the socket is root on this host already, so nothing here is secret from them.
"""

from __future__ import annotations

import asyncio
import gc
import io
import os
import resource
import sys
import threading
import traceback
from collections import Counter

from carrack.api.json import reply
from carrack.api.router import Route
from carrack.errors import InvalidParameter, NotFound
from carrack.http import Request, Response

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_PROFILES = {
    "goroutine": "stacks of every thread and task",
    "heap": "objects by type",
    "threadcreate": "threads",
}
_LONGEST_SECONDS = 300
_INTERVAL_SECONDS = 0.01


def routes() -> list[Route]:
    """Without a version, and since 1.48 with one."""
    return [
        Route("GET", "/debug/vars", variables),
        Route("GET", "/debug/pprof/", index),
        Route("GET", "/debug/pprof/cmdline", command_line),
        Route("GET", "/debug/pprof/profile", profile),
        Route("GET", "/debug/pprof/symbol", symbol),
        Route("GET", "/debug/pprof/trace", profile),
        Route("GET", "/debug/pprof/{name}", snapshot),
    ]


async def variables(request: Request) -> Response:
    """What Go's expvar shows: the command line, and figures of memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    memory = {
        "Sys": used.ru_maxrss * 1024,
        "NumGC": sum(generation["collections"] for generation in gc.get_stats()),
        "HeapObjects": len(gc.get_objects()),
    }
    return reply({"cmdline": _words(), "memstats": memory, "threads": threading.active_count(), "tasks": len(asyncio.all_tasks())})


async def index(request: Request) -> Response:
    """The profiles there are."""
    lines = [f"{name}\t{told}\n" for name, told in _PROFILES.items()]
    return Response(200, "".join([*lines, "profile\ta sampled profile, as folded stacks (?seconds=30)\n"]).encode(), _TEXT)


async def command_line(request: Request) -> Response:
    return Response(200, "\0".join(_words()).encode(), _TEXT)


async def symbol(request: Request) -> Response:
    """Addresses have no names here: stacks are written with theirs."""
    return Response(200, b"num_symbols: 0\n", _TEXT)


async def profile(request: Request) -> Response:
    """Where the threads were, looked at a hundred times a second: `stack count` per line, as flame graphs are made of."""
    seconds = request.query.integer("seconds")
    seconds = 30 if seconds is None else seconds
    if not 1 <= seconds <= _LONGEST_SECONDS:
        raise InvalidParameter(f"invalid number of seconds {seconds}: want 1 to {_LONGEST_SECONDS}")
    stacks: Counter[str] = Counter()
    ended = threading.Event()
    threading.Thread(target=_sample, args=(stacks, ended), name="profile", daemon=True).start()
    try:
        await asyncio.wait_for(request.disconnected.wait(), seconds)
    except TimeoutError:
        pass
    finally:
        ended.set()
    lines = [f"{stack} {count}\n" for stack, count in Counter(stacks).most_common()]
    return Response(200, "".join(lines).encode(), _TEXT)


async def snapshot(request: Request) -> Response:
    """A profile of this moment."""
    name = request.params["name"]
    if name not in _PROFILES:
        raise NotFound(f"Unknown profile: {name}")
    text = {"goroutine": _stacks, "heap": _objects, "threadcreate": _threads}[name]()
    return Response(200, text.encode(), _TEXT)


def _words() -> list[str]:
    with open("/proc/self/cmdline", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]


def _threads() -> str:
    return "".join(f"{thread.name} {thread.native_id}\n" for thread in threading.enumerate())


def _objects() -> str:
    counts = Counter(type(each).__qualname__ for each in gc.get_objects())
    return "".join(f"{count} {name}\n" for name, count in counts.most_common(100))


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    text = io.StringIO()
    for ident, frame in sys._current_frames().items():
        text.write(f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}\n")
    for task in asyncio.all_tasks():
        text.write(f"task {task.get_name()}\n")
        task.print_stack(file=text)
        text.write("\n")
    return text.getvalue()


def _sample(stacks: Counter[str], ended: threading.Event) -> None:
    own = threading.get_ident()
    while not ended.wait(_INTERVAL_SECONDS):
        for ident, frame in sys._current_frames().items():
            if ident != own:
                stack = traceback.extract_stack(frame)
                stacks[";".join(f"{each.name} ({os.path.basename(each.filename)}:{each.lineno})" for each in stack)] += 1

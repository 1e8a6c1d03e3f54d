"""inotify(7), as far as cgroup event files need it."""

from __future__ import annotations

import os

from carrack.kernel.libc import c_char_p, c_int, check, failure, libc

_IN_MODIFY = 2

_inotify_init1 = libc["inotify_init1"]
_inotify_init1.argtypes = (c_int,)
_inotify_add_watch = libc["inotify_add_watch"]
_inotify_add_watch.argtypes = (c_int, c_char_p, c_int)


def watch_modified(path: str) -> int:
    """A non-blocking descriptor that becomes readable whenever the file at `path` is modified. Raises FileNotFoundError."""
    fd = check(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
    if _inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
        error = failure(path)
        os.close(fd)
        raise error
    return fd

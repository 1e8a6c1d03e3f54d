"""One path of a container, told of and packed, from inside a worker that is shut in there. Docker's path rules, as of `docker cp`.

`link` is the link itself, `link/` and `link/.` what it leads to; the archive's entries begin with the last component asked for,
`.` for `dir/.`. So the same words give the same names whether the answer goes to a client that renames or to one that does not.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from carrack.archive.writer import TreeWriter
from carrack.errors import InvalidParameter, NotFound, SystemFailure
from carrack.kernel import paths
from carrack.shim.messages import PathFacts, ReadPath, WorkerDone
from carrack.shim.pack_tree import Output


def read_path(job: ReadPath, root_fd: int, target_fd: int, tell: Callable[[PathFacts], None]) -> WorkerDone:
    """Tell the facts and, when asked, write the archive to `target_fd`. Raises NotFound, InvalidParameter, SystemFailure."""
    asked = absolute(job.path)
    try:
        parent, base = locate(asked)
        parent_fd = paths.open_in(root_fd, parent, os.O_RDONLY | os.O_DIRECTORY)
        status = os.stat(base, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        raise NotFound(asked) from None
    except NotADirectoryError:
        raise InvalidParameter(f"{asked}: not a directory") from None
    except OSError as error:
        raise SystemFailure(f"{asked}: {error.strerror}") from error
    name = base_name(asked)
    target = os.path.realpath(asked) if stat.S_ISLNK(status.st_mode) else ""
    tell(PathFacts(_text(name), status.st_size, status.st_mode, status.st_mtime_ns, _text(target)))
    if not job.archive:
        return WorkerDone()
    writer = TreeWriter(parent_fd, whole_seconds=True)
    output = Output(target_fd)
    for piece in writer.stream_entry(os.fsencode(base), os.fsencode(name)):
        output.add(piece)
    output.finish()
    return WorkerDone(output.digest, writer.size_bytes, writer.entries, output.bytes)


def absolute(path: str) -> str:
    """A cleaned path from the root, that still ends with ``/`` or ``/.`` when it did."""
    cleaned = os.path.normpath("/" + path.lstrip("/"))
    if path.endswith("/.") or path == ".":
        return cleaned.rstrip("/") + "/."
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def locate(asked: str) -> tuple[str, str]:
    """(the directory of an absolute path with its links resolved, the component in it); the component is ``.`` for ``dir/``."""
    parent, _, base = asked.rpartition("/")
    return os.path.realpath(parent or "/"), base or "."


def base_name(asked: str) -> str:
    """The last component as Go's filepath.Base has it: of ``/a/`` it is ``a``, of ``/a/.`` it is ``.``, of ``/`` it is ``/``."""
    return asked.rstrip("/").rpartition("/")[2] or "/"


def _text(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")

"""A build context as it comes in one tar: unpacked by a confined worker into a folder that lives as long as the build."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from carrack.build.cancellation import Cancellation
from carrack.build.ports import FileTrees, LocalContext, Pinned, RemoteSource, Tree
from carrack.build.stacks import StartJob, run_job, tree_of
from carrack.errors import NotFound, NotImplementedHere
from carrack.shim.messages import UnpackLayer

_PIECE_BYTES = 1 << 18


class UnpackedContext:
    """A context in a folder of its own."""

    def __init__(self, directory: Path, files: FileTrees, throw: Callable[[Path], None]) -> None:
        self._directory = directory
        self._files = files
        self._throw = throw

    @property
    def key(self) -> str:
        return ""

    def tree(self, ignore: Sequence[str] = ()) -> Tree:
        return tree_of(self._directory)

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        try:
            return self._files.read(self.tree(), path, limit_bytes, Cancellation())
        except NotFound:
            return None

    def close(self) -> None:
        self._throw(self._directory)


class TarContexts:
    """Receives contexts below `root`."""

    def __init__(
        self, root: Path, start: StartJob, files: FileTrees, throw: Callable[[Path], None], free_bytes: Callable[[], int]
    ) -> None:
        self._root = root
        self._start = start
        self._files = files
        self._throw = throw
        self._free_bytes = free_bytes

    def receive_tar(self, body: Callable[[int], bytes], cancel: Cancellation) -> LocalContext:
        """See `ports.Contexts.receive_tar`."""
        directory = self._root / f"context-{os.urandom(12).hex()}"
        directory.mkdir(mode=0o755)
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        target_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        failures: list[BaseException] = []

        def feed() -> None:
            try:
                while piece := body(_PIECE_BYTES):
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(write_fd, view) :]
            except BrokenPipeError:
                while body(_PIECE_BYTES):  # the archive has ended before the body
                    pass
            except BaseException as error:
                failures.append(error)
            finally:
                os.close(write_fd)

        feeder = threading.Thread(target=feed, name="context")
        feeder.start()
        try:
            try:
                run_job(self._start, UnpackLayer(self._free_bytes()), (read_fd, target_fd), cancel)
            finally:
                os.close(read_fd)
                os.close(target_fd)
                feeder.join()
            if failures:
                raise failures[0]
        except BaseException:
            self._throw(directory)
            raise
        return UnpackedContext(directory, self._files, self._throw)

    def receive_remote(self, url: str, tell: Callable[[str], None], cancel: Cancellation) -> tuple[LocalContext, str]:
        """See `ports.Contexts.receive_remote`."""
        raise NotImplementedHere("remote contexts are not supported by this daemon yet")


class NoRemotes:
    """`ports.RemoteSources` without any."""

    def is_git(self, url: str) -> bool:
        return url.startswith(("git://", "git@")) or (
            url.startswith(("http://", "https://")) and url.partition("#")[0].endswith(".git")
        )

    def pin(self, source: RemoteSource, secrets: Mapping[str, bytes], cancel: Cancellation, known: Sequence[Pinned] = ()) -> Pinned:
        raise NotImplementedHere("ADD of remote sources is not supported by this daemon yet")

    def fetch(
        self, pinned: Pinned, into: Path, secrets: Mapping[str, bytes], tell: Callable[[str], None], cancel: Cancellation
    ) -> None:
        raise NotImplementedHere("ADD of remote sources is not supported by this daemon yet")

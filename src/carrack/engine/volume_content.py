"""What is in a volume, as a whole: copied into another volume, written as an archive, made from one. Ours beyond Docker. Blocking.

The work is done by confined workers: nothing that a container left in a volume can lead out of it. A volume that is made appears
whole or not at all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence

from carrack.errors import CarrackError, DataCorrupt, InvalidParameter
from carrack.shim.messages import CopyDirectory, PackTree, UnpackArchive, WorkerDone, WorkerJob
from carrack.volumes.volume import ANONYMOUS_LABEL, Volume
from carrack.volumes.volumes import Volumes

RunJob = Callable[[WorkerJob, Sequence[int]], WorkerDone]
_PIECE_BYTES = 256 << 10


class VolumeContents:
    """The three orders. `run_job` has a worker do a job."""

    def __init__(self, volumes: Volumes, run_job: RunJob) -> None:
        self._volumes = volumes
        self._run_job = run_job

    def clone(self, name: str, new_name: str) -> Volume:
        """A plain volume with the same content, labels and size limit; containers may go on writing while it is copied.

        Raises NotFound, Conflict when the new name is taken, InvalidParameter, SystemFailure.
        """
        with self._volumes.reading(name) as volume:

            def fill(target_fd: int) -> None:
                source_fd = _open(volume)
                try:
                    self._run_job(CopyDirectory(), (source_fd, target_fd))
                finally:
                    os.close(source_fd)

            labels = {key: value for key, value in volume.labels.items() if key != ANONYMOUS_LABEL}
            options = {"size": volume.options["size"]} if "size" in volume.options else {}
            return self._volumes.make(new_name, fill, options, labels)

    def export(self, name: str) -> Iterator[bytes]:
        """The volume as a tar, in pieces. Raises NotFound at once, SystemFailure on the way."""
        self._volumes.get(name)
        return self._pack(name)

    def _pack(self, name: str) -> Iterator[bytes]:
        failure: list[CarrackError] = []
        with self._volumes.reading(name) as volume:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            source_fd = _open(volume)

            def pack() -> None:
                try:
                    self._run_job(PackTree(), (write_fd, source_fd))
                except CarrackError as error:
                    failure.append(error)
                finally:
                    os.close(write_fd)
                    os.close(source_fd)

            packing = threading.Thread(target=pack, name="volume-export", daemon=True)
            packing.start()
            try:
                while piece := os.read(read_fd, _PIECE_BYTES):
                    yield piece
            finally:
                os.close(read_fd)  # a reader that left early ends the worker
                packing.join()
        if failure:
            raise failure[0]

    def import_(self, name: str, archive: Iterator[bytes], labels: dict[str, str]) -> Volume:
        """A new volume with what is in a (compressed) tar.

        Raises Conflict when the name is taken, InvalidParameter for a bad archive, what `archive` raises.
        """

        def fill(target_fd: int) -> None:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            feeding = threading.Thread(target=_feed, args=(archive, write_fd, failure), name="volume-import", daemon=True)
            feeding.start()
            try:
                self._run_job(UnpackArchive(), (read_fd, target_fd))
            except DataCorrupt as error:  # the client's archive, not our disk
                raise (failure[0] if failure else InvalidParameter(error.message)) from error
            except CarrackError as error:
                raise (failure[0] if failure else error) from error
            finally:
                os.close(read_fd)
                feeding.join()
            if failure:
                raise failure[0]

        failure: list[CarrackError] = []
        return self._volumes.make(name, fill, {}, labels)


def _feed(archive: Iterator[bytes], write_fd: int, failure: list[CarrackError]) -> None:
    try:
        for piece in archive:
            view = memoryview(piece)
            while view:
                view = view[os.write(write_fd, view) :]
    except BrokenPipeError:
        for _ in archive:  # the worker has refused it: the client may send the rest, and then read why
            pass
    except CarrackError as error:
        failure.append(error)
    finally:
        os.close(write_fd)


def _open(volume: Volume) -> int:
    return os.open(volume.mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

"""What collection and scrub do to the filesystem store: look at leases; remove what none protects, under the promisers' lock."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.registry.errors import BlobUnknown
from carrack.registry.storage import Leased, OpenBlob, StaleUpload
from carrack.registry.storage.durable import digests_in, names_in, open_quietly, remove_file, sync_directory
from carrack.registry.storage.tree import Tree, data_lease, is_older


class SweepFiles(Tree):
    """The half of `Storage` that only collection and scrub use."""

    def revisions(self, repository: str) -> Iterator[Leased]:
        return self._links(self.layout.revisions(repository))

    def layers(self, repository: str) -> Iterator[Leased]:
        return self._links(self.layout.layers(repository))

    def _links(self, directory: str) -> Iterator[Leased]:
        for digest in digests_in(directory):
            try:
                state = os.stat(f"{directory}/{digest.algorithm}/{digest.encoded}/link")
            except FileNotFoundError:
                continue
            yield Leased(digest, 0, state.st_mtime)

    def blobs(self) -> Iterator[Leased]:
        for algorithm in names_in(self.layout.all_blobs):
            for shard in names_in(f"{self.layout.all_blobs}/{algorithm}"):
                for digest in _digests_in_shard(f"{self.layout.all_blobs}/{algorithm}/{shard}", algorithm):
                    try:
                        state = os.stat(self.layout.data(digest))
                    except FileNotFoundError:
                        continue
                    yield Leased(digest, state.st_size, data_lease(state))

    def uploads(self, repository: str) -> Iterator[StaleUpload]:
        for upload_id in names_in(self.layout.uploads(repository)):
            directory = self.layout.upload(repository, upload_id)
            for name in ("data", ""):  # without data: what a kill between two steps left
                try:
                    state = os.stat(f"{directory}/{name}")
                except (FileNotFoundError, NotADirectoryError):
                    continue
                yield StaleUpload(upload_id, state.st_size if name else 0, state.st_mtime)
                break

    def release_layer(self, repository: str, digest: Digest, leased_before: float) -> bool:
        path = self.layout.layer(repository, digest)
        with self.locks.repository(repository, exclusive=True):
            return is_older(path, leased_before) and remove_file(path)

    def release_upload(self, repository: str, upload_id: str, touched_before: float) -> bool:
        directory = self.layout.upload(repository, upload_id)
        if any(not is_older(path, touched_before) for path in (f"{directory}/data", directory) if os.path.exists(path)):
            return False
        # Without its data an upload is unknown to everybody, so the rest may go at leisure.
        remove_file(f"{directory}/data", durable=False)
        shutil.rmtree(directory, ignore_errors=True)
        return True

    def remove_blob(self, digest: Digest, leased_before: float) -> int | None:
        path = self.layout.data(digest)
        with self.locks.content(digest, exclusive=True):
            try:
                state = os.stat(path)
            except FileNotFoundError:
                return None
            if data_lease(state) >= leased_before:
                return None
            return state.st_size if remove_file(path, durable=False) else None

    def open_stored(self, digest: Digest) -> OpenBlob:
        try:
            fd = open_quietly(self.layout.data(digest))
        except FileNotFoundError:
            raise BlobUnknown("blob unknown to registry", detail={"digest": str(digest)}) from None
        return OpenBlob(fd, os.fstat(fd).st_size)

    def quarantine(self, digest: Digest) -> None:
        os.makedirs(self.layout.corrupt, 0o700, exist_ok=True)
        with self.locks.content(digest, exclusive=True):
            try:
                os.rename(self.layout.data(digest), f"{self.layout.corrupt}/{digest.algorithm}-{digest.encoded}.{time.time_ns()}")
            except FileNotFoundError:
                return
        sync_directory(os.path.dirname(self.layout.data(digest)))

    def tidy(self, touched_before: float) -> int:
        freed = 0
        for name in names_in(self.layout.staging):
            path = f"{self.layout.staging}/{name}"
            if is_older(path, touched_before):
                freed += os.stat(path).st_size
                os.unlink(path)
        for directory, _, _ in os.walk(self.layout.all_repositories, topdown=False):
            if directory != self.layout.all_repositories and is_older(directory, touched_before):
                try:
                    os.rmdir(directory)  # refuses what is not empty; makers of links make their directories again
                except OSError:
                    continue
        return freed


def _digests_in_shard(path: str, algorithm: str) -> Iterator[Digest]:
    """The digests of one ``blobs/<algorithm>/<xx>`` directory; other names are passed over."""
    for encoded in names_in(path):
        try:
            yield Digest.parse(f"{algorithm}:{encoded}")
        except InvalidParameter:
            continue

"""`Volumes`: everything the engine orders of volumes. A record names a directory only after it is there, and goes before it does.

A volume that a container has, running or not, is in use. References are recorded, so that a later daemon knows them.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from carrack.errors import CarrackError, Conflict, NotFound, SystemFailure
from carrack.kernel.tree_size import tree_size
from carrack.state.database import Database
from carrack.volumes.drivers.driver import Driver
from carrack.volumes.drivers.local import LocalDriver
from carrack.volumes.volume import ANONYMOUS_LABEL, Volume

log = logging.getLogger(__name__)

Emit = Callable[[str, str, str, dict[str, str]], None]


class Volumes:
    """The volumes of one data-root; `root` is their directory. Blocking, thread-safe.

    `remove_tree` throws a directory away; without it that happens at once.
    """

    def __init__(self, database: Database, root: Path, emit: Emit, remove_tree: Callable[[Path], None] | None = None) -> None:
        self._database = database
        self._emit = emit
        self._lock = threading.RLock()
        self._making: set[str] = set()
        """Names of volumes that are being filled."""
        self._read_by: Counter[str] = Counter()
        """Volumes that are being copied or packed: they stay what they are meanwhile."""
        self._drivers: dict[str, Driver] = {"local": LocalDriver(Path(root), remove_tree)}
        rows = database.read("SELECT document FROM volumes")
        self._volumes = {volume.name: volume for volume in (msgspec.json.decode(row[0], type=Volume) for row in rows)}
        for volume in list(self._volumes.values()):
            self._restore(volume)
        for driver in self._drivers.values():
            driver.forget_unborn(self._volumes)

    def _restore(self, volume: Volume) -> None:
        """A reboot took the mounts; containers that have the volume will want it."""
        try:
            if volume.renamed_from:
                self._finish_rename(volume)
            self._driver(volume.driver).create(volume.name, volume.options)
            if volume.references:
                self._driver(volume.driver).mount(volume)
        except CarrackError as error:
            log.warning("volume %s: %s", volume.name, error.message)

    def get(self, name: str) -> Volume:
        """A volume by its name. Raises NotFound."""
        with self._lock:
            volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list(self) -> Sequence[Volume]:
        """Every volume, as they are now."""
        with self._lock:
            return list(self._volumes.values())

    def create(self, name: str, driver: str, options: dict[str, str], labels: dict[str, str]) -> Volume:
        """Make a volume, or find the one of that name and driver. No name: an anonymous one.

        Raises InvalidParameter (name, options), NotFound (driver), Conflict (the name is another driver's), SystemFailure.
        """
        if not name:
            name, labels = secrets.token_hex(32), {**labels, ANONYMOUS_LABEL: ""}
        try:
            volume, created = self._create(name, driver or "local", options, labels)
        except CarrackError as error:
            raise type(error)(f"create {name}: {error.message}") from error
        if created:
            self._emit("volume", "create", name, {"driver": volume.driver})
        return volume

    def _create(self, name: str, driver_name: str, options: dict[str, str], labels: dict[str, str]) -> tuple[Volume, bool]:
        driver = self._driver(driver_name)
        with self._lock:
            self._refuse_while_made(name)
            existing = self._volumes.get(name)
            if existing is not None:
                if existing.driver != driver_name:
                    raise Conflict(f"driver '{existing.driver}' already has volume '{name}': conflict: volume name must be unique")
                return existing, False
            driver.check(name, options)
            volume = Volume(
                name=name,
                driver=driver_name,
                mountpoint=driver.create(name, options),
                created_nanoseconds=time.time_ns(),
                options=dict(options),
                labels=dict(labels),
            )
            try:
                self._put(volume)
            except CarrackError:
                driver.remove(volume)
                raise
            return volume, True

    def acquire(self, name: str, container_id: str) -> str:
        """Note that a container has the volume, mount it if it needs that, and return its path. Raises NotFound, SystemFailure."""
        with self._lock:
            volume = self.get(name)
            self._driver(volume.driver).mount(volume)
            if container_id not in volume.references:
                self._put(msgspec.structs.replace(volume, references=(*volume.references, container_id)))
            return volume.mountpoint

    def release(self, container_id: str) -> None:
        """The container is gone: it has no volume any more. Idempotent."""
        with self._lock:
            for volume in [each for each in self._volumes.values() if container_id in each.references]:
                rest = tuple(each for each in volume.references if each != container_id)
                self._put(msgspec.structs.replace(volume, references=rest))
                if not rest and not self._read_by[volume.name]:
                    self._unmount(volume)

    def _unmount(self, volume: Volume) -> None:
        try:
            self._driver(volume.driver).unmount(volume)
        except SystemFailure as error:
            log.warning("volume %s: %s", volume.name, error.message)

    def reconcile(self, containers: Collection[str]) -> None:
        """Forget the references of containers that are not among those that exist, and what was made for them alone."""
        with self._lock:
            known = {reference for volume in self._volumes.values() for reference in volume.references}
            gone = known - set(containers)
            # Made for a container whose making was cut short: nobody was told of it, and nobody can name it.
            unborn = [
                v.name for v in self._volumes.values() if v.references and set(v.references) <= gone and ANONYMOUS_LABEL in v.labels
            ]
            for container_id in gone:
                self.release(container_id)
            for name in unborn:
                self.remove(name, force=True)

    def remove(self, name: str, force: bool = False) -> None:
        """Remove a volume and what is in it; `force`: if it is there at all. Raises NotFound, Conflict, SystemFailure."""
        with self._lock:
            try:
                volume = self.get(name)
            except NotFound:
                if force:
                    return
                raise
            self._refuse_while_used(volume, f"remove {name}")
            driver = self._driver(volume.driver)
            driver.detach(volume)
            self._database.write(lambda connection: _delete(connection, name)).result()
            del self._volumes[name]
            # Without its record the directory is garbage, whatever happens to us now.
            driver.remove(volume)
        self._emit("volume", "destroy", name, {"driver": volume.driver})

    def rename(self, name: str, new_name: str) -> Volume:
        """Give a volume that no container has another name. An anonymous one is then a named one.

        Raises NotFound, Conflict (in use, or the name is taken), InvalidParameter, SystemFailure.
        """
        with self._lock:
            volume = self.get(name)
            driver = self._driver(volume.driver)
            self._refuse_while_used(volume, f"rename {name}")
            self._refuse_taken(new_name, f"rename {name}")
            driver.check(new_name, {})
            driver.unmount(volume)
            labels = {key: value for key, value in volume.labels.items() if key != ANONYMOUS_LABEL}
            place = str(Path(volume.mountpoint).parent.parent / new_name / "_data")
            renamed = msgspec.structs.replace(volume, name=new_name, labels=labels, mountpoint=place, renamed_from=name)
            # The record goes first: from then on the directory follows, here or at the next start.
            self._replace(name, renamed)
            try:
                finished = self._finish_rename(renamed)
            except CarrackError:
                self._replace(new_name, volume)
                raise
        self._emit("volume", "rename", new_name, {"driver": volume.driver, "oldName": name})
        return finished

    def _finish_rename(self, volume: Volume) -> Volume:
        before = msgspec.structs.replace(volume, name=volume.renamed_from)
        place = self._driver(volume.driver).rename(before, volume.name)
        finished = msgspec.structs.replace(volume, mountpoint=place, renamed_from="")
        self._put(finished)
        return finished

    def make(self, name: str, fill: Callable[[int], None], options: dict[str, str], labels: dict[str, str]) -> Volume:
        """Make a volume with something in it: `fill` gets a descriptor of its empty directory. Whole, or not at all.

        Raises Conflict when the name is taken, InvalidParameter, and whatever `fill` raises.
        """
        driver = self._driver("local")
        name = name or secrets.token_hex(32)
        with self._lock:
            self._refuse_taken(name, f"create {name}")
            driver.check(name, options)
            self._making.add(name)
        try:
            staged = driver.stage(options)
            try:
                directory = os.open(staged / "_data", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fill(directory)
                finally:
                    os.close(directory)
                volume = Volume(
                    name=name,
                    mountpoint=driver.adopt(staged, name),
                    created_nanoseconds=time.time_ns(),
                    options=options,
                    labels=labels,
                )
            except BaseException:
                driver.abandon(staged)
                raise
            with self._lock:
                try:
                    self._put(volume)
                except CarrackError:
                    driver.remove(volume)
                    raise
        finally:
            with self._lock:
                self._making.discard(name)
        self._emit("volume", "create", name, {"driver": volume.driver})
        return volume

    @contextmanager
    def reading(self, name: str) -> Iterator[Volume]:
        """Hold a volume as it is, mounted, while its content is read. Raises NotFound, SystemFailure."""
        with self._lock:
            volume = self.get(name)
            self._driver(volume.driver).mount(volume)
            self._read_by[name] += 1
        try:
            yield volume
        finally:
            with self._lock:
                self._read_by[name] -= 1
                current = self._volumes.get(name)
                if not self._read_by[name] and current is not None and not current.references:
                    self._unmount(current)

    def _refuse_while_used(self, volume: Volume, what: str) -> None:
        if volume.references:
            raise Conflict(f"{what}: volume is in use - [{', '.join(volume.references)}]")
        if self._read_by[volume.name]:
            raise Conflict(f"{what}: volume is being copied")

    def _refuse_while_made(self, name: str) -> None:
        if name in self._making:
            raise Conflict(f"volume {name} is being made")

    def _refuse_taken(self, name: str, what: str) -> None:
        self._refuse_while_made(name)
        if name in self._volumes:
            raise Conflict(f"{what}: volume {name} already exists")

    def prune(self, wanted: Callable[[Volume], bool], tell: Callable[[str], None] = lambda gone: None) -> tuple[Sequence[str], int]:
        """Remove the local volumes that nobody has and that are `wanted`; return their names and how many bytes that freed.

        Volumes with mount options stay: what they show is not ours (as Docker has it).
        """
        removed, reclaimed = [], 0
        for volume in self.list():
            if volume.references or volume.options or volume.driver != "local" or not wanted(volume):
                continue
            size = self.usage_bytes(volume)
            try:
                self.remove(volume.name)
            except CarrackError as error:
                log.warning("volume %s is not pruned: %s", volume.name, error.message)
                continue
            removed.append(volume.name)
            tell(volume.name)
            reclaimed += size
        self._emit("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return removed, reclaimed

    def usage_bytes(self, volume: Volume) -> int:
        """The size of the files in a volume, each inode once, directories not counted, as Docker does it. Reads the whole tree."""
        return tree_size(volume.mountpoint)

    def _driver(self, name: str) -> Driver:
        driver = self._drivers.get(name)
        if driver is None:
            raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found')
        return driver

    def _replace(self, name: str, volume: Volume) -> None:
        """One record instead of another, at once."""
        document = msgspec.json.encode(volume)

        def change(connection: sqlite3.Connection) -> None:
            _delete(connection, name)
            _upsert(connection, volume.name, document)

        self._database.write(change, durable=True).result()
        del self._volumes[name]
        self._volumes[volume.name] = volume

    def _put(self, volume: Volume) -> None:
        document = msgspec.json.encode(volume)
        self._database.write(lambda connection: _upsert(connection, volume.name, document)).result()
        self._volumes[volume.name] = volume


def _upsert(connection: sqlite3.Connection, name: str, document: bytes) -> None:
    connection.execute(
        "INSERT INTO volumes (name, document) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET document = excluded.document",
        (name, document),
    )


def _delete(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))

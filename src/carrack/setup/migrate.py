"""`carrack system migrate-from-docker`: images, volumes, networks and container definitions of a dockerd, brought over by its API.

Nothing at the source is changed but for a helper image and a helper container, which read volumes and are removed again. What the
target has under that name already is left as it is, so a migration that was cut short can be run again. Containers arrive stopped,
as definitions: what they wrote outside their volumes stays behind, and is named.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from carrack.client.engine import Engine
from carrack.errors import CarrackError, NotFound
from carrack.setup import definitions
from carrack.setup.definitions import OWN_NETWORKS, SWARM_TASK, Source, in_order, name_of

Say = Callable[[str], None]
Piece = tuple[str, Callable[[], object] | None]
"""What it is, and what brings it over; None when it is there already."""

_HELPER = "carrack-migration:helper"
_MOUNT = "/v"


@dataclass(slots=True)
class Tally:
    """How many of a kind were brought over, were there already, or could not be."""

    moved: int = 0
    present: int = 0
    failed: int = 0


class Migration:
    """From one engine to another. `dry_run`: say what would be done, and do nothing."""

    def __init__(self, source: Engine, target: Engine, say: Say, *, dry_run: bool, same_host: bool = False) -> None:
        self._source = source
        self._target = target
        self._say = say
        self._dry_run = dry_run
        self._same_host = same_host
        self._found: list[definitions.Document] = []
        self._sizes: dict[str, str] = {}
        self._hints: list[str] = []
        self.tallies: dict[str, Tally] = {}

    def run(self) -> bool:
        """Everything, in the order in which one needs the other. False when something could not be brought over."""
        self._look_round()
        self._each("image", self._images())
        self._each("network", self._networks())
        self._each("volume", self._volumes())
        self._each("container", self._containers())
        verb = "would be brought over" if self._dry_run else "brought over"
        for kind, tally in self.tallies.items():
            failed = f", {tally.failed} failed" if tally.failed else ""
            self._say(f"{kind}s: {tally.moved} {verb}, {tally.present} there already{failed}")
        if self._hints:
            self._say("What runs at Docker's goes on there. To have it here:" if not self._dry_run else "Afterwards:")
            for hint in self._hints:
                self._say(f"    {hint}")
        return not any(tally.failed for tally in self.tallies.values())

    def _look_round(self) -> None:
        """Read what is asked about more than once."""
        for row in self._source.json("GET", "/containers/json", {"all": "1"}):
            if SWARM_TASK in (row.get("Labels") or {}):
                continue  # the swarm makes them
            with suppress(NotFound):
                self._found.append(self._source.json("GET", f"/containers/{row['Id']}/json"))
        for volume in self._source.json("GET", "/system/df").get("Volumes") or []:
            size = (volume.get("UsageData") or {}).get("Size", -1)
            if size >= 0:
                self._sizes[volume["Name"]] = f", {size / 1e6:.0f} MB"

    def _each(self, kind: str, steps: Iterator[Piece]) -> None:
        """Do what is to be done; a piece that fails is named and the others go on."""
        tally = self.tallies.setdefault(kind, Tally())
        for what, step in steps:
            if step is None:
                tally.present += 1
                continue
            self._say(f"{'would bring' if self._dry_run else 'bringing'} {kind} {what}")
            try:
                if not self._dry_run:
                    step()
                tally.moved += 1
            except CarrackError as error:
                tally.failed += 1
                self._say(f"  {kind} {what.split()[0]} failed: {error.message}")

    # ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _images(self) -> Iterator[Piece]:
        here = {image["Id"]: set(image.get("RepoTags") or []) for image in self._target.json("GET", "/images/json")}
        for image in self._source.json("GET", "/images/json"):
            tags = [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
            if image["Id"] in here and set(tags) <= here[image["Id"]]:
                yield image["Id"], None
                continue
            names = tags or [image["Id"]]
            yield f"{names[0]} ({image['Size'] / 1e6:.0f} MB)", partial(self._copy_image, names)

    def _copy_image(self, names: list[str]) -> None:
        with self._source.request("GET", "/images/get", {"names": names}) as archive:
            query = {"quiet": "1"}
            loaded = self._target.request("POST", "/images/load", query, content=iter(archive.body), media_type="application/x-tar")
            for document in loaded.documents():
                if "error" in document:
                    raise CarrackError(str(document["error"]))

    # ── networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _networks(self) -> Iterator[Piece]:
        here = {network["Name"] for network in self._target.json("GET", "/networks")}
        for network in self._source.json("GET", "/networks"):
            name = network["Name"]
            if name in OWN_NETWORKS or network.get("Scope") == "swarm" or network.get("Ingress"):
                continue
            if name in here:
                yield name, None
                continue
            document = definitions.network(network, self._found)
            about = f"{name} ({network['Driver']})"
            if "IPAM" not in document:
                about += ": on addresses that are free here"
            elif self._same_host and network["Driver"] == "bridge":
                self._hints.append(f"docker network rm {name}    # before containers start here: both bridges have its addresses")
            yield about, partial(self._target.json, "POST", "/networks/create", document=document)

    # ── volumes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _volumes(self) -> Iterator[Piece]:
        here = {volume["Name"] for volume in self._target.json("GET", "/volumes").get("Volumes") or []}
        for volume in self._source.json("GET", "/volumes").get("Volumes") or []:
            if volume["Name"] in here:
                yield volume["Name"], None
            else:
                writers = [name_of(found) for found in self._found if _is_running(found) and _mounts(found, volume["Name"])]
                about = f"{volume['Name']} ({volume['Driver']}{self._sizes.get(volume['Name'], '')})"
                about += f": {', '.join(writers)} may be writing to it now" if writers else ""
                yield about, partial(self._copy_volume, volume)

    def _copy_volume(self, volume: dict[str, Any]) -> None:
        name = volume["Name"]
        document = {"Name": name, "Driver": volume["Driver"], "DriverOpts": volume.get("Options") or {}}
        self._target.json("POST", "/volumes/create", document={**document, "Labels": volume.get("Labels") or {}})
        if volume["Driver"] != "local":
            return  # what is in it is where its driver keeps it
        try:
            with _helper(self._source, name) as reader, _helper(self._target, name) as writer:
                with self._source.request("GET", f"/containers/{reader}/archive", {"path": f"{_MOUNT}/."}) as archive:
                    target = f"/containers/{writer}/archive"
                    self._target.request(
                        "PUT", target, {"path": _MOUNT}, content=iter(archive.body), media_type="application/x-tar"
                    ).read_all()
        except BaseException:
            self._target.order("DELETE", f"/volumes/{name}", {"force": "1"})  # half a volume must not look like one
            raise

    # ── containers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _containers(self) -> Iterator[Piece]:
        here = {name for each in self._target.json("GET", "/containers/json", {"all": "1"}) for name in each["Names"]}
        tags = {tag: image["Id"] for image in self._source.json("GET", "/images/json") for tag in image.get("RepoTags") or []}
        names = {found["Id"]: name_of(found) for found in self._found}
        about_source = Source(names, tags, self._source.json("GET", "/info").get("LoggingDriver", ""))
        for found in in_order(self._found, about_source):
            name = name_of(found)
            if f"/{name}" in here:
                yield name, None
                continue
            about = f"{name} ({found['Config']['Image']})"
            changed = self._changed(found)
            if changed:
                about += f": {changed} files it changed outside its volumes stay behind"
            if _is_running(found):
                self._hints.append(f"docker stop {name} && carrack start {name}")
            document = definitions.container(found, about_source)
            yield about, partial(self._target.json, "POST", "/containers/create", {"name": name}, document=document)

    def _changed(self, found: definitions.Document) -> int:
        points = [mount["Destination"] for mount in found.get("Mounts") or []]
        try:
            changes = self._source.json("GET", f"/containers/{found['Id']}/changes") or []
        except CarrackError:
            return 0
        files = (change["Path"] for change in changes if change["Kind"] != 0)
        return sum(not any(path == point or path.startswith(f"{point}/") for point in points) for path in files)


def _is_running(found: definitions.Document) -> bool:
    return bool(found["State"].get("Running"))


def _mounts(found: definitions.Document, volume: str) -> bool:
    return any(mount.get("Name") == volume for mount in found.get("Mounts") or [])


@contextmanager
def _helper(engine: Engine, volume: str) -> Iterator[str]:
    """A container that is never started, with the volume in it: its files can be read and written by the archive routes."""
    made = not _has_image(engine, _HELPER)
    if made:
        repo, _, tag = _HELPER.partition(":")
        query = {"fromSrc": "-", "repo": repo, "tag": tag}
        engine.request("POST", "/images/create", query, content=_empty_root(), media_type="application/x-tar").read_all()
    try:
        host = {"Binds": [f"{volume}:{_MOUNT}"], "NetworkMode": "none"}
        document = {"Image": _HELPER, "Cmd": ["none"], "HostConfig": host}
        container: str = engine.json("POST", "/containers/create", document=document)["Id"]
        try:
            yield container
        finally:
            engine.order("DELETE", f"/containers/{container}", {"force": "1"})
    finally:
        if made:
            engine.request("DELETE", f"/images/{_HELPER}").read_all()


def _has_image(engine: Engine, name: str) -> bool:
    try:
        engine.json("GET", f"/images/{name}/json")
    except NotFound:
        return False
    return True


def _empty_root() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        folder = tarfile.TarInfo(_MOUNT.lstrip("/"))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
    return content.getvalue()

"""The routes of volumes."""

from __future__ import annotations

import msgspec

from carrack.api import pruning
from carrack.api.blocking import BlockingReader, in_own_thread, in_steps, in_thread
from carrack.api.json import decode, read, reply
from carrack.api.moments import rfc3339
from carrack.api.networks import found_in, labels_allow
from carrack.api.pruning import Tell
from carrack.api.router import Route
from carrack.api.versions import at_least
from carrack.engine.disk_usage import VolumeShare
from carrack.engine.filters import Filters
from carrack.engine.volume_content import VolumeContents
from carrack.errors import InvalidParameter, Unavailable
from carrack.http import Reply, Request, Response, StreamResponse
from carrack.volumes.volume import Volume
from carrack.volumes.volumes import Volumes

_LIST_FILTERS = ("driver", "label", "name")
_PRUNE_FILTERS = ("all", "label", "label!")


class VolumeResource(msgspec.Struct):
    """A volume, in the order in which Docker writes it."""

    CreatedAt: str
    Driver: str
    Labels: dict[str, str] | None
    Mountpoint: str
    Name: str
    Options: dict[str, str] | None
    Scope: str


class VolumeList(msgspec.Struct):
    """The answer to GET /volumes."""

    Volumes: list[VolumeResource]
    Warnings: list[str] | None


class VolumeCreate(msgspec.Struct):
    """The body of POST /volumes/create."""

    Name: str = ""
    Driver: str = ""
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None
    ClusterVolumeSpec: dict[str, object] | None = None


class VolumesPruned(msgspec.Struct):
    """The answer to POST /volumes/prune."""

    VolumesDeleted: list[str]
    SpaceReclaimed: int


def routes(volumes: Volumes, contents: VolumeContents | None = None) -> list[Route]:
    """Every route under /volumes; without `contents` those of Docker alone."""
    orders = Orders(volumes)
    ours = [] if contents is None else Extensions(volumes, contents).routes()
    return [
        *ours,
        Route("GET", "/volumes", orders.list),
        Route("POST", "/volumes/create", orders.create),
        Route("POST", "/volumes/prune", orders.prune, since="1.25"),
        Route("GET", "/volumes/{name}", orders.inspect),
        Route("DELETE", "/volumes/{name}", orders.remove),
        Route("PUT", "/volumes/{name}", orders.update, since="1.42"),
    ]


class Extensions:
    """What Docker has no routes for: a volume renamed, cloned, written as an archive, made from one."""

    def __init__(self, volumes: Volumes, contents: VolumeContents) -> None:
        self._volumes = volumes
        self._contents = contents

    def routes(self) -> list[Route]:
        """The routes that are Carrack's own."""
        return [
            Route("POST", "/volumes/{name}/rename", self.rename),
            Route("POST", "/volumes/{name}/clone", self.clone),
            Route("GET", "/volumes/{name}/export", self.export),
            Route("POST", "/volumes/{name}/import", self.import_),
        ]

    async def rename(self, request: Request) -> Response:
        return reply(resource(await in_thread(self._volumes.rename, request.params["name"], _new_name(request))))

    async def clone(self, request: Request) -> Response:
        return reply(resource(await in_own_thread(self._contents.clone, request.params["name"], _new_name(request))), 201)

    async def export(self, request: Request) -> StreamResponse:
        pieces = await in_thread(self._contents.export, request.params["name"])
        return StreamResponse(200, in_steps(pieces), {"Content-Type": "application/x-tar"})

    async def import_(self, request: Request) -> Response:
        labels = decode(request.query.get("labels").encode() or b"{}", dict[str, str])
        archive = BlockingReader(request.stream())
        made = await in_own_thread(self._contents.import_, request.params["name"], archive, labels)
        return reply(resource(made), 201)


def _new_name(request: Request) -> str:
    name = request.query.get("name")
    if not name:
        raise InvalidParameter("the new name of the volume is missing: ?name=")
    return name


def resource(volume: Volume) -> VolumeResource:
    """A volume as list and inspect show it."""
    return VolumeResource(
        CreatedAt=rfc3339(volume.created_nanoseconds // 10**9 * 10**9),
        Driver=volume.driver,
        Labels=volume.labels or None,
        Mountpoint=volume.mountpoint,
        Name=volume.name,
        Options=volume.options or None,
        Scope=volume.scope,
    )


class VolumeUsage(msgspec.Struct):
    """What `df` adds. Docker's command line cannot do without it there."""

    Size: int
    RefCount: int


class UsedVolume(VolumeResource):
    """A volume as `df` shows it."""

    UsageData: VolumeUsage


def used(share: VolumeShare) -> UsedVolume:
    """A volume with its size and how many containers use it."""
    return UsedVolume(
        **msgspec.structs.asdict(resource(share.volume)), UsageData=VolumeUsage(share.size_bytes, len(share.volume.references))
    )


class Orders:
    """Volumes made, shown and removed."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def list(self, request: Request) -> Response:
        filters = Filters.parse(request.query.get("filters")).accept(*_LIST_FILTERS, flags=("dangling",))
        shown = [resource(volume) for volume in self._volumes.list() if matches(volume, filters)]
        return reply(VolumeList(shown, None))

    async def inspect(self, request: Request) -> Response:
        return reply(resource(self._volumes.get(request.params["name"])))

    async def create(self, request: Request) -> Response:
        body = await read(request, VolumeCreate)
        if body.ClusterVolumeSpec is not None:
            raise Unavailable(
                'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
                "and try again."
            )
        volume = await in_thread(self._volumes.create, body.Name, body.Driver, body.DriverOpts or {}, body.Labels or {})
        return reply(resource(volume), 201)

    async def remove(self, request: Request) -> Response:
        await in_thread(self._volumes.remove, request.params["name"], request.query.flag("force"))
        return Response(204)

    async def update(self, request: Request) -> Response:
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def prune(self, request: Request) -> Reply:
        """Before 1.42 every unused volume goes, since then only anonymous ones unless `all` is asked for."""
        filters = Filters.parse(request.query.get("filters")).accept(*_PRUNE_FILTERS)
        everything = filters.flag("all", default=not at_least(request.version, "1.42"))

        def wanted(volume: Volume) -> bool:
            return (everything or volume.anonymous) and labels_allow(volume.labels, filters)

        async def work(tell: Tell) -> object:
            removed, reclaimed = await in_thread(self._volumes.prune, wanted, tell)
            return VolumesPruned([*removed], reclaimed)

        return await pruning.prune(request, work)


def matches(volume: Volume, filters: Filters) -> bool:
    """Whether a list with these filters shows the volume."""
    if "dangling" in filters and filters.flag("dangling") == bool(volume.references):
        return False
    names, drivers = filters.get("name"), filters.get("driver")
    return (
        (not names or any(found_in(name, volume.name) for name in names))
        and (not drivers or volume.driver in drivers)
        and filters.matches_labels(volume.labels)
    )

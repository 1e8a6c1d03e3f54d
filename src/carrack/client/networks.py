"""Networks and volumes: `client.networks`, `client.volumes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrack.client.http import percent_encode
from carrack.client.queries import filters_query, flags_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from carrack.client.engine import Engine


class Networks:
    """The daemon's networks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """The networks' documents."""
        found: list[dict[str, Any]] = self._engine.json("GET", "/networks", filters_query(filters))
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """One network's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"/networks/{percent_encode(name)}")
        return document

    def create(self, name: str, *, driver: str = "bridge", **options: Any) -> str:
        """Creates a network, with the API's own fields as options; its id. Raises Conflict when the name is taken."""
        return str(self._engine.json("POST", "/networks/create", document={"Name": name, "Driver": driver, **options})["Id"])

    def connect(self, name: str, container: str, **settings: Any) -> None:
        """Connects a container, with the API's EndpointSettings as settings."""
        document = {"Container": container, "EndpointConfig": settings}
        self._engine.order("POST", f"/networks/{percent_encode(name)}/connect", document=document)

    def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        """Disconnects a container."""
        document = {"Container": container, "Force": force}
        self._engine.order("POST", f"/networks/{percent_encode(name)}/disconnect", document=document)

    def remove(self, name: str) -> None:
        """Removes a network. Raises NotFound, Conflict while containers are connected."""
        self._engine.order("DELETE", f"/networks/{percent_encode(name)}")

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
        """Removes networks that nothing uses; their names."""
        return tuple(self._engine.json("POST", "/networks/prune", filters_query(filters)).get("NetworksDeleted") or ())


class Volumes:
    """The daemon's volumes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """The volumes' documents."""
        found: list[dict[str, Any]] = self._engine.json("GET", "/volumes", filters_query(filters))["Volumes"] or []
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """One volume's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"/volumes/{percent_encode(name)}")
        return document

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Creates a volume; its name."""
        document: dict[str, Any] = {"Driver": driver, "DriverOpts": dict(options or {}), "Labels": dict(labels or {})}
        return str(self._engine.json("POST", "/volumes/create", document={**document, **({"Name": name} if name else {})})["Name"])

    def remove(self, name: str, *, force: bool = False) -> None:
        """Removes a volume. Raises NotFound, Conflict while a container has it."""
        self._engine.order("DELETE", f"/volumes/{percent_encode(name)}", flags_query(force=force))

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
        """Removes anonymous volumes that no container has; their names."""
        return tuple(self._engine.json("POST", "/volumes/prune", filters_query(filters)).get("VolumesDeleted") or ())

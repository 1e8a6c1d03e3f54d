"""Links of old, on the default bridge: `--link web:db` lets a container find another by an alias.

A container's record holds its links, alias → id of the other. At each start they become lines of /etc/hosts and variables of the
environment, as Docker up to 28 makes them; when a linked container starts anew elsewhere, the lines follow. On user-defined
networks a link is only a private name, which the embedded name server knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from carrack.engine.config import HostConfig
from carrack.engine.container import Container
from carrack.engine.ports import exposed
from carrack.engine.state import LIVE
from carrack.engine.table import Table
from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.networks.endpoint import Protocol

BRIDGE = "bridge"
_BUILT_IN = ("HOME", "PATH")
"""What a linked container's environment has from its image rather than from anyone who means to tell something."""


def is_user_defined(mode: str) -> bool:
    """Whether a network mode names a network that somebody made."""
    return mode not in ("", "default", BRIDGE, "host", "none") and not mode.startswith("container:")


def resolve(texts: Iterable[str], host: HostConfig, table: Table) -> dict[str, str]:
    """The links a create asks for, alias → id. Raises InvalidParameter when one leads nowhere, or the network has none."""
    found: dict[str, str] = {}
    for text in texts:
        if not text:
            raise InvalidParameter("empty string specified for links")
        if text.count(":") > 1:
            raise InvalidParameter(f"bad format for links: {text}")
        name, _, alias = text.partition(":")
        alias = alias.rpartition("/")[2] or name.strip("/")
        if not name or not alias:
            raise InvalidParameter(f"invalid link: {text!r}")
        if host.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
            )
        if host.network_mode.startswith("container:"):
            raise InvalidParameter(
                "conflicting options: container type network can't be used with links. This would result in undefined behavior"
            )
        try:
            other = table.get(name)
        except NotFound as error:
            raise InvalidParameter(f"could not get container for {name}: {error.message}") from error
        if other.host_config.network_mode == "host":
            raise InvalidParameter(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
            )
        found[alias] = other.id
    return found


def linked(container: Container, table: Table) -> Iterator[tuple[str, Container]]:
    """(alias, container) of everything a container links to that is still there."""
    for alias, identity in container.links.items():
        other = table.find(identity)
        if other is not None:
            yield alias, other


def described(container: Container, table: Table) -> list[str] | None:
    """The links as inspect shows them: ``/child:/parent/alias``."""
    return [f"/{other.name}:/{container.name}/{alias}" for alias, other in linked(container, table)] or None


def names(table: Table) -> dict[str, list[str]]:
    """The further names that links give: id → ``/parent/alias``."""
    found: dict[str, list[str]] = {}
    for container in table:
        for alias, other in linked(container, table):
            found.setdefault(other.id, []).append(f"/{container.name}/{alias}")
    return found


def hosts(container: Container, table: Table) -> list[tuple[str, str]]:
    """(name, address) for /etc/hosts: the alias, the other's host name and its name. Raises Conflict for one that cannot be met."""
    lines = []
    for alias, other in linked(container, table):
        endpoint = other.networks.get(BRIDGE)
        if endpoint is None:
            raise Conflict(f"Cannot link to /{other.name}, as it does not belong to the default network")
        if endpoint.ip_address:
            names_of = dict.fromkeys((alias, other.config.hostname, other.name))
            lines.append((" ".join(name for name in names_of if name), endpoint.ip_address))
    return lines


def reaches(container: Container, table: Table) -> tuple[tuple[str, Protocol, int], ...]:
    """What a container may reach by its links, also where the default bridge keeps containers apart: each port that they expose."""
    return tuple(
        (other.id, protocol, port)
        for _, other in linked(container, table)
        for port, protocol in exposed(other.config, other.host_config)
    )


def environment(container: Container, table: Table) -> list[str]:
    """The variables that tell of linked containers. Raises Conflict when one does not run."""
    variables: list[str] = []
    for alias, other in linked(container, table):
        if other.state.status not in LIVE:
            raise Conflict(f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}")
        variables += _variables(container, alias, other)
    return variables


def _variables(container: Container, alias: str, other: Container) -> list[str]:
    prefix = alias.upper().replace("-", "_")
    endpoint = other.networks.get(BRIDGE)
    address = endpoint.ip_address if endpoint is not None else ""
    found = []
    ports = sorted(exposed(other.config, other.host_config), key=lambda each: (each[0], each[1] != "tcp"))
    if ports:
        found.append(f"{prefix}_PORT={ports[0][1]}://{address}:{ports[0][0]}")
    for port, protocol in ports:
        name = f"{prefix}_PORT_{port}_{protocol.upper()}"
        found += [
            f"{name}={protocol}://{address}:{port}",
            f"{name}_ADDR={address}",
            f"{name}_PORT={port}",
            f"{name}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME=/{container.name}/{alias}")
    for variable in other.config.env or ():
        key, equals, value = variable.partition("=")
        if equals and key not in _BUILT_IN:
            found.append(f"{prefix}_ENV_{key}={value}")
    return found


def find(path: str, table: Table) -> tuple[Container, str]:
    """(the container that has the link, its alias) of ``parent/alias``. Raises NotFound, Conflict for a plain name."""
    parent, slash, alias = path.strip("/").rpartition("/")
    if not slash:
        table.get(path)
        raise Conflict("Conflict, cannot remove the default link name of the container")
    container = table.get(parent)
    if alias not in container.links:
        raise NotFound(f"No such link: /{parent}/{alias}")
    return container, alias

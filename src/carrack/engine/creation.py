"""Making a container's record: request checked, merged with its image, mounts resolved, volumes made, writable layer prepared.

Blocking, in a pool thread. The name is reserved by the caller; whatever fails here leaves no directory, no volume of its own
making and no snapshot.
"""

from __future__ import annotations

import ipaddress
import os
import time
from pathlib import Path

import msgspec

from carrack.engine import (
    apparmor,
    cgroup_places,
    image_mounts,
    links,
    log_options,
    mounts,
    remapping,
    request,
    specification,
    storage_options,
)
from carrack.engine.config import AddressConfig, ContainerConfig, CreateRequest, EndpointSettings, HostConfig
from carrack.engine.container import Container, MountPoint
from carrack.engine.demolition import demolish
from carrack.engine.health import restarts_wanted
from carrack.engine.resources import Machine
from carrack.engine.rooms import Rooms
from carrack.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from carrack.images.image import Image
from carrack.networks.network import Network
from carrack.oci.platform import Platform, machine
from carrack.runtime import cgroups, defaults

_CONFIG_FIELDS = tuple(ContainerConfig.__struct_fields__)


def check(create: CreateRequest, platform: str, machine: Machine) -> list[str]:
    """What can be refused without looking at any image. Returns warnings. Raises InvalidParameter, NotImplementedHere."""
    if not create.image:
        raise InvalidParameter("no image specified")
    if platform:
        Platform.parse(platform)
    warnings = request.check(create, machine)
    if create.host_config.log_config.type:
        log_options.check(create.host_config.log_config)
    specification.security(create.host_config.security_opt)
    specification.capability_names(create.host_config)
    for rule in create.host_config.device_cgroup_rules or []:
        specification.parse_rule(rule)
    _check_modes(create, create.host_config)
    restarts_wanted(create.labels or {})
    warnings += apparmor.warnings_for(create.host_config)
    return warnings


def draft(
    container_id: str, name: str, create: CreateRequest, platform: str, inherited: list[MountPoint], rooms: Rooms
) -> Container:
    """Everything of a container but its place in the table; `create` was checked. Raises NotFound."""
    image = rooms.images.get(create.image)
    if platform and not Platform.parse(platform).matches(image.platform):
        raise NotFound(
            f"image with reference {create.image} was found but its platform ({image.platform}) "
            f"does not match the specified platform ({Platform.parse(platform)})"
        )
    storage_options.check(create.host_config.storage_opt or {}, rooms)
    _check_donors(create.host_config, rooms)
    if create.host_config.cgroup_parent:
        slices, only = rooms.settings.slices is not None, rooms.settings.slices_only
        cgroup_places.check(create.host_config.cgroup_parent, slices=slices, slices_only=only)
    remapping.check(create.host_config, rooms.settings.remap)
    create.host_config.runtime = create.host_config.runtime or create.runtime
    rooms.settings.runtimes.check(create.host_config.runtime)
    config = ContainerConfig(**{field: getattr(create, field) for field in _CONFIG_FIELDS})
    host = create.host_config
    request.merge(config, image.config.execution)
    rooms.settings.defaults.apply(host)
    request.settle(
        host,
        default_log_driver=rooms.settings.log_driver,
        default_log_options=rooms.settings.log_options,
        cgroup_version=cgroups.detect().version,
        runtime=rooms.settings.runtimes.default,
    )
    if host.masked_paths is None and not host.privileged:
        host.masked_paths = list(defaults.masked_paths(os.cpu_count() or 0))
    if host.readonly_paths is None and not host.privileged:
        host.readonly_paths = list(defaults.READONLY_PATHS)
    log_options.check(host.log_config)
    if host.init and not rooms.settings.init_path:
        raise InvalidParameter("--init needs docker-init or tini on this host (Debian: apt-get install tini)")
    config.hostname = _hostname(config, host, container_id, rooms)
    linked = _links(create, rooms)
    points = mounts.resolve(config, host, inherited)
    directory = rooms.directories.container(container_id)
    command = [*(config.entrypoint or []), *(config.cmd or [])]
    container = Container(
        id=container_id,
        name=name,
        created_at_nanoseconds=time.time_ns(),
        config=config,
        host_config=host,
        image_id=str(image.id),
        architecture=image.platform.architecture,
        image_manifest=image.manifest,
        image_reference=create.image,
        path=command[0],
        arguments=command[1:],
        networks=_networks(create, rooms),
        links=linked,
        log_driver=host.log_config.type,
        storage_driver=rooms.snapshots.name,
        directory=str(directory),
        mounts=points,
    )
    container.log_path = log_options.path_for(container)
    container.apparmor_profile = apparmor.profile_for(host, rooms.settings.apparmor_profile)
    _make(container, image, rooms)
    return container


def platform_warnings(container: Container, platform: str) -> list[str]:
    """Docker's warning of an image for other machines that nobody asked for by its platform."""
    here = machine()
    if platform or container.architecture in ("", here.architecture):
        return []
    image = f"{container.platform}/{container.architecture}"
    warning = f"The requested image's platform ({image}) does not match the detected host platform ({here})"
    return [f"{warning} and no specific platform was requested"]


def _make(container: Container, image: Image, rooms: Rooms) -> None:
    try:
        for point in container.mounts:
            _make_source(container, point, rooms)
        directory = Path(container.directory)
        try:
            directory.mkdir(mode=0o710, parents=True, exist_ok=True)
            (directory / "logs").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SystemFailure(f"cannot make {directory}: {error.strerror}") from error
        rooms.snapshots.prepare(container.id, image.chain_id)
        storage_options.limit(container, rooms)
        image_mounts.prepare(container, rooms)
    except BaseException:
        demolish(container, rooms, volumes=True)
        raise


def _make_source(container: Container, point: MountPoint, rooms: Rooms) -> None:
    """Make the volume, or the host directory of a `-v` that is not there yet."""
    if point.type == "bind" and (container.host_config.binds or "create" in point.options) and not os.path.lexists(point.source):
        try:
            os.makedirs(point.source, mode=0o755, exist_ok=True)
        except OSError as error:
            raise InvalidParameter(
                f"error while creating mount source path '{point.source}': mkdir {point.source}: {error.strerror}"
            ) from error
    if point.type == "volume":
        labels = {"com.docker.volume.anonymous": ""} if point.anonymous else {}
        options: dict[str, str] = {}
        for asked in container.host_config.mounts or []:
            if asked.type == "volume" and asked.target == point.destination and asked.volume_options is not None:
                labels |= asked.volume_options.labels or {}
                driver = asked.volume_options.driver_config
                options = dict(driver.options or {}) if driver is not None else {}
        try:
            volume = rooms.volumes.create(point.name, point.driver or "local", options, labels)
        except NotFound as error:
            raise InvalidParameter(error.message) from error  # a 404 would have the command line pull the image
        point.name = volume.name
        point.source = rooms.volumes.acquire(volume.name, container.id)


def _links(create: CreateRequest, rooms: Rooms) -> dict[str, str]:
    """The links on the default bridge; those of a user-defined network go to its endpoint, whose private names they are."""
    host = create.host_config
    texts, host.links = host.links or [], None
    if not links.is_user_defined(host.network_mode):
        return links.resolve(texts, host, rooms.table)
    if texts:
        endpoints = dict(create.networking_config.endpoints_config or {})
        settings = endpoints.get(host.network_mode) or EndpointSettings()
        endpoints[host.network_mode] = msgspec.structs.replace(settings, links=settings.links or texts)
        create.networking_config.endpoints_config = endpoints
    return {}


def _check_donors(host: HostConfig, rooms: Rooms) -> None:
    """The containers whose namespaces are to be joined are there; that of a network is the start's affair, as with dockerd."""
    for mode in (host.pid_mode, host.ipc_mode):
        kind, _, ref = mode.partition(":")
        if kind == "container":
            try:
                rooms.table.get(ref)
            except NotFound as error:
                raise InvalidParameter(error.message) from error  # a 404 would have the command line pull the image


def _networks(create: CreateRequest, rooms: Rooms) -> dict[str, EndpointSettings]:
    """The networks the container will join, with what was asked of each. Raises NotFound, InvalidParameter."""
    mode = create.host_config.network_mode
    if mode.startswith("container:") or create.network_disabled:
        return {}  # one that is not there is the start's error, as with dockerd
    asked: dict[str, EndpointSettings] = {}
    for name, settings in (create.networking_config.endpoints_config or {}).items():
        if settings is None:
            raise InvalidParameter(f"invalid config for network {name}: EndpointsConfig is nil")
        asked[name] = settings
    if mode in ("host", "none") and len(asked) > (mode in asked):
        raise InvalidParameter("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    if "default" in asked:
        asked.setdefault(mode, asked.pop("default"))
    if not asked:  # else it joins these and no other, be the mode one of them or not
        asked[mode] = EndpointSettings()
    chosen: dict[str, EndpointSettings] = {}
    for name, settings in asked.items():
        network = _find_network(name, rooms)
        if network is not None and settings.ipam_config is not None:
            try:
                _check_addresses(network, settings.ipam_config)
            except InvalidParameter as error:
                raise InvalidParameter(f"invalid config for network {name}: invalid endpoint settings:\n{error.message}") from None
        chosen[network.name if network is not None else name] = msgspec.structs.replace(settings)
    return chosen


def _check_addresses(network: Network, wanted: AddressConfig) -> None:
    """That the network has subnets of which the addresses are. Raises InvalidParameter."""
    for version, text in ((4, wanted.ipv4_address), (6, wanted.ipv6_address)):
        if not text:
            continue
        if network.predefined:
            raise InvalidParameter("user-specified IP address is supported on user-defined networks only")
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            address = None
        if address is None or address.version != version or address.is_unspecified:
            raise InvalidParameter(f"invalid IPv{version} address: {text}")
        if not any(address in ipaddress.ip_network(pool.subnet) for pool in network.pools):
            raise InvalidParameter(f"no configured subnet contains IP address {address}")


def _find_network(name: str, rooms: Rooms) -> Network | None:
    """The network, if it is there: one that is not is the start's error, as with dockerd."""
    try:
        return rooms.networks.get(name)
    except NotFound:
        return None


def _hostname(config: ContainerConfig, host: HostConfig, container_id: str, rooms: Rooms) -> str:
    shares = host.network_mode == "host" or host.uts_mode == "host"
    if shares and config.hostname and host.uts_mode == "host":
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    if config.hostname:
        if len(os.fsencode(config.hostname)) > 64:
            raise InvalidParameter(f'hostname "{config.hostname}" is too long (maximum 64 bytes)')
        if "\0" in config.hostname or "/" in config.hostname:
            raise InvalidParameter(f"invalid hostname: {config.hostname!r}")
        return config.hostname
    if host.network_mode.startswith("container:"):
        try:
            return rooms.table.get(host.network_mode.partition(":")[2]).config.hostname
        except NotFound:
            return container_id[:12]
    return os.uname().nodename if shares else container_id[:12]


def _check_modes(config: CreateRequest, host: HostConfig) -> None:
    network = host.network_mode
    undefined = "can't be used with links. This would result in undefined behavior"
    if network == "container" or network.startswith("container:"):
        if not network.partition(":")[2]:
            raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
        for asked, what in (
            (config.hostname, "hostname and the network mode"),
            (host.links, f"container type network {undefined}"),
            (host.dns, "dns and the network mode"),
            (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
            (host.port_bindings or host.publish_all_ports, "port publishing and the container type network mode"),
            (config.exposed_ports, "port exposing and the container type network mode"),
        ):
            if asked:
                raise InvalidParameter(f"conflicting options: {what}")
    if network == "host" and host.links:
        raise InvalidParameter(f"conflicting options: host type networking {undefined}")
    if host.pid_mode not in ("", "host") and not host.pid_mode.startswith("container:"):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if host.ipc_mode not in ("", "host", "private", "shareable", "none") and not host.ipc_mode.startswith("container:"):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")
    if host.cgroupns_mode not in ("", "host", "private"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")


def reference_conflict(container: Container) -> Conflict:
    """Docker's refusal to remove what runs."""
    state = "restarting" if container.state.status == "restarting" else "running"
    why = f"{state}: stop the container before removing or force remove"
    if container.state.paused:
        why = "paused and must be unpaused first"
    return Conflict(f'cannot remove container "/{container.name}": container is {why}')

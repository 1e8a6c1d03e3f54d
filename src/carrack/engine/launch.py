"""The blocking parts of a start and of an end: addresses, ports, files, the order for the zygote; and their undoing.

Every function runs in a pool thread. What a start makes is undone by `undo` in any state of completion, so that a failure
half-way leaves nothing; what the daemon's death leaves is found by id at the next start (engine/restore.py).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from carrack.engine import cdi, cgroup_places, etc_files, image_mounts, links, ports, remapping, seccomp_profile, specification
from carrack.engine.cgroup_places import Hold
from carrack.engine.config import EndpointSettings
from carrack.engine.container import Container, PublishedPort
from carrack.engine.live import HeldAttach, HeldWait
from carrack.engine.log_options import plan_for_writing as log_plan
from carrack.engine.rooms import Rooms
from carrack.engine.roots import root_of
from carrack.engine.table import Table
from carrack.errors import CarrackError, Conflict, InvalidParameter
from carrack.networks.endpoint import Endpoint, EndpointWish, HeldPort, PortBinding
from carrack.oci.digest import Digest
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import CpuLimits, Resources
from carrack.runtime import cgroups
from carrack.runtime.mount_options import BOUNDED, IDMAP
from carrack.shim import foreign
from carrack.shim.messages import Checkpoint, ForeignRuntime, StartOrder, Wait


@dataclass(slots=True)
class Launch:
    """What one start has made so far."""

    endpoints: list[Endpoint] = field(default_factory=list)
    held: list[HeldPort] = field(default_factory=list)
    order: StartOrder | None = None
    scope: Hold | None = None

    @property
    def port_fds(self) -> list[int]:
        return [port.socket.fileno() for port in self.held if port.socket is not None]


def prepare(container: Container, rooms: Rooms, namespace_of: specification.Places, checkpoint: Checkpoint | None = None) -> Launch:
    """Addresses, ports and files, and the order. Raises the kinds of those rooms, with everything undone."""
    launch = Launch()
    _check_shared_memory(container, rooms)
    try:
        container.link_environment = links.environment(container, rooms.table)
        with _networking():
            _take_addresses(container, rooms, launch)
        places = _write_files(container, rooms, launch.endpoints, namespace_of)
        container.cgroup = places.cgroup
        _hold_scope(container, rooms, launch)
        _hand_down_realtime(container, rooms, places.cgroup)
        spec = specification.build(container, places)
        requests = container.host_config.device_requests
        if requests:
            devices = cdi.Devices(rooms.settings.cdi_directories)
            spec = devices.inject(spec, cdi.wanted(requests, devices))
        runtime = foreign_runtime(container, rooms)
        if runtime is not None and spec.linux is not None:
            linux = msgspec.structs.replace(spec.linux, seccomp=seccomp_profile.document_for(container.host_config))
            spec = msgspec.structs.replace(spec, linux=linux)
        launch.order = StartOrder(
            container_id=container.id,
            spec=spec,
            rootfs=_root(container, rooms),
            cgroup=places.cgroup,
            socket_path=str(rooms.directories.shim_socket(container.id)),
            state_directory=container.directory,
            log=log_plan(container),
            seccomp=seccomp_profile.bytes_for(container.host_config),
            open_stdin=container.config.open_stdin,
            stdin_once=container.config.stdin_once,
            held_ports=len(launch.port_fds),
            trace=rooms.settings.trace,
            runtime=runtime,
            checkpoint=checkpoint,
        )
    except BaseException:
        undo(container, rooms, launch)
        raise
    return launch


def _check_shared_memory(container: Container, rooms: Rooms) -> None:
    """IPC is joined only where it was made to be shared. Raises Conflict."""
    kind, _, ref = container.host_config.ipc_mode.partition(":")
    if kind == "container" and rooms.table.get(ref).host_config.ipc_mode != "shareable":
        raise Conflict(
            f"can't join IPC of container {ref}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        )


def _root(container: Container, rooms: Rooms) -> tuple[Mount, ...]:
    """The root's mounts, their owners shifted into the container's user namespace if it has one."""
    mounts = root_of(container, rooms)
    if container.host_config.storage_opt:
        mounts = tuple(replace(mount, options=(*mount.options, BOUNDED)) for mount in mounts)
    if not remapping.applies(container.host_config, rooms.settings.remap):
        return mounts
    return tuple(replace(mount, options=(*mount.options, IDMAP)) for mount in mounts)


def foreign_runtime(container: Container, rooms: Rooms) -> ForeignRuntime | None:
    """The other OCI runtime that makes this container; None: ours. Raises InvalidParameter when it is no longer configured."""
    program = rooms.settings.runtimes.find(container.host_config.runtime)
    if program is None:
        return None
    return ForeignRuntime(program.path, str(rooms.directories.bundle(container.id)), program.arguments)


def forget_foreign(container: Container, rooms: Rooms) -> None:
    """Have another runtime forget a container whose shim did not live to. Idempotent."""
    if rooms.directories.bundle(container.id).is_dir():
        try:
            runtime = foreign_runtime(container, rooms)
        except InvalidParameter:
            runtime = ForeignRuntime("/bin/false", str(rooms.directories.bundle(container.id)))  # its directory at least
        if runtime is not None:
            foreign.forget(runtime, container.id)


def plug(rooms: Rooms, launch: Launch, netns_fd: int, pidfd: int) -> None:
    """Join the container's network namespace to its networks and open its ports. `pidfd` is that of its init."""
    with _networking():
        if not launch.endpoints:
            rooms.networks.loopback(netns_fd)
        for endpoint in launch.endpoints:
            rooms.networks.plug(endpoint, netns_fd, pidfd=pidfd)
        if launch.endpoints and launch.held:
            rooms.networks.publish(launch.endpoints[0], launch.held, pidfd=pidfd)


@contextmanager
def _networking() -> Iterator[None]:
    """What fails in here is told to be the networks' part of a start, as Docker tells it."""
    try:
        yield
    except CarrackError as error:
        raise type(error)(f"failed to set up container networking: {error.message}") from error


def release(launch: Launch) -> None:
    """The container runs: what stood in for it goes. Idempotent."""
    for port in launch.held:
        port.close()
    if launch.scope is not None:
        launch.scope.release()


def undo(container: Container, rooms: Rooms, launch: Launch) -> None:
    """Take back whatever a start has made. Idempotent."""
    release(launch)
    for endpoint in launch.endpoints:
        rooms.networks.unplug(endpoint)
    rooms.networks.release(container.id)


def uses_own_network(container: Container) -> bool:
    """Whether the container has a network namespace of its own."""
    mode = container.host_config.network_mode
    return mode != "host" and not mode.startswith("container:")


HOST_RESOLVER = "/etc/resolv.conf"
BEHIND_SYSTEMDS_STUB = "/run/systemd/resolve/resolv.conf"
_WITHOUT_ADDRESSES = ("host", "none")
_PREDEFINED = ("bridge", *_WITHOUT_ADDRESSES)
"""Networks in which containers have no names."""


def describe_endpoint(container: Container, endpoint: Endpoint) -> None:
    """Write what came of one network into the record, as inspect shows it."""
    settings = container.networks.setdefault(endpoint.network_name, EndpointSettings())
    settings.network_id = endpoint.network_id
    settings.endpoint_id = endpoint.id
    settings.gateway = endpoint.gateway
    settings.ip_address = endpoint.ipv4
    settings.ip_prefix_len = endpoint.prefix
    settings.ipv6_gateway = endpoint.gateway6
    settings.global_ipv6_address = endpoint.ipv6
    settings.global_ipv6_prefix_len = endpoint.prefix6
    settings.mac_address = endpoint.mac
    if endpoint.network_name not in _PREDEFINED:
        names = (container.name, *(settings.aliases or ()), container.id[:12], container.config.hostname)
        settings.dns_names = list(dict.fromkeys(name for name in names if name))


def describe_endpoints(container: Container, rooms: Rooms, launch: Launch) -> None:
    """Write what came of the networks and ports into the record."""
    for endpoint in launch.endpoints:
        describe_endpoint(container, endpoint)
    for name in _WITHOUT_ADDRESSES:
        if (settings := container.networks.get(name)) is not None:
            settings.network_id = rooms.networks.get(name).id
            settings.endpoint_id = Digest.of(f"{container.id} {name}".encode()).encoded
    bound = {(port.container_port, port.protocol) for port in launch.held}
    container.ports = [PublishedPort(port.container_port, port.protocol, port.host_ip, port.host_port) for port in launch.held]
    container.ports += [
        PublishedPort(port, protocol)
        for port, protocol in ports.exposed(container.config, container.host_config)
        if (port, protocol) not in bound
    ]


def clear_endpoints(container: Container) -> None:
    """The container has no addresses any more; what was asked stays."""
    for settings in container.networks.values():
        wish = settings.mac_address if settings.mac_address == container.config.mac_address else ""
        settings.endpoint_id = settings.gateway = settings.ip_address = settings.ipv6_gateway = settings.global_ipv6_address = ""
        settings.ip_prefix_len = settings.global_ipv6_prefix_len = 0
        settings.mac_address = wish
    container.ports = []


def with_clients(order: StartOrder, attached: Sequence[HeldAttach], waiting: Sequence[HeldWait]) -> StartOrder:
    """The order with the clients that came before the start."""
    return msgspec.structs.replace(
        order,
        attached=tuple(client.order for client in attached),
        waiting=tuple(Wait(condition=client.condition.value) for client in waiting),
    )


def _take_addresses(container: Container, rooms: Rooms, launch: Launch) -> None:
    if not uses_own_network(container):
        return
    for name, settings in container.networks.items():
        network = rooms.networks.get(settings.network_id or name)
        if network.driver in ("host", "null"):
            continue
        launch.endpoints.append(rooms.networks.allocate(network, container.id, wish(container, settings, rooms.table)))
    if launch.endpoints:
        bindings = [_binding(port, rooms) for port in ports.wanted(container.config, container.host_config)]
        if bindings:
            launch.held.extend(rooms.networks.hold(bindings, container.id))


def wish(container: Container, settings: EndpointSettings, table: Table) -> EndpointWish:
    """What a container asks of one network."""
    asked = settings.ipam_config
    main = container.networks.get(container.host_config.network_mode) is settings
    return EndpointWish(
        container_name=container.name,
        ipv4=asked.ipv4_address if asked is not None else "",
        ipv6=asked.ipv6_address if asked is not None else "",
        mac=settings.mac_address or (container.config.mac_address if main else ""),
        link_local=tuple(asked.link_local_ips or ()) if asked is not None else (),
        aliases=(*(settings.aliases or ()), *((container.config.hostname,) if container.config.hostname else ())),
        links=tuple(settings.links or ()),
        upstreams=tuple(container.host_config.dns or ()),
        driver_options=settings.driver_opts or {},
        reaches=links.reaches(container, table) if container.networks.get(links.BRIDGE) is settings else (),
        gateway_priority=settings.gw_priority,
    )


def _hold_scope(container: Container, rooms: Rooms, launch: Launch) -> None:
    """In a slice of systemd's a scope has to be there before the container's init is born into it."""
    parent, slices = container.host_config.cgroup_parent or rooms.settings.cgroup_parent, rooms.settings.slices
    if slices is not None and cgroup_places.is_slice(parent):
        launch.scope = slices.hold(parent, cgroup_places.scope_of(container.id), posixpath.dirname(container.cgroup))


def _hand_down_realtime(container: Container, rooms: Rooms, cgroup: str) -> None:
    """Give the parents of a container's cgroup a real-time share to give on: a new cgroup has none (sched-rt-group.rst)."""
    realtime = rooms.settings.realtime
    if not container.host_config.cpu_realtime_runtime or not realtime.runtime:
        return
    path = ""
    for name in cgroup.strip("/").split("/")[:-1]:
        path += f"/{name}"
        parent = cgroups.open(path)
        try:
            parent.create()
            parent.update(Resources(cpu=CpuLimits(realtime_period=realtime.period or None, realtime_runtime=realtime.runtime)))
        except OSError as error:
            raise InvalidParameter(
                f"the cgroup {path} cannot have {realtime.runtime} microseconds of real-time (--cpu-rt-runtime of the daemon): "
                f"{error.strerror}"
            ) from error


def _binding(port: ports.WantedPort, rooms: Rooms) -> PortBinding:
    text = "" if not port.host_port else str(port.host_port)
    if port.host_port_end > port.host_port:
        text = f"{port.host_port}-{port.host_port_end}"
    return PortBinding(port.container_port, port.protocol, port.host_ip or rooms.settings.default_host_ip, text)


def _write_files(
    container: Container, rooms: Rooms, endpoints: list[Endpoint], places: specification.Places
) -> specification.Places:
    """The three files under /etc, and where everything is."""
    host = container.host_config
    directory = Path(container.directory)
    if host.network_mode.startswith("container:"):
        other = rooms.directories.container(rooms.table.get(host.network_mode.partition(":")[2]).id)
        return _places(container, rooms, other, places)
    write_hosts(container, rooms, endpoints)
    write_resolv_conf(container, rooms, endpoints)
    _write(directory / "hostname", f"{container.config.hostname}\n")
    return _places(container, rooms, directory, places)


def write_resolv_conf(container: Container, rooms: Rooms, endpoints: Sequence[Endpoint]) -> None:
    """Write /etc/resolv.conf: the embedded name server's for a container in a user-defined network, else the host's."""
    host, settings = container.host_config, rooms.settings
    resolver = rooms.networks.resolver([rooms.networks.get(endpoint.network_id) for endpoint in endpoints])
    text = etc_files.resolv_conf(
        host_resolver(host.network_mode),
        servers=[resolver] if resolver else host.dns or list(settings.dns),
        search=host.dns_search or list(settings.dns_search),
        options=host.dns_options or list(settings.dns_options),
        keep_loopback=host.network_mode == "host",
        embedded=bool(resolver),
    )
    _write(Path(container.directory) / "resolv.conf", text)


def host_resolver(network_mode: str) -> str:
    """The host's resolver file: beyond its own network, that of the servers behind systemd-resolved's stub, as with Docker."""
    text = _read(HOST_RESOLVER)
    if network_mode != "host" and etc_files.parse_resolv_conf(text)[0] == ["127.0.0.53"]:
        return _read(BEHIND_SYSTEMDS_STUB) or text
    return text


def write_hosts(container: Container, rooms: Rooms, endpoints: Sequence[Endpoint]) -> None:
    """Write /etc/hosts for the addresses a container has now."""
    config, host = container.config, container.host_config
    own = etc_files.own_names(config.hostname, config.domainname)
    extra = [_extra_host(entry, endpoints) for entry in host.extra_hosts or []]
    extra += links.hosts(container, rooms.table)
    if host.network_mode == "host":
        text = _read("/etc/hosts") + "".join(f"{address}\t{name}\n" for name, address in extra)
    else:
        addresses = [(address, own) for endpoint in endpoints for address in (endpoint.ipv4, endpoint.ipv6) if address]
        text = etc_files.hosts(addresses, extra)
    _write(Path(container.directory) / "hosts", text)


def _places(container: Container, rooms: Rooms, files: Path, places: specification.Places) -> specification.Places:
    parent = container.host_config.cgroup_parent or rooms.settings.cgroup_parent
    return specification.Places(
        cgroup=cgroup_places.place(container.id, parent, slices=rooms.settings.slices is not None),
        hostname_file=str(files / "hostname"),
        hosts_file=str(files / "hosts"),
        resolv_conf_file=str(files / "resolv.conf"),
        init_file=rooms.settings.init_path,
        namespace_of=places.namespace_of,
        image_trees=image_mounts.trees(container, rooms),
        remap=rooms.settings.remap if remapping.applies(container.host_config, rooms.settings.remap) else None,
    )


def _extra_host(entry: str, endpoints: Sequence[Endpoint]) -> tuple[str, str]:
    name, _, address = entry.partition(":")
    if address == "host-gateway":
        gateways = [endpoint.gateway for endpoint in endpoints if endpoint.gateway]
        if not gateways:
            raise InvalidParameter("unable to derive the IP value for host-gateway")
        address = gateways[0]
    return name, address.strip("[]")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """In place, because a container of an earlier start may have the file mounted; made world-readable.

    Shortened after the write, not before: ext4 puts a file that was emptied and written on the disk at once (auto_da_alloc), which
    a container that joins a network would wait for.
    """
    content = text.encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.pwrite(fd, content, 0)
            os.ftruncate(fd, len(content))
        finally:
            os.close(fd)
    except OSError as error:
        raise CarrackError(f"cannot write {path}: {error.strerror}") from error

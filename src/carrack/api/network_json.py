"""Networks as the API writes and reads them: `Network`, `NetworkCreateRequest`, `EndpointResource` of the Engine API."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from carrack.api.moments import rfc3339
from carrack.api.versions import at_least
from carrack.engine.config import EndpointSettings
from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import Endpoint
from carrack.networks.network import IpamConfig, Network


class IpamPool(msgspec.Struct, omit_defaults=True):
    """One of IPAM.Config. Absent keys are absent, as Docker has it."""

    Subnet: str = ""
    IPRange: str = ""
    Gateway: str = ""
    AuxiliaryAddresses: dict[str, str] | None = None


class Ipam(msgspec.Struct):
    """`IPAM` of a network, asked for or shown."""

    Driver: str = "default"
    Options: dict[str, str] | None = None
    Config: list[IpamPool] | None = None


class ConfigReference(msgspec.Struct):
    """`ConfigFrom`: the network that has another's configuration."""

    Network: str = ""


class EndpointResource(msgspec.Struct):
    """One container in a network's inspect."""

    Name: str
    EndpointID: str
    MacAddress: str
    IPv4Address: str
    IPv6Address: str


class SubnetStatus(msgspec.Struct):
    """How full a subnet is."""

    IPsInUse: int
    DynamicIPsAvailable: int


class IpamStatus(msgspec.Struct, omit_defaults=True):
    """The addresses in use, by subnet."""

    Subnets: dict[str, SubnetStatus] = {}


class NetworkStatus(msgspec.Struct):
    """`Status` of a network (API 1.52)."""

    IPAM: IpamStatus


class NetworkResource(msgspec.Struct):
    """A network, in the order in which Docker writes it."""

    Name: str
    Id: str
    Created: str
    Scope: str
    Driver: str
    EnableIPv4: bool | msgspec.UnsetType
    EnableIPv6: bool
    IPAM: Ipam
    Internal: bool
    Attachable: bool
    Ingress: bool
    ConfigFrom: ConfigReference
    ConfigOnly: bool
    Containers: dict[str, EndpointResource] | msgspec.UnsetType
    """Inspect alone has it, since 1.52; a list had an empty one before, and before 1.28 a true one."""
    Options: dict[str, str]
    Labels: dict[str, str]
    Status: NetworkStatus | msgspec.UnsetType = msgspec.UNSET
    """Inspect alone has it, since 1.52."""


class NetworkCreate(msgspec.Struct):
    """The body of POST /networks/create."""

    Name: str = ""
    CheckDuplicate: bool = False
    """What it asks for is always done (deprecated in 1.44)."""
    Driver: str = ""
    Scope: str = ""
    EnableIPv4: bool | None = None
    EnableIPv6: bool | None = None
    IPAM: Ipam | None = None
    Internal: bool = False
    Attachable: bool = False
    Ingress: bool = False
    ConfigOnly: bool = False
    ConfigFrom: ConfigReference | None = None
    Options: dict[str, str] | None = None
    Labels: dict[str, str] | None = None


class NetworkCreated(msgspec.Struct):
    """The answer to POST /networks/create."""

    Id: str
    Warning: str = ""


class NetworkConnect(msgspec.Struct):
    """The body of POST /networks/{id}/connect."""

    Container: str = ""
    EndpointConfig: EndpointSettings | None = None


class NetworkDisconnect(msgspec.Struct):
    """The body of POST /networks/{id}/disconnect."""

    Container: str = ""
    Force: bool = False
    """For endpoints whose container is gone: here none outlives its container."""


class NetworksPruned(msgspec.Struct):
    """The answer to POST /networks/prune."""

    NetworksDeleted: list[str] | None


def resource(network: Network, endpoints: Sequence[Endpoint], version: str) -> NetworkResource:
    """A network as list and inspect show it, with these of its endpoints."""
    return NetworkResource(
        Name=network.name,
        Id=network.id,
        Created=rfc3339(network.created_nanoseconds),
        Scope=network.scope,
        Driver=network.driver,
        EnableIPv4=network.enable_ipv4 if at_least(version, "1.48") else msgspec.UNSET,
        EnableIPv6=network.enable_ipv6,
        IPAM=Ipam(network.ipam_driver, network.ipam_options, [_pool(pool) for pool in network.pools]),
        Internal=network.internal,
        Attachable=network.attachable,
        Ingress=network.ingress,
        ConfigFrom=ConfigReference(network.config_from),
        ConfigOnly=network.config_only,
        Containers={endpoint.container_id: _endpoint(endpoint) for endpoint in endpoints},
        Options=network.options,
        Labels=network.labels,
    )


def status(use: dict[str, tuple[int, int]]) -> NetworkStatus:
    """How full a network's subnets are; numbers no larger than Go's uint64 holds, as in Docker."""
    largest = 2**64 - 1
    subnets = {subnet: SubnetStatus(in_use, min(available, largest)) for subnet, (in_use, available) in use.items()}
    return NetworkStatus(IpamStatus(subnets))


def _pool(pool: IpamConfig) -> IpamPool:
    return IpamPool(pool.subnet, pool.ip_range, pool.gateway, pool.auxiliary_addresses or None)


def _endpoint(endpoint: Endpoint) -> EndpointResource:
    return EndpointResource(
        Name=endpoint.name,
        EndpointID=endpoint.id,
        MacAddress=endpoint.mac,
        IPv4Address=f"{endpoint.ipv4}/{endpoint.prefix}" if endpoint.ipv4 else "",
        IPv6Address=f"{endpoint.ipv6}/{endpoint.prefix6}" if endpoint.ipv6 else "",
    )


def request_of(body: NetworkCreate) -> NetworkRequest:
    """What a client asks, in the words of `Networks`."""
    ipam = body.IPAM or Ipam()
    pools = tuple(
        IpamConfig(
            subnet=pool.Subnet, ip_range=pool.IPRange, gateway=pool.Gateway, auxiliary_addresses=pool.AuxiliaryAddresses or {}
        )
        for pool in ipam.Config or ()
    )
    return NetworkRequest(
        name=body.Name,
        driver=body.Driver or "bridge",
        enable_ipv4=True if body.EnableIPv4 is None else body.EnableIPv4,
        enable_ipv6=bool(body.EnableIPv6),
        internal=body.Internal,
        attachable=body.Attachable,
        ingress=body.Ingress,
        config_only=body.ConfigOnly,
        config_from=body.ConfigFrom.Network if body.ConfigFrom else "",
        ipam_driver=ipam.Driver or "default",
        ipam_options=ipam.Options,
        pools=pools,
        options=body.Options or {},
        labels=body.Labels or {},
    )

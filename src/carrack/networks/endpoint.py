"""An endpoint: one container's place in one network, as wished and as made; and a published port, as asked and as held."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Literal

import msgspec

Protocol = Literal["tcp", "udp", "sctp"]


class EndpointWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a container asks of a network. Empty fields leave the choice to the network."""

    container_name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()
    driver_options: dict[str, str] = {}
    upstreams: tuple[str, ...] = ()
    """The servers that the embedded name server asks for this container (`--dns`); empty: the host's."""
    reaches: tuple[tuple[str, Protocol, int], ...] = ()
    """(container, protocol, port) that this may reach though the network keeps containers apart (`--link`, `--icc=false`)."""
    gateway_priority: int = 0
    """The network with the highest gives the container its default route (`GwPriority`)."""


class Publication(msgspec.Struct, frozen=True):
    """A port that is published for an endpoint: recorded, so that a later daemon puts the same rules back."""

    container_port: int
    protocol: Protocol
    host_ip: str
    host_port: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place in a network. The record is written before the first kernel object that it names."""

    id: str
    network_id: str
    network_name: str
    driver: str
    container_id: str
    wish: EndpointWish = EndpointWish()
    ipv4: str = ""
    prefix: int = 0
    gateway: str = ""
    ipv6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    mac: str = ""
    interface: str = ""
    """The name inside the container, such as ``eth0``; empty for host and none."""
    host_interface: str = ""
    """The veth's end on the host; empty where the network needs none."""
    mtu: int = 0
    publications: tuple[Publication, ...] = ()

    @property
    def name(self) -> str:
        """The name Docker shows for an endpoint: its container's."""
        return self.wish.container_name

    @property
    def mac_address(self) -> str:
        """The same as `mac`, in Docker's word."""
        return self.mac


@dataclass(frozen=True, slots=True)
class PortBinding:
    """One published port as asked: ``-p [host_ip:][host_port]:container_port[/protocol]``.

    `host_port` empty or ``0``: an ephemeral one; ``8000-8010``: the first free one of these.
    """

    container_port: int
    protocol: Protocol = "tcp"
    host_ip: str = ""
    host_port: str = ""
    preferred_port: int = 0
    """For an ephemeral one: the number it had before, taken again when it is still free."""


@dataclass(frozen=True, slots=True)
class HeldPort:
    """One published port with a host address and number that are really ours: `socket` is bound to them.

    The socket belongs to the one who asked; the port is free again when it is closed, wherever it was sent.
    """

    container_port: int
    protocol: Protocol
    host_ip: str
    host_port: int
    socket: socket.socket | None = field(compare=False, default=None)
    """None for a port that another process (the shim) holds already."""

    def close(self) -> None:
        """Let the port go (this process's hold on it). Idempotent."""
        if self.socket is not None:
            self.socket.close()

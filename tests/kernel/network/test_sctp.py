"""Published SCTP ports, by packets as they are: this suite's hosts need no SCTP of their own."""

from __future__ import annotations

import socket
import struct

import pytest

from carrack.kernel import netns
from carrack.networks.endpoint import PortBinding
from tests.kernel.network.lab import MACHINE4, OUTSIDE4, Lab

pytestmark = pytest.mark.root


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def initiation(source: int, target: int) -> bytes:
    """An INIT (RFC 9260, 3.3.2), with its checksum."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0xDECAFBAD, 65536, 1, 1, 1)
    packet = struct.pack(">HHI", source, target, 0)
    sealed = struct.pack("<I", crc32c(packet + b"\0\0\0\0" + chunk))
    return packet + sealed + chunk


def raw(place: int) -> socket.socket:
    return netns.inside(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP))


def test_an_association_from_outside_reaches_the_container(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "web", ports=[PortBinding(36412, "sctp", host_port="5000")])
    assert [(port.host_ip, port.host_port) for port in box.held] == [("0.0.0.0", 5000)]
    with raw(box.place) as container, raw(lab.outside) as outside:
        container.settimeout(10)
        outside.sendto(initiation(40000, 5000), (MACHINE4, 0))
        packet, (source, _) = container.recvfrom(2048)
        assert source == OUTSIDE4
        assert struct.unpack_from(">HH", packet, 20) == (40000, 36412)


def test_a_port_is_had_once_and_a_free_one_is_found(lab: Lab) -> None:
    networks = lab.open()
    lab.start(networks, "one", ports=[PortBinding(80, "sctp", host_port="5000")])
    with pytest.raises(Exception, match="Bind for 0.0.0.0:5000 failed: port is already allocated"):
        lab.start(networks, "two", ports=[PortBinding(80, "sctp", host_port="5000")])
    given = {lab.start(networks, f"any{number}", ports=[PortBinding(80, "sctp")]).held[0].host_port for number in range(3)}
    assert len(given) == 3
    assert all(given)

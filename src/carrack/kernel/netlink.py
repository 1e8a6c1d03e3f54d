"""rtnetlink(7): links, addresses, routes and neighbours of one network namespace, by messages on one socket.

A `Netlink` belongs to the namespace in which its thread stood when it was made, for ever (see kernel/netns.py for how to open one
elsewhere). Only the attributes that Carrack uses are known here; constants are those of linux/if_link.h, linux/rtnetlink.h and
linux/if_addr.h. Failures are OSError with the kernel's errno and, where it gave one, its own sentence (extended acknowledgement).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Literal, Self

from carrack.kernel.reports import allow_backlog, drain

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, GET_ROUTE = 24, 26
GROUP_LINK = 1  # RTMGRP_LINK

_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_EXCLUSIVE, _CREATE, _REPLACE = 0x200, 0x400, 0x100
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_DUMP_TRIES = 10
"""How often a list is asked for that changes while it is told; the last one is taken as it is."""
_CAPPED, _ACK_TLVS = 0x100, 0x200
_NESTED = 0x8000
_SOL_NETLINK, _EXT_ACK, _STRICT = 270, 11, 12
_SO_ATTACH_FILTER = 26
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_AF_UNSPECIFIED = 0

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")

_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 18, 27, 28, 29
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_PORT_HAIRPIN, _PORT_ISOLATED = 4, 33
_BRIDGE_MCAST_SNOOPING = 23
_MACVLAN_MODE = 1
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODE, _IPVLAN_FLAGS = 1, 2
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAG_VALUES = {"bridge": 0, "private": 1, "vepa": 2}
_VLAN_ID = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_NO_DAD = 0x02
_RTA_DESTINATION, _RTA_INTERFACE, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_TABLE_MAIN, _PROTOCOL_BOOT, _UNICAST = 254, 3, 1
SCOPE_GLOBAL, SCOPE_LINK = 0, 253
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG

MacvlanMode = Literal["private", "vepa", "bridge", "passthru"]
IpvlanMode = Literal["l2", "l3", "l3s"]


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface as the kernel reports it. `master` and `parent` are indices, 0: none."""

    index: int
    name: str
    kind: str
    up: bool
    running: bool
    mtu: int
    mac: str
    master: int
    parent: int
    group: int


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table. A default route has the destination ``0.0.0.0/0`` or ``::/0``."""

    destination: Prefix
    gateway: Address | None
    interface: int
    priority: int


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, os.fsencode(value) + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, _U32.pack(value))


def _nest(kind: int, *attributes: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(attributes))


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _attributes(payload: bytes, offset: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + 4 <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = payload[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, payload) of each message of a datagram."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _link_from(payload: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    attributes = _attributes(payload, _LINK.size)

    def number(kind: int) -> int:
        raw = attributes.get(kind)
        return int(_U32.unpack_from(raw)[0]) if raw else 0

    information = _attributes(attributes.get(_IFLA_LINKINFO, b""), 0)
    return Link(
        index=index,
        name=attributes.get(_IFLA_NAME, b"").rstrip(b"\0").decode(errors="replace"),
        kind=information.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_RUNNING),
        mtu=number(_IFLA_MTU),
        mac=attributes.get(_IFLA_ADDRESS, b"").hex(":"),
        master=number(_IFLA_MASTER),
        parent=number(_IFLA_LINK),
        group=number(_IFLA_GROUP),
    )


def _route_from(payload: bytes) -> Route | None:
    family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(payload)
    attributes = _attributes(payload, _ROUTE.size)
    raw_table = attributes.get(_RTA_TABLE)
    if (int(_U32.unpack(raw_table)[0]) if raw_table else table) != _TABLE_MAIN or kind != _UNICAST:
        return None
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    zero = bytes(4 if family == socket.AF_INET else 16)
    destination = ip_address(attributes.get(_RTA_DESTINATION, zero))
    gateway = attributes.get(_RTA_GATEWAY)
    interface = attributes.get(_RTA_INTERFACE)
    priority = attributes.get(_RTA_PRIORITY)
    return Route(
        destination=ip_network(f"{destination}/{length}", strict=False),
        gateway=ip_address(gateway) if gateway else None,
        interface=int(_U32.unpack(interface)[0]) if interface else 0,
        priority=int(_U32.unpack(priority)[0]) if priority else 0,
    )


class Netlink:
    """A conversation with the kernel about one network namespace. Safe to share between threads: requests take turns."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _STRICT, 1)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._turn = threading.Lock()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, kind: int, flags: int, payload: bytes, subject: str = "") -> list[bytes]:
        """Send one message; return the payloads of what is answered. Raises OSError; `subject` is named in it."""
        with self._turn:
            for _ in range(_DUMP_TRIES):
                self._sequence = (self._sequence + 1) & 0xFFFFFFFF
                header = _HEADER.pack(16 + len(payload), kind, flags | _REQUEST | _ACK, self._sequence, 0)
                self._socket.send(header + payload)
                answers, consistent = self._answers(subject)
                if consistent:
                    break
            return answers

    def _answers(self, subject: str) -> tuple[list[bytes], bool]:
        """The payloads, and whether nothing changed while the kernel listed them: else some may be missing (NLM_F_DUMP_INTR)."""
        answers: list[bytes] = []
        consistent = True
        while True:
            for kind, flags, sequence, payload in _messages(self._socket.recv(1 << 16)):
                if sequence != self._sequence:
                    continue  # the rest of an earlier request that was interrupted
                if kind == _ERROR:
                    _raise_if_failed(payload, flags, subject)
                    return answers, consistent
                consistent = consistent and not flags & _DUMP_INTERRUPTED
                if kind == _DONE:
                    return answers, consistent
                answers.append(payload)

    # ── links ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def links(self) -> list[Link]:
        """Every interface of the namespace."""
        payload = _LINK.pack(_AF_UNSPECIFIED, 0, 0, 0, 0) + _number(_IFLA_EXT_MASK, _SKIP_STATISTICS)
        return [_link_from(answer) for answer in self.request(GET_LINK, _DUMP, payload)]

    def find_link(self, name: str) -> Link | None:
        """The interface of that name, None when there is none."""
        try:
            answers = self.request(GET_LINK, 0, _LINK.pack(_AF_UNSPECIFIED, 0, 0, 0, 0) + _text(_IFLA_NAME, name), name)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENOENT):
                return None
            raise
        return _link_from(answers[0])

    def get_link(self, name: str) -> Link:
        """The interface of that name; OSError (ENODEV) when there is none."""
        link = self.find_link(name)
        if link is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
        return link

    def _add_link(self, name: str, kind: str, *attributes: bytes, information: bytes = b"") -> None:
        linkinfo = _nest(_IFLA_LINKINFO, _text(_INFO_KIND, kind), information)
        payload = _LINK.pack(_AF_UNSPECIFIED, 0, 0, 0, 0) + _text(_IFLA_NAME, name) + b"".join(attributes) + linkinfo
        self.request(NEW_LINK, _CREATE | _EXCLUSIVE, payload, name)

    def add_bridge(self, name: str, *, mac: str = "", mtu: int = 0, group: int = 0) -> None:
        """Make a bridge, down. With `mac` its address no longer follows its ports'."""
        extra = [_attribute(_IFLA_ADDRESS, _mac(mac))] if mac else []
        if mtu:
            extra.append(_number(_IFLA_MTU, mtu))
        if group:
            extra.append(_number(_IFLA_GROUP, group))
        self._add_link(name, "bridge", *extra)

    def add_veth(self, name: str, peer: str, *, peer_namespace_fd: int, peer_mac: str = "", mtu: int = 0, master: int = 0) -> None:
        """Make a pair, both down: `name` here (a port of `master` when given), `peer` directly in the other namespace."""
        far = _LINK.pack(_AF_UNSPECIFIED, 0, 0, 0, 0) + _text(_IFLA_NAME, peer)
        if peer_namespace_fd >= 0:
            far += _number(_IFLA_NET_NS_FD, peer_namespace_fd)
        if peer_mac:
            far += _attribute(_IFLA_ADDRESS, _mac(peer_mac))
        near = []
        if mtu:
            far += _number(_IFLA_MTU, mtu)
            near.append(_number(_IFLA_MTU, mtu))
        if master:
            near.append(_number(_IFLA_MASTER, master))
        self._add_link(name, "veth", *near, information=_nest(_INFO_DATA, _nest(_VETH_PEER, far)))

    def add_macvlan(
        self, name: str, parent: int, mode: MacvlanMode, *, namespace_fd: int = -1, mac: str = "", mtu: int = 0
    ) -> None:
        """Make a macvlan on `parent`, directly in the other namespace."""
        data = _nest(_INFO_DATA, _number(_MACVLAN_MODE, _MACVLAN_MODES[mode]))
        self._add_link(name, "macvlan", *_child(parent, namespace_fd, mac, mtu), information=data)

    def add_ipvlan(self, name: str, parent: int, mode: IpvlanMode, flag: str, *, namespace_fd: int = -1, mtu: int = 0) -> None:
        """Make an ipvlan on `parent`, directly in the other namespace. OSError (EOPNOTSUPP) where the kernel has none."""
        data = _nest(
            _INFO_DATA,
            _attribute(_IPVLAN_MODE, struct.pack("=H", _IPVLAN_MODES[mode])),
            _attribute(_IPVLAN_FLAGS, struct.pack("=H", _IPVLAN_FLAG_VALUES[flag])),
        )
        self._add_link(name, "ipvlan", *_child(parent, namespace_fd, "", mtu), information=data)

    def add_vlan(self, name: str, parent: int, identifier: int) -> None:
        """Make an 802.1Q sub-interface of `parent`."""
        data = _nest(_INFO_DATA, _attribute(_VLAN_ID, struct.pack("=H", identifier)))
        self._add_link(name, "vlan", _number(_IFLA_LINK, parent), information=data)

    def add_dummy(self, name: str) -> None:
        """Make a link that leads nowhere (the parent of an internal macvlan network)."""
        self._add_link(name, "dummy")

    def set_link(
        self,
        index: int,
        *,
        up: bool | None = None,
        mtu: int = 0,
        master: int | None = None,
        group: int | None = None,
        hairpin: bool | None = None,
        isolated: bool | None = None,
    ) -> None:
        """Change what is given, in one message. `hairpin` and `isolated` are flags of a bridge's port."""
        attributes = b""
        if mtu:
            attributes += _number(_IFLA_MTU, mtu)
        if master is not None:
            attributes += _number(_IFLA_MASTER, master)
        if group is not None:
            attributes += _number(_IFLA_GROUP, group)
        port = b""
        if hairpin is not None:
            port += _attribute(_PORT_HAIRPIN, bytes([hairpin]))
        if isolated is not None:
            port += _attribute(_PORT_ISOLATED, bytes([isolated]))
        if port:
            attributes += _nest(_IFLA_LINKINFO, _text(_INFO_SLAVE_KIND, "bridge"), _nest(_INFO_SLAVE_DATA, port))
        flags, change = (_IFF_UP if up else 0, _IFF_UP) if up is not None else (0, 0)
        header = _LINK.pack(_AF_UNSPECIFIED, 0, index, flags, change)
        self.request(NEW_LINK, 0, header + attributes, f"interface {index}")

    def delete_link(self, index: int) -> None:
        """Remove an interface, and a pair's other end with it. OSError (ENODEV) when it is gone already."""
        self.request(DELETE_LINK, 0, _LINK.pack(_AF_UNSPECIFIED, 0, index, 0, 0), f"interface {index}")

    # ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_address(self, index: int, interface: IPv4Interface | IPv6Interface) -> None:
        """Give an interface an address; giving the same again changes nothing. IPv6 is usable at once (no RFC 4862 DAD)."""
        packed = interface.ip.packed
        attributes = _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
        flags = 0
        if isinstance(interface, IPv4Interface):
            if interface.network.prefixlen < 31:
                attributes += _attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
        else:
            flags = _IFA_NO_DAD
        scope = SCOPE_LINK if interface.ip.is_link_local else SCOPE_GLOBAL
        header = _ADDRESS.pack(_family(interface.ip), interface.network.prefixlen, flags, scope, index)
        self.request(NEW_ADDRESS, _CREATE | _REPLACE, header + attributes, str(interface))

    def delete_address(self, index: int, interface: IPv4Interface | IPv6Interface) -> None:
        """Take an address from an interface. OSError (EADDRNOTAVAIL) when it has it not."""
        header = _ADDRESS.pack(_family(interface.ip), interface.network.prefixlen, 0, 0, index)
        self.request(DELETE_ADDRESS, 0, header + _attribute(_IFA_LOCAL, interface.ip.packed), str(interface))

    def addresses(self, index: int = 0) -> list[tuple[int, IPv4Interface | IPv6Interface]]:
        """(interface index, address) for each address of the namespace, or of one interface."""
        found: list[tuple[int, IPv4Interface | IPv6Interface]] = []
        for answer in self.request(GET_ADDRESS, _DUMP, _ADDRESS.pack(_AF_UNSPECIFIED, 0, 0, 0, index)):
            family, length, _, _, owner = _ADDRESS.unpack_from(answer)
            attributes = _attributes(answer, _ADDRESS.size)
            raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if raw is None:
                continue
            if family == socket.AF_INET:
                found.append((owner, IPv4Interface((raw, length))))
            elif family == socket.AF_INET6:
                found.append((owner, IPv6Interface((raw, length))))
        return found

    # ── routes ──────────────────────────────────────────────────────────────────────────────────────────

    def add_route(self, destination: Prefix, *, gateway: Address | None = None, index: int = 0) -> None:
        """Add a route to the main table, or change the one with the same destination."""
        self.request(NEW_ROUTE, _CREATE | _REPLACE, _route(destination, gateway, index), str(destination))

    def routes(self) -> list[Route]:
        """The unicast routes of the main table, IPv4 and IPv6."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            header = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            found += [_route_from(answer) for answer in self.request(GET_ROUTE, _DUMP, header)]
        return [route for route in found if route is not None]


class LinkMonitor:
    """Reports the links of the namespace in which it was made that are gone.

    A filter in the kernel drops the rest: one container makes fourteen reports of links that appear and change.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        allow_backlog(self._socket)
        _attach_filter(self._socket, _ONLY_GONE)
        self._socket.bind((0, GROUP_LINK))

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> tuple[list[str], bool]:
        """The names of those that went, perhaps none, and whether reports were lost (look at the links, then). Never blocks."""
        datagrams, lost = drain(self._socket)
        return [_link_from(payload).name for data in datagrams for _, _, _, payload in _messages(data)], lost

    def close(self) -> None:
        self._socket.close()


# Classic BPF: (code, jump if true, jump if false, operand). Half-words are loaded in network order (linux/filter.h).
_LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
_ONLY_GONE = (
    (_LOAD_HALF, 0, 0, 4),  # nlmsg_type
    (_JUMP_EQUAL, 0, 3, socket.htons(DELETE_LINK)),
    (_LOAD_BYTE, 0, 0, 16),  # ifi_family: a port that leaves its bridge is reported as AF_BRIDGE, and may live on
    (_JUMP_EQUAL, 0, 1, _AF_UNSPECIFIED),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


def _attach_filter(listener: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _raise_if_failed(payload: bytes, flags: int, subject: str) -> None:
    number = -int(struct.unpack_from("=i", payload)[0])
    if number == 0:
        return
    text = os.strerror(number)
    if flags & _ACK_TLVS:
        # The request is echoed after the errno: whole, or its header alone when the answer is capped.
        echoed = 16 if flags & _CAPPED else struct.unpack_from("=I", payload, 4)[0]
        sentence = _attributes(payload, 4 + ((echoed + 3) & ~3)).get(_ERROR_TEXT, b"").rstrip(b"\0")
        if sentence:
            text = f"{text} ({sentence.decode(errors='replace')})"
    raise OSError(number, text, subject or None)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _child(parent: int, namespace_fd: int, mac: str, mtu: int) -> list[bytes]:
    attributes = [_number(_IFLA_LINK, parent)]
    if namespace_fd >= 0:
        attributes.append(_number(_IFLA_NET_NS_FD, namespace_fd))
    if mac:
        attributes.append(_attribute(_IFLA_ADDRESS, _mac(mac)))
    if mtu:
        attributes.append(_number(_IFLA_MTU, mtu))
    return attributes


def _route(destination: Prefix, gateway: Address | None, index: int) -> bytes:
    scope = SCOPE_LINK if gateway is None and destination.version == 4 else SCOPE_GLOBAL
    family = _family(destination.network_address)
    payload = _ROUTE.pack(family, destination.prefixlen, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, scope, _UNICAST, 0)
    if destination.prefixlen:
        payload += _attribute(_RTA_DESTINATION, destination.network_address.packed)
    if gateway is not None:
        payload += _attribute(_RTA_GATEWAY, gateway.packed)
    if index:
        payload += _number(_RTA_INTERFACE, index)
    return payload

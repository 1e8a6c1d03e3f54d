"""CRIU's protocol, as much of it as is spoken here: requests as bytes, answers out of bytes. Opens nothing.

Protocol buffers by hand: a dozen fields do not make up for that library's memory in every process. The field numbers are those of
CRIU's images/rpc.proto, which are never given anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from carrack.errors import SystemFailure

DUMP, RESTORE, NOTIFY = 1, 2, 6
LOG_LEVEL = 4
NETWORK_KEY = "extRootNetNS"
"""What a network namespace is called that CRIU is to leave alone; runc's word, so that its checkpoints and ours are alike."""

EXT_UNIX_SK, TCP_ESTABLISHED, SHELL_JOB, AUTO_DEDUP, LINK_REMAP, TCP_SKIP_IN_FLIGHT, LAZY_PAGES = 4, 5, 7, 16, 18, 46, 48
"""Switches (`Options.switches`); file locks are always written out."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_IGNORE_CGROUPS = 0
_SKIP_NETWORK_LOCK = 3
_CONFIGURATION = "/etc/criu/runc.conf"
"""Where administrators put options of theirs for containers (``tcp-established`` and the like), as for runc."""


class Options(NamedTuple):
    """What is asked about a dump or a restore."""

    images_fd: int
    """The directory of the images, a descriptor of the process that made the socket."""
    log_fd: int
    """The directory of the log, likewise."""
    log_file: str
    pid: int = 0
    """The root of what is dumped."""
    leave_running: bool = False
    root: str = ""
    """Where the restored root is mounted."""
    externals: Sequence[str] = ()
    """``mnt[KEY]:VALUE`` and ``net[INODE]:KEY``: what CRIU is to find, not to make."""
    inherited: Sequence[tuple[str, int]] = ()
    """(what a descriptor was at the dump, the one to put there): descriptors of CRIU's own process."""
    joins: Sequence[tuple[str, str]] = ()
    """(kind, path) of namespaces that are there to be joined."""
    switches: Sequence[int] = ()
    """Further switches to be on."""


class Answer(NamedTuple):
    """One message of CRIU's."""

    kind: int
    success: bool
    moment: str
    """Of a notification: ``setup-namespaces``, ``orphan-pts-master``, …"""
    pid: int
    """Of a notification about processes that are being restored: their root."""
    message: str


def dump(options: Options) -> bytes:
    """The order to write processes out."""
    text = _shared(options) + _number(2, options.pid) + _number(3, options.leave_running)
    return _request(DUMP, text)


def restore(options: Options) -> bytes:
    """The order to make processes of images, as children of CRIU's own parent, with a notification at each step."""
    text = _shared(options) + _number(6, True) + _number(12, True) + _text(13, options.root) + _number(26, True)
    for key, fd in options.inherited:
        text += _bytes(27, _text(1, key) + _number(2, fd))
    for kind, path in options.joins:
        text += _bytes(39, _text(1, kind) + _text(2, path))
    return _request(RESTORE, text)


def go_on() -> bytes:
    """The answer to a notification."""
    return _number(1, NOTIFY) + _number(3, True)


def answer(packet: bytes) -> Answer:
    """Read what CRIU says. Raises SystemFailure when it is no message of this protocol."""
    kind, success, moment, pid, message = 0, False, "", 0, ""
    for field, value in _fields(packet):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field == 2:
            success = bool(value)
        elif field == 5 and isinstance(value, bytes):
            for inner, content in _fields(value):
                if inner == 1 and isinstance(content, bytes):
                    moment = content.decode(errors="replace")
                elif inner == 2 and isinstance(content, int):
                    pid = content
        elif field == 9 and isinstance(value, bytes):
            message = value.decode(errors="replace")
    return Answer(kind, success, moment, pid, message)


def _shared(options: Options) -> bytes:
    text = _number(1, options.images_fd) + _number(8, True) + _number(9, LOG_LEVEL) + _text(10, options.log_file)
    text += _number(17, options.log_fd) + _number(29, True) + _number(30, True)  # shared and slave mounts of the host
    text += _number(34, _IGNORE_CGROUPS) + _number(50, True) + _text(51, _CONFIGURATION) + _number(64, _SKIP_NETWORK_LOCK)
    for switch in options.switches:
        text += _number(switch, True)
    for external in options.externals:
        text += _text(37, external)
    return text


def _request(kind: int, options: bytes) -> bytes:
    return _number(1, kind) + _bytes(2, options)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(int(value))


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode(errors="surrogateescape"))


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _fields(packet: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    try:
        while at < len(packet):
            key, at = _read_varint(packet, at)
            kind = key & 7
            if kind == _VARINT:
                number, at = _read_varint(packet, at)
                yield key >> 3, number
                continue
            if kind == _BYTES:
                length, at = _read_varint(packet, at)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise IndexError
            if at + length > len(packet):
                raise IndexError
            yield key >> 3, packet[at : at + length]
            at += length
    except IndexError:
        raise SystemFailure("criu has sent something that is no message of its protocol") from None


def _read_varint(packet: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = packet[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError

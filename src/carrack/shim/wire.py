"""How one message of `messages.py` travels: one SOCK_SEQPACKET packet, JSON, descriptors beside it.

A message over `PACKET_BYTES` (the kernel refuses packets over about 200 kB), and every one that may hold secrets, travels in a
sealed memfd: the packet then only says so, and the memfd is the first descriptor. The receiver checks the seals, so that nobody
can change or shrink what it is reading. Every received descriptor is close-on-exec. All functions work on blocking and on
non-blocking sockets (BlockingIOError passes through, nothing is sent in part).
"""

from __future__ import annotations

import _socket
import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from carrack.errors import SystemFailure
from carrack.shim import messages
from carrack.shim.messages import Message

T = TypeVar("T")

PACKET_BYTES = 60_000
MESSAGE_BYTES = 64 * 1024 * 1024
DESCRIPTORS = 250
"""The kernel's own bound is 253 (SCM_MAX_FD)."""

_SEALED = b'{"type":"sealed"}'
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_ANCILLARY_BYTES = _socket.CMSG_SPACE(DESCRIPTORS * 4)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class ConversationEnded(EOFError):
    """The other side has closed its end (or died)."""


class Packet:
    """A message ready for sendmsg. Close it after sending: a memfd may belong to it."""

    __slots__ = ("_memfd", "fds", "payload")

    def __init__(self, message: Message, fds: Sequence[int] = (), *, sealed: bool = False) -> None:
        if len(fds) > DESCRIPTORS - 1:
            raise SystemFailure(f"a message cannot carry {len(fds)} descriptors")
        self.payload = _encoder.encode(message)
        self.fds = tuple(fds)
        self._memfd = -1
        if sealed or len(self.payload) > PACKET_BYTES:
            self._memfd = _sealed_memfd(self.payload)
            self.payload, self.fds = _SEALED, (self._memfd, *self.fds)

    @property
    def ancillary(self) -> list[tuple[int, int, bytes]]:
        """The control messages for sendmsg."""
        return ancillary(self.fds)

    def close(self) -> None:
        if self._memfd >= 0:
            os.close(self._memfd)
            self._memfd = -1


def ancillary(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The control message that carries descriptors."""
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []


def send(sock: _socket.socket, message: Message, fds: Sequence[int] = (), *, sealed: bool = False) -> None:
    """Send one message with descriptors, which stay open here. `sealed` forces the memfd (orders that hold secrets)."""
    packet = Packet(message, fds, sealed=sealed)
    try:
        sock.sendmsg([packet.payload], packet.ancillary, _socket.MSG_NOSIGNAL)
    finally:
        packet.close()


def receive(sock: _socket.socket) -> tuple[Message, list[int]]:
    """The next message and its descriptors, now the caller's. ConversationEnded at its end, SystemFailure for no message."""
    payload, fds = receive_packet(sock)
    return open_packet(payload, fds)


def receive_packet(sock: _socket.socket) -> tuple[bytes, list[int]]:
    """The next packet unopened: the zygote hands it to a forked child so that its content is never read here."""
    payload, ancillary, flags, _ = sock.recvmsg(PACKET_BYTES + 1, _ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4]))
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(payload) > PACKET_BYTES:
        close_all(fds)
        raise SystemFailure("a packet was larger than the protocol allows")
    if not payload:
        close_all(fds)
        raise ConversationEnded
    return payload, fds


def open_packet(payload: bytes, fds: list[int]) -> tuple[Message, list[int]]:
    """Decode a received packet; closes every descriptor when it cannot be decoded."""
    try:
        if not is_sealed(payload, fds):
            return decode(payload), fds
        message = read_sealed(fds[0])
        os.close(fds.pop(0))
        return message, fds
    except BaseException:
        close_all(fds)
        raise


def is_sealed(payload: bytes, fds: Sequence[int]) -> bool:
    """Whether the packet's message is in its first descriptor."""
    if payload != _SEALED:
        return False
    if not fds:
        raise SystemFailure("a sealed packet came without its descriptor")
    return True


def read_sealed(memfd: int) -> Message:
    """The message in a sealed memfd, which stays open. Raises SystemFailure when it is not sealed, or no message."""
    return decode_sealed(memfd, _decoder)


def decode_sealed(memfd: int, decoder: msgspec.json.Decoder[T]) -> T:
    """The same by another decoder, straight from the memfd: nothing that the decoder passes over is copied into this process."""
    with _sealed_content(memfd) as content:
        return _decode(content, decoder)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(payload: bytes) -> Message:
    """Raises SystemFailure when the bytes are no message that this version knows."""
    return _decode(payload, _decoder)


def _decode(content: bytes | mmap.mmap, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(content)
    except msgspec.MsgspecError as error:
        raise SystemFailure(f"not a message of protocol version {messages.VERSION}: {error}") from None


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def _sealed_memfd(content: bytes) -> int:
    memfd = os.memfd_create("carrack-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(memfd, view) :]
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memfd)
        raise
    return memfd


def _sealed_content(memfd: int) -> mmap.mmap:
    try:
        seals = fcntl.fcntl(memfd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if seals & _SEALS != _SEALS:
        raise SystemFailure("a message's memfd is not sealed")
    size = os.fstat(memfd).st_size
    if not 0 < size <= MESSAGE_BYTES:
        raise SystemFailure(f"a message of {size} bytes is not what the protocol allows")
    return mmap.mmap(memfd, size, mmap.MAP_SHARED, mmap.PROT_READ)

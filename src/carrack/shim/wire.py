"""How one message of `messages` travels: one SOCK_SEQPACKET packet, JSON, descriptors beside it.

Descriptors that one packet cannot carry wait in a bag: a socket, sent as the last one, whose queue holds them in more packets.
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
"""In one packet; the kernel's own bound is 253 (SCM_MAX_FD)."""
MOST_DESCRIPTORS = 20_000
"""In a bag: a container may publish a wide range of ports."""

_BAG = b"+"
_SEALED = b'{"type":"sealed"}'
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_ANCILLARY_BYTES = _socket.CMSG_SPACE(DESCRIPTORS * 4)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class ConversationEnded(EOFError):
    """The other side has closed its end (or died)."""


class Packet:
    """A message ready for sendmsg. Close it after sending: a memfd or a bag may belong to it."""

    __slots__ = ("_own", "fds", "payload")

    def __init__(self, message: msgspec.Struct, fds: Sequence[int] = (), *, sealed: bool = False) -> None:
        if len(fds) > MOST_DESCRIPTORS:
            raise SystemFailure(f"a message cannot carry {len(fds)} descriptors")
        self.payload = _encoder.encode(message)
        self.fds = tuple(fds)
        self._own: list[int] = []
        if sealed or len(self.payload) >= PACKET_BYTES:
            self._own.append(_sealed_memfd(self.payload))
            self.payload, self.fds = _SEALED, (self._own[0], *self.fds)
        if len(self.fds) > DESCRIPTORS:
            self._own.append(_bag(self.fds[DESCRIPTORS - 1 :]))
            self.payload, self.fds = _BAG + self.payload, (*self.fds[: DESCRIPTORS - 1], self._own[-1])

    @property
    def ancillary(self) -> list[tuple[int, int, bytes]]:
        """The control messages for sendmsg."""
        return ancillary(self.fds)

    def close(self) -> None:
        """Close what belongs to the packet alone. Idempotent."""
        close_all(self._own)
        self._own = []


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


def receive_packet(sock: _socket.socket, *, wait: bool = True) -> tuple[bytes, list[int]]:
    """The next packet unopened: the zygote hands it to a forked child so that its content is never read here.

    Without `wait` a socket never blocks, whatever another process that shares it has made of its flags.
    """
    how = _socket.MSG_CMSG_CLOEXEC | (0 if wait else _socket.MSG_DONTWAIT)
    payload, messages_beside, flags, _ = sock.recvmsg(PACKET_BYTES + 1, _ANCILLARY_BYTES, how)
    fds: list[int] = []
    for level, kind, content in messages_beside:
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
        payload, fds = unpack(payload, fds)
        if not is_sealed(payload, fds):
            return decode(payload), fds
        message = read_sealed(fds[0])
        os.close(fds.pop(0))
        return message, fds
    except BaseException:
        close_all(fds)
        raise


def unpack(payload: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
    """Take the descriptors out of a packet's bag, when it has one. They are closed when that fails."""
    if not payload.startswith(_BAG):
        return payload, fds
    try:
        bag = _socket.socket(fileno=fds.pop())
        try:
            while True:
                fds += receive_packet(bag, wait=False)[1]
        except ConversationEnded:
            return payload[len(_BAG) :], fds
        finally:
            bag.close()
    except (IndexError, OSError, SystemFailure):
        close_all(fds)
        raise SystemFailure("a packet's bag of descriptors is none, or holds more than this process may have open") from None


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
    """Close descriptors; one that is none does not matter."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def _bag(fds: Sequence[int]) -> int:
    """A socket from which the descriptors can be received, and then the end."""
    inside, outside = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        outside.setblocking(False)
        for start in range(0, len(fds), DESCRIPTORS):
            outside.sendmsg([_BAG], ancillary(fds[start : start + DESCRIPTORS]), _socket.MSG_NOSIGNAL)
    except BaseException:
        inside.close()
        raise
    finally:
        outside.close()
    return inside.detach()


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

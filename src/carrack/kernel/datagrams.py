"""recvmmsg(2) and sendmmsg(2): many IPv4 datagrams by one system call each, in buffers that are made once.

A batch belongs to one thread. What it has received lies in its own memory until the next `receive`.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from ctypes import c_int, c_uint

from carrack.kernel.libc import c_void_p, libc

_MSG_DONTWAIT = 0x40
_ADDRESS_BYTES = 16
_PEER = struct.Struct("!2xH4s")


_HEADER = struct.Struct("=QI4xQQQQI4xI4x")
"""struct mmsghdr: name, its length, the vector, its length, control, its length, flags; how many bytes came. By struct and not by
classes of ctypes, whose machinery would be a quarter of a megabyte."""
_VECTOR = struct.Struct("=QQ")
_HEADER_WORDS = _HEADER.size // 4
_LENGTH_WORD = 56 // 4
_VECTOR_WORDS = _VECTOR.size // 8
_receive = libc["recvmmsg"]
_receive.argtypes = (c_int, c_void_p, c_uint, c_int, c_void_p)
_send = libc["sendmmsg"]
_send.argtypes = (c_int, c_void_p, c_uint, c_int)


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class DatagramBatch:
    """Room for a number of datagrams, each with its peer. An answer is written over its question, and goes where that came from;
    its first `kept_bytes` are the question's own, as an identifier is."""

    def __init__(self, count: int, size_bytes: int, kept_bytes: int) -> None:
        self.count = count
        self.size_bytes = size_bytes
        self.kept_bytes = kept_bytes
        self._content = bytearray(count * size_bytes)  # pages that no datagram reaches are never touched
        self._view = memoryview(self._content)  # and it can never be moved
        self._peers = bytearray(count * _ADDRESS_BYTES)
        headers, vectors = bytearray(count * _HEADER.size), bytearray(count * _VECTOR.size)
        content, peers, vector, self._first = (_address(each) for each in (self._content, self._peers, vectors, headers))
        for number in range(count):
            _VECTOR.pack_into(vectors, number * _VECTOR.size, content + number * size_bytes, size_bytes)
            name, where = peers + number * _ADDRESS_BYTES, vector + number * _VECTOR.size
            _HEADER.pack_into(headers, number * _HEADER.size, name, _ADDRESS_BYTES, where, 1, 0, 0, 0, 0)
        self._header_words = memoryview(headers).cast("I")
        self._vector_words = memoryview(vectors).cast("Q")

    def receive(self, fd: int) -> list[bytes]:
        """The datagrams that wait at a socket, at most `count`, each cut to the size and without what is kept of it; never blocks.

        Raises OSError.
        """
        received = _receive(fd, self._first, self.count, _MSG_DONTWAIT, None)
        if received < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, "recvmmsg")
        words, content, size, kept = self._header_words, self._view, self.size_bytes, self.kept_bytes
        start, word, found = 0, _LENGTH_WORD, []
        for _ in range(received):
            found.append(bytes(content[start + kept : start + words[word]]))
            start += size
            word += _HEADER_WORDS
        return found

    def whole(self, number: int) -> bytes:
        """A datagram with what is kept of it."""
        start = number * self.size_bytes
        return bytes(self._view[start : start + self._header_words[_LENGTH_WORD + number * _HEADER_WORDS]])

    def peer(self, number: int) -> tuple[str, int]:
        """Who sent a datagram."""
        port, address = _PEER.unpack_from(self._peers, number * _ADDRESS_BYTES)
        return socket.inet_ntoa(address), port

    def answer(self, fd: int, answers: list[bytes]) -> None:
        """Send the answer to each of the datagrams received last, in their order. One that cannot be sent is lost, and what follows
        it: datagrams may be."""
        content, size, lengths, kept = self._content, self.size_bytes, self._vector_words, self.kept_bytes
        start, word = kept, 1
        for answer in answers:
            length = len(answer)
            content[start : start + length] = answer
            lengths[word] = kept + length
            start += size
            word += _VECTOR_WORDS
        _send(fd, self._first, len(answers), _MSG_DONTWAIT)
        for word in range(1, len(answers) * _VECTOR_WORDS, _VECTOR_WORDS):
            lengths[word] = size

"""The multiplexed stream of attach, exec and logs: an 8-byte header (stream, 3 zeros, big-endian length) before each payload.

No socket and no clock. A payload is handed on as it arrives, so that a long one need not fit in memory.
"""

from __future__ import annotations

from carrack.client.failure import ProtocolError

STDIN, STDOUT, STDERR, SYSTEM_ERROR = range(4)
HEADER_BYTES = 8


class FrameReader:
    """Cuts a stream into (stream, bytes) pieces, however the bytes happen to arrive."""

    __slots__ = ("_header", "_left", "_stream")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self._stream = STDOUT

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take what arrived; return the pieces of payload in it. Raises ProtocolError for a stream number Docker does not have."""
        pieces: list[tuple[int, bytes]] = []
        position = 0
        end = len(data)
        while position < end:
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                position += len(piece)
                pieces.append((self._stream, piece))
                continue
            wanted = HEADER_BYTES - len(self._header)
            self._header += data[position : position + wanted]
            position += wanted
            if len(self._header) == HEADER_BYTES:
                self._stream = self._header[0]
                if self._stream > SYSTEM_ERROR:
                    raise ProtocolError(f"Unrecognized input header: {self._stream}")
                self._left = int.from_bytes(self._header[4:8], "big")
                self._header = b""
        return pieces

    @property
    def between_frames(self) -> bool:
        """Whether the stream may end here without loss."""
        return not self._left and not self._header

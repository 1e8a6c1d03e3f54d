"""The log drivers of a shim: `local`, `json-file` and `none`, fed with whatever one read of the container's output brought.

A record holds whole lines: the beginning of an unfinished line is held (at most PARTIAL_BYTES) until its end comes, it grows
overlong, or the output ends. The buffer that was read into is written from directly; nothing is copied but what is held.

Docker's mode=non-blocking puts a ring (`ring.py`) before any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from typing import Protocol

from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.logs import json_file, local
from carrack.shim.logs.record import PARTIAL_BYTES
from carrack.shim.logs.rotation import Follower, RotatingFile


class Log(Protocol):
    """Where output is kept."""

    def write(self, stream: int, buffer: mmap, length: int, now_nanoseconds: int) -> None:
        """Keep the first `length` bytes of `buffer`."""
        ...

    def flush(self, now_nanoseconds: int) -> None:
        """The output has ended: what is held is a line without an end."""
        ...

    def held(self, stream: int) -> bytes:
        """What was read and is in no record yet."""
        ...

    def take_up(self, stream: int, content: bytes) -> None:
        """Hold what an earlier writer of this log held."""
        ...

    def follow(self, follower: Follower) -> int:
        """Tell `follower` of everything new from now on; returns a descriptor of the file being written, -1 without one."""
        ...

    def leave(self, follower: Follower) -> None:
        """A follower wants to hear no more. Idempotent."""

    def close(self) -> None:
        """Close the files. Idempotent."""


class NoLog:
    """A `Log` that keeps nothing."""

    def write(self, stream: int, buffer: mmap, length: int, now_nanoseconds: int) -> None:
        pass

    def flush(self, now_nanoseconds: int) -> None:
        pass

    def held(self, stream: int) -> bytes:
        return b""

    def take_up(self, stream: int, content: bytes) -> None:
        pass

    def follow(self, follower: Follower) -> int:
        return -1

    def leave(self, follower: Follower) -> None:
        pass

    def close(self) -> None:
        pass


class _FileLog:
    def __init__(self, file: RotatingFile) -> None:
        self._file = file
        self._held = {STDOUT: b"", STDERR: b""}

    def write(self, stream: int, buffer: mmap, length: int, now_nanoseconds: int) -> None:
        end = buffer.rfind(b"\n", 0, length) + 1
        held = self._held[stream]
        if end:
            self._put(stream, [held, memoryview(buffer)[:end]], len(held) + end, now_nanoseconds)
            held = b""
        held += buffer[end:length]
        if len(held) >= PARTIAL_BYTES:
            cut = len(held) - len(held) % PARTIAL_BYTES
            self._put(stream, [held[:cut]], cut, now_nanoseconds)
            held = held[cut:]
        self._held[stream] = held

    def flush(self, now_nanoseconds: int) -> None:
        for stream, held in self._held.items():
            if held:
                self._put(stream, [held], len(held), now_nanoseconds)
            self._held[stream] = b""

    def held(self, stream: int) -> bytes:
        return self._held[stream]

    def take_up(self, stream: int, content: bytes) -> None:
        self._held[stream] = content

    def follow(self, follower: Follower) -> int:
        self._file.followers.append(follower)
        return self._file.duplicate()

    def leave(self, follower: Follower) -> None:
        self._file.followers.remove(follower)

    def close(self) -> None:
        self._file.close()

    def _put(self, stream: int, parts: list[bytes | memoryview], length: int, now_nanoseconds: int) -> None:
        raise NotImplementedError

    def _put_in_pieces(self, content: bytes, overhead_bytes: int, put: Callable[[bytes], None]) -> None:
        """Near a file's end: as many whole lines as fit, rotate, go on. A line longer than a whole file gets a file of its own."""
        while content:
            room = self._file.room_bytes
            if room is None or len(content) + overhead_bytes <= room:
                cut = len(content)
            else:
                cut = content.rfind(b"\n", 0, max(0, room - overhead_bytes)) + 1
                if not cut and self._file.is_empty:
                    cut = content.find(b"\n") + 1 or len(content)
            if cut:
                put(content[:cut])
                content = content[cut:]
            if content and not self._file.rotate():
                put(content)
                return


class LocalLog(_FileLog):
    """Binary records (`local.py`)."""

    def _put(self, stream: int, parts: list[bytes | memoryview], length: int, now_nanoseconds: int) -> None:
        room = self._file.room_bytes
        if room is not None and length + local.OVERHEAD_BYTES > room:
            content = b"".join(parts)
            self._put_in_pieces(
                content, local.OVERHEAD_BYTES, lambda piece: self._record(stream, [piece], len(piece), now_nanoseconds)
            )
            return
        self._record(stream, parts, length, now_nanoseconds)

    def _record(self, stream: int, parts: list[bytes | memoryview], length: int, now_nanoseconds: int) -> None:
        flags = 0 if parts[-1][-1] == 0x0A else local.PART
        head = local.header(length, now_nanoseconds, stream, flags)
        self._file.append([head, *parts, local.trailer(length)], length + local.OVERHEAD_BYTES)


class JsonFileLog(_FileLog):
    """Docker's JSON lines (`json_file.py`)."""

    def __init__(self, file: RotatingFile, attributes: dict[str, str]) -> None:
        super().__init__(file)
        self._attributes = json_file.attributes_member(attributes)

    def _put(self, stream: int, parts: list[bytes | memoryview], length: int, now_nanoseconds: int) -> None:
        encoded = json_file.encode_lines(b"".join(parts), stream, now_nanoseconds, self._attributes)
        room = self._file.room_bytes
        if room is not None and len(encoded) > room:
            self._put_in_pieces(encoded, 0, lambda piece: self._file.append([piece], len(piece)))
            return
        self._file.append([encoded], len(encoded))

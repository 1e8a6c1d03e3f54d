"""The compressions that archives come in, told apart by their first bytes, and undone in bounded pieces.

A few bytes may stand for gigabytes, so no step ever makes more than one chunk of output. gzip, what most layers are made of, is
always there; the others are imported at their first use, or by `preload` in a process that must not import later.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import Enum
from types import ModuleType
from typing import Protocol, cast

from isal import igzip_lib, isal_zlib

from carrack.errors import DataCorrupt, InvalidParameter

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 6
"""How much of the beginning `detect` wants to see."""

_XZ_MEMORY_BYTES = 256 << 20


class Compression(Enum):
    """How a stream is compressed; the value is the word for it."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


class _Decompressor(Protocol):
    """The shape that bz2, lzma, igzip_lib and compression.zstd share: one member or frame, output in bounded pieces."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def detect(head: bytes) -> Compression:
    """Which compression a stream with these first bytes has."""
    if head[:3] == b"\x1f\x8b\x08":
        return Compression.GZIP
    if head[:4] == b"\x28\xb5\x2f\xfd" or (
        head[:4] >= b"\x50\x2a\x4d\x18" and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    ):
        return Compression.ZSTD  # a frame, or a skippable frame (RFC 8878, 3.1.2)
    if head[:3] == b"BZh":
        return Compression.BZIP2
    if head[:6] == b"\xfd7zXZ\0":
        return Compression.XZ
    return Compression.NONE


def preload() -> None:
    """Import every decompressor now, for a process that will not be able to import later."""
    for compression in Compression:
        if compression is not Compression.NONE:
            _member(compression)
            _errors(compression)


class Decompressed:
    """A stream undone: each call of `read` gives the next piece, at most `CHUNK_BYTES`, empty at the end.

    `source` gives the next bytes of the compressed stream, empty at its end. Concatenated members and frames are one stream, as
    gzip(1), zstd(1) and Docker read them; zeros behind the last member are padding. Raises DataCorrupt.
    """

    def __init__(self, source: Callable[[], bytes]) -> None:
        self._source = source
        self._pending = _head(source)
        self.compression = detect(self._pending)
        self._member = None if self.compression is Compression.NONE else _member(self.compression)

    def read(self) -> bytes:
        """The next piece. Raises DataCorrupt for a stream that is damaged or cut off."""
        if self._member is None:
            pending, self._pending = self._pending, b""
            return pending or self._source()
        while True:
            if self._member.eof and not self._next_member():
                return b""
            if not self._pending and self._member.needs_input:
                self._pending = self._source()
                if not self._pending:
                    raise DataCorrupt(f"unexpected end of {self.compression.value} data")
            piece = self._decompress()
            if piece:
                return piece

    def _decompress(self) -> bytes:
        assert self._member is not None
        pending, self._pending = self._pending, b""
        try:
            piece = self._member.decompress(pending, CHUNK_BYTES)
        except _errors(self.compression) as error:
            raise DataCorrupt(f"invalid {self.compression.value} data: {error}") from error
        except MemoryError as error:
            raise InvalidParameter(f"{self.compression.value} data wants too much memory") from error
        if self._member.eof:
            self._pending = self._member.unused_data
        return piece

    def _next_member(self) -> bool:
        """Whether another member follows; zeros and the end of the stream say no."""
        while not self._pending.lstrip(b"\0"):
            self._pending = self._source()
            if not self._pending:
                return False
        self._pending = self._pending.lstrip(b"\0")
        while len(self._pending) < HEAD_BYTES and (more := self._source()):
            self._pending += more
        if detect(self._pending) is not self.compression:
            raise DataCorrupt(f"garbage after the end of {self.compression.value} data")
        self._member = _member(self.compression)
        return True


class Compressor(Protocol):
    """The shape that zlib's, isal's and zstd's compressors share, `zlib.compressobj`'s."""

    def compress(self, data: bytes, /) -> bytes:
        """What is ready of the compressed form; perhaps nothing."""

    def flush(self) -> bytes:
        """The rest of it: nothing follows."""


def compressor(compression: Compression, level: int = 0, *, portable: bool = False) -> Compressor:
    """What makes a gzip or zstd stream; `level` 0 is the usual one.

    isal is ten times as fast as zlib, but what it writes depends on the processor: `portable` asks for bytes that another machine
    makes, too. Raises InvalidParameter.
    """
    if compression is Compression.GZIP:
        if portable or level:
            return zlib.compressobj(min(level, 9) or 6, zlib.DEFLATED, 31)
        return cast(Compressor, isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31))
    if compression is Compression.ZSTD:
        return cast(Compressor, zstd().ZstdCompressor(level or 3))
    raise InvalidParameter(f"{compression.value} is not written here")


def _head(source: Callable[[], bytes]) -> bytes:
    head = b""
    while len(head) < HEAD_BYTES and (more := source()):
        head += more
    return head


def _member(compression: Compression) -> _Decompressor:
    if compression is Compression.GZIP:
        return cast(_Decompressor, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))
    if compression is Compression.ZSTD:
        return cast(_Decompressor, zstd().ZstdDecompressor())
    if compression is Compression.BZIP2:
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)


def _errors(compression: Compression) -> tuple[type[Exception], ...]:
    """What a decompressor raises for bytes it cannot read."""
    if compression is Compression.GZIP:
        return (cast(type[Exception], igzip_lib.error),)
    if compression is Compression.ZSTD:
        return (cast(type[Exception], zstd().ZstdError),)
    if compression is Compression.BZIP2:
        return (OSError, ValueError, EOFError)
    import lzma

    return (lzma.LZMAError, EOFError)


def zstd() -> ModuleType:
    """The zstd module: the standard library's from Python 3.14 on, its backport before."""
    try:
        from compression import zstd as module  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd as module
    return cast(ModuleType, module)

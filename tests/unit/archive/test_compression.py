"""archive.compression: told by the first bytes, undone in bounded pieces, refused when damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
from collections.abc import Callable

import pytest

from carrack.archive.compression import CHUNK_BYTES, Compression, Decompressed, detect, zstd
from carrack.errors import DataCorrupt
from tests.rig.tarballs import pieces

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}
TEXT = b"".join(b"line %d\n" % number for number in range(30_000))


def undo(content: bytes, size: int = 5_000) -> bytes:
    stream = pieces(content, size)
    reader = Decompressed(lambda: next(stream, b""))
    parts = []
    while piece := reader.read():
        assert len(piece) <= CHUNK_BYTES
        parts.append(piece)
    return b"".join(parts)


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("size", [1, 5_000, 1 << 20])
def test_what_was_compressed_comes_back_however_it_arrives(kind: str, size: int) -> None:
    text = TEXT[:2000] if size == 1 else TEXT
    assert undo(COMPRESS[kind](text), size) == text


@pytest.mark.parametrize("kind", COMPRESS)
def test_it_is_known_by_its_first_bytes(kind: str) -> None:
    assert detect(COMPRESS[kind](b"x")[:6]) is Compression(kind)


def test_what_is_not_compressed_passes_through() -> None:
    assert undo(TEXT) == TEXT
    assert undo(b"") == b""


@pytest.mark.parametrize("kind", COMPRESS)
def test_several_members_are_one_stream(kind: str) -> None:
    assert undo(COMPRESS[kind](b"one") + COMPRESS[kind](b"two"), 3) == b"onetwo"


def test_zeros_after_the_last_member_are_padding() -> None:
    assert undo(gzip.compress(b"one") + bytes(3000)) == b"one"


def test_a_skippable_zstd_frame_is_skipped() -> None:
    assert undo(b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstd().compress(b"one")) == b"one"


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_stream_that_is_cut_off_is_corrupt(kind: str) -> None:
    with pytest.raises(DataCorrupt, match=f"unexpected end of {kind} data"):
        undo(COMPRESS[kind](TEXT)[:-20])


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_damaged_stream_is_corrupt(kind: str) -> None:
    content = bytearray(COMPRESS[kind](TEXT))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(DataCorrupt):
        undo(bytes(content))


def test_garbage_after_the_last_member_is_corrupt() -> None:
    with pytest.raises(DataCorrupt, match="garbage after the end of gzip data"):
        undo(gzip.compress(b"one") + b"garbage")


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_bomb_comes_out_piece_by_piece(kind: str) -> None:
    bomb = COMPRESS[kind](bytes(64 << 20))
    stream = pieces(bomb, 1 << 20)
    reader = Decompressed(lambda: next(stream, b""))
    sizes = [len(reader.read()) for _ in range(20)]
    assert max(sizes) <= CHUNK_BYTES


def test_the_rare_decompressors_are_not_imported_by_the_module() -> None:
    heavy = ("bz2", "lzma", "tarfile", "asyncio", "backports.zstd")
    program = f"import sys, carrack.archive.layer; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_preload_leaves_nothing_to_import() -> None:
    program = """
import sys
from carrack.archive import compression, layer
compression.preload()
sys.path.clear(); sys.meta_path.clear(); sys.path_hooks.clear(); sys.path_importer_cache.clear()
import os
for number, content in enumerate(sys.argv[1:]):
    stream = iter([bytes.fromhex(content)])
    assert compression.Decompressed(lambda: next(stream, b"")).read() == b"x"
print("done")
"""
    contents = [compress(b"x").hex() for compress in COMPRESS.values()]
    done = subprocess.run([sys.executable, "-c", program, *contents], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "done"

"""archive.reader and archive.header: every tar dialect, and what is no tar at all."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrack.archive import header
from carrack.archive.header import Entry
from carrack.archive.reader import TarReader
from carrack.archive.writer import END, encode, padding
from carrack.errors import CarrackError, DataCorrupt, InvalidParameter
from tests.rig.tarballs import directory, entry, hardlink, pieces, symlink, tar

LONG = "a" * 60 + "/" + "b" * 90 + "/" + "c" * 90


def read(content: bytes, size: int = 1 << 20, limit_bytes: int = 0) -> list[tuple[Entry, bytes]]:
    """All entries with their content, the archive arriving in pieces of a size."""
    stream = pieces(content, size)
    reader = TarReader(lambda: next(stream, b""), limit_bytes)
    found = []
    while (each := reader.next()) is not None:
        found.append((each, b"".join(bytes(view) for view in reader.content())))
    return found


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 513, 1 << 20])
def test_every_dialect_reads_the_same_however_it_arrives(form: int, size: int) -> None:
    content = tar(
        directory("d/"),
        entry("d/file", b"hello", mode=0o4755, uid=12, gid=34),
        symlink("d/link", "../x"),
        hardlink("h", "d/file"),
        format=form,
    )
    found = [(each.name.rstrip(b"/"), each.type, each.link, data) for each, data in read(content, size)]
    assert found == [
        (b"d", header.DIRECTORY, b"", b""),
        (b"d/file", header.REGULAR, b"", b"hello"),
        (b"d/link", header.SYMBOLIC_LINK, b"../x", b""),
        (b"h", header.HARD_LINK, b"d/file", b""),
    ]
    assert (read(content)[1][0].mode, read(content)[1][0].uid, read(content)[1][0].gid) == (0o4755, 12, 34)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links_are_read(form: int) -> None:
    content = tar(entry(LONG, b"x"), symlink("s", LONG), format=form)
    assert [(each.name, each.link) for each, _ in read(content)] == [(LONG.encode(), b""), (b"s", LONG.encode())]


def test_a_ustar_prefix_is_put_before_the_name() -> None:
    name = "p" * 120 + "/" + "n" * 80
    assert read(tar(entry(name), format=tarfile.USTAR_FORMAT))[0][0].name == name.encode()


def test_numbers_in_base_256_are_read() -> None:
    (each, _), *_ = read(tar(entry("x", uid=3_000_000_000, mtime=2**33 + 5), format=tarfile.GNU_FORMAT))
    assert (each.uid, each.mtime_ns) == (3_000_000_000, (2**33 + 5) * 10**9)


def test_pax_times_keep_their_nanoseconds() -> None:
    (each, _), *_ = read(tar(entry("x", pax_headers={"mtime": "1700000000.123456789"})))
    assert each.mtime_ns == 1700000000123456789


def test_a_time_before_the_epoch_is_the_epoch() -> None:
    assert read(tar(entry("x", mtime=-5)))[0][0].mtime_ns == 0


def test_extended_attributes_are_read() -> None:
    (each, _), *_ = read(tar(entry("x", pax_headers={"SCHILY.xattr.user.colour": "red"})))
    assert each.xattrs == {"user.colour": b"red"}


def test_a_global_header_names_no_file() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "commit"}) as archive:
        archive.addfile(*(entry("x", b"1")[0], io.BytesIO(b"1")))
    assert [(each.name, data) for each, data in read(file.getvalue())] == [(b"x", b"1")]


def gnu_sparse(stored: bytes, pairs: list[tuple[int, int]], real_size: int) -> bytes:
    """An old GNU sparse member by hand: no library writes them."""
    block = bytearray(encode(Entry(b"sparse", header.REGULAR, 0o644, 0, 0, len(stored), 0)))
    block[156:157] = header.GNU_SPARSE
    block[257:265] = b"ustar  \0"
    block[345:512] = bytes(167)
    for slot, (offset, length) in enumerate(pairs):
        block[386 + 24 * slot : 410 + 24 * slot] = b"%011o\0%011o\0" % (offset, length)
    block[483:495] = b"%011o\0" % real_size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + stored + padding(len(stored)) + END


def test_old_gnu_sparse_files_have_their_map() -> None:
    (each, data), *_ = read(gnu_sparse(b"abcdef", [(512, 3), (4096, 3)], 8192))
    assert (each.sparse, each.real_size, data) == ([(512, 3), (4096, 3)], 8192, b"abcdef")


def test_pax_sparse_files_of_format_1_have_their_map_in_the_content() -> None:
    stored = b"2\n512\n3\n4096\n3\n".ljust(512, b"\0") + b"abcdef"
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "real", "GNU.sparse.realsize": "8192"}
    (each, data), *_ = read(tar(entry("fake", stored, pax_headers=fields)))
    assert (each.name, each.sparse, each.real_size, data) == (b"real", [(512, 3), (4096, 3)], 8192, b"abcdef")


def test_pax_sparse_files_of_format_0_have_their_map_in_the_header() -> None:
    fields = {"GNU.sparse.size": "8192", "GNU.sparse.map": "512,3,4096,3"}
    (each, _), *_ = read(tar(entry("x", b"abcdef", pax_headers=fields)))
    assert (each.sparse, each.real_size) == ([(512, 3), (4096, 3)], 8192)


@pytest.mark.parametrize("pairs", [[(4096, 3), (512, 3)], [(512, 3)], [(512, 3), (8190, 3)], [(512, 3), (513, 3)]])
def test_a_sparse_map_that_cannot_be_is_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(InvalidParameter, match="sparse map"):
        read(gnu_sparse(b"abcdef", pairs, 8192))


def test_an_archive_may_end_without_its_zero_blocks() -> None:
    content = encode(Entry(b"x", header.REGULAR, 0o644, 0, 0, 0, 0))
    assert [each.name for each, _ in read(content)] == [b"x"]


def test_an_empty_archive_has_no_entries() -> None:
    assert read(b"") == read(END) == []


def test_an_archive_that_is_cut_off_is_corrupt() -> None:
    whole = tar(entry("x", b"y" * 5000))
    for length in (100, 600, 2000, 5500):
        with pytest.raises(DataCorrupt, match="unexpected end of archive"):
            read(whole[:length])


def test_a_header_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(tar(entry("x", b"y")))
    content[0] ^= 1
    with pytest.raises(InvalidParameter, match="wrong checksum"):
        read(bytes(content))


@pytest.mark.parametrize("owner", [-1, 2**32 - 1, 2**40])
def test_an_owner_that_no_kernel_has_is_refused(owner: int) -> None:
    content = encode(Entry(b"x", header.REGULAR, 0o644, 0, 0, 0, 0))
    block = bytearray(content)
    block[108:116] = (owner & (2**64 - 1) | 1 << 63).to_bytes(8, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(InvalidParameter, match="impossible owner"):
        read(bytes(block))


def test_a_negative_size_is_refused() -> None:
    block = bytearray(encode(Entry(b"x", header.REGULAR, 0o644, 0, 0, 0, 0)))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(InvalidParameter, match="impossible size"):
        read(bytes(block))


def test_a_name_with_nul_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="contains NUL"):
        read(tar(entry("x", pax_headers={"path": "safe\0/../../evil"})))


def test_a_name_longer_than_a_path_can_be_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="name too long"):
        read(tar(entry("a/" * 3000)))


def test_a_huge_extended_header_is_refused_before_it_is_read() -> None:
    announce = encode(Entry(b"x", header.PAX, 0o644, 0, 0, 2 << 20, 0))
    with pytest.raises(InvalidParameter, match="an extended header of 2097152 bytes"):
        read(announce)


@pytest.mark.parametrize("record", [b"nonsense\n", b"99 path=x\n", b"0 path=x\n", b"9 pathx\n\n", b"-8 a=b\n"])
def test_a_malformed_pax_header_is_refused(record: bytes) -> None:
    announce = encode(Entry(b"x", header.PAX, 0o644, 0, 0, len(record), 0))
    with pytest.raises(InvalidParameter, match="malformed pax header"):
        read(announce + record + padding(len(record)) + END)


def test_a_header_that_announces_nothing_is_corrupt() -> None:
    record = b"9 path=x\n"
    with pytest.raises(DataCorrupt, match="an entry that is missing"):
        read(encode(Entry(b"x", header.PAX, 0o644, 0, 0, len(record), 0)) + record + padding(len(record)) + END)


def test_an_archive_beyond_its_limit_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="more than the 0.0 MB"):
        read(tar(entry("x", bytes(20_000))), size=4096, limit_bytes=10_000)


@given(st.binary(max_size=2048))
@settings(max_examples=200)
def test_garbage_is_refused_and_never_breaks_the_reader(garbage: bytes) -> None:
    try:
        read(garbage)
    except CarrackError:
        pass


@given(st.data())
@settings(max_examples=100)
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(tar(directory("d"), entry(LONG, b"x" * 700), symlink("s", LONG), entry("y", pax_headers={"mtime": "1.5"})))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        read(bytes(content), 777)
    except CarrackError:
        pass


@given(
    name=st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=300),
    size=st.integers(0, 2**40),
    owner=st.integers(0, 2**32 - 2),
    mtime=st.integers(0, 2**62),
)
@settings(max_examples=100)
def test_what_is_written_is_read_back(name: str, size: int, owner: int, mtime: int) -> None:
    wanted = Entry(name.encode(), header.SYMBOLIC_LINK, 0o777, owner, owner, 0, mtime, link=name.encode())
    (found, _), *_ = read(encode(wanted) + END)
    assert (found.name, found.uid, found.gid, found.mtime_ns, found.link) == (name.encode(), owner, owner, mtime, name.encode())
    file = Entry(b"f", header.REGULAR, 0o644, 0, 0, size, 0)
    reader = TarReader(iter([encode(file)]).__next__)
    entry_read = reader.next()
    assert entry_read is not None
    assert entry_read.size == size


def test_holes_count_against_the_limit() -> None:
    """A few hundred bytes that become a file of terabytes: whoever packs it again would write them all."""
    with pytest.raises(InvalidParameter, match="No space left"):
        read(gnu_sparse(b"abc", [(0, 3)], 8 << 40), limit_bytes=1 << 30)
    assert read(gnu_sparse(b"abc", [(0, 3)], 1 << 20), limit_bytes=1 << 30)

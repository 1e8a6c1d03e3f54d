"""What packages a file system has, by the marks of each installer; a stranger's files that only look like them harm nothing."""

from __future__ import annotations

import io
import sqlite3
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from carrack.build.packages import Found, scan


def scanned_files(files: dict[str, bytes]) -> Found:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    body.seek(0)
    return scan(body)


def urls(files: dict[str, bytes]) -> list[str]:
    return sorted(scanned_files(files).packages)


def varint(size: int) -> bytes:
    return bytes((size & 0x7F | 0x80, size >> 7)) if size > 0x7F else bytes((size,))


def go_program(modules: str) -> bytes:
    table = b"s" * 16 + modules.encode() + b"e" * 16
    head = b"\xff Go buildinf:" + bytes((8, 2)) + bytes(16)
    return b"\x7fELF" + bytes(1_500_000) + head + varint(8) + b"go1.22.1" + varint(len(table)) + table + bytes(100)


def rpm_header(**fields: str) -> bytes:
    tags = {"name": 1000, "version": 1001, "release": 1002, "arch": 1022}
    index, store = b"", b""
    for name, value in fields.items():
        index += b"".join(number.to_bytes(4, "big") for number in (tags[name], 6, len(store), 1))
        store += value.encode() + b"\0"
    return len(fields).to_bytes(4, "big") + len(store).to_bytes(4, "big") + index + store


def test_lists_of_systems_bear_the_systems_name_wherever_it_stands() -> None:
    assert urls(
        {
            "var/lib/dpkg/status": b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
            b"Package: gone\nStatus: deinstall ok config-files\nVersion: 2\n",
            "var/lib/dpkg/status.d/b": b"Package: b\nVersion: 2\nArchitecture: amd64\n",
            "etc/os-release": b'ID="devuan"\n',
        }
    ) == ["pkg:deb/devuan/a@1?arch=all", "pkg:deb/devuan/b@2?arch=amd64"]
    assert urls({"lib/apk/db/installed": b"P:musl\nV:1.2\nA:x86_64\n\n"}) == ["pkg:apk/alpine/musl@1.2?arch=x86_64"]


def test_rpms_of_a_sqlite_database_are_read_and_other_forms_told_of() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
    header = rpm_header(name="bash", version="5.2", release="1.fc40", arch="x86_64")
    connection.execute("INSERT INTO Packages VALUES (1, ?)", (header,))
    connection.commit()
    found = urls({"var/lib/rpm/rpmdb.sqlite": connection.serialize(), "etc/os-release": b"ID=fedora\n"})
    assert found == ["pkg:rpm/fedora/bash@5.2-1.fc40?arch=x86_64"]
    assert scanned_files({"var/lib/rpm/Packages": b"x"}).unread
    assert scanned_files({"var/lib/rpm/rpmdb.sqlite": b"no database"}).unread


def test_python_and_node_are_found_by_their_own_marks() -> None:
    assert urls(
        {
            "usr/lib/python3/dist-packages/Flask_X-1.dist-info/METADATA": b"Name: Flask_X\nVersion: 1\n\nName: no",
            "app/node_modules/@scope/pkg/package.json": b'{"name": "@scope/pkg", "version": "2.0.0", "main": 1}',
            "app/node_modules/pkg/test/package.json": b'{"name": "not-installed", "version": "1.0.0"}',
            "app/package-lock.json": b'{"packages": {"": {"version": "0"}, "node_modules/a/node_modules/b": {"version": "3.1.0"}}}',
        }
    ) == ["pkg:npm/%40scope/pkg@2.0.0", "pkg:npm/b@3.1.0", "pkg:pypi/flask-x@1"]


def test_go_programs_tell_their_modules() -> None:
    table = "path\texample.com/me\nmod\texample.com/me\tv1.0.0\th1:x=\ndep\tb.org/old\tv1.0.0\n=>\tb.org/new\tv2.0.0\th1:y=\n"
    assert urls({"bin/me": go_program(table)}) == [
        "pkg:golang/b.org/new@v2.0.0", "pkg:golang/example.com/me@v1.0.0", "pkg:golang/stdlib@1.22.1",
    ]  # fmt: skip


@given(st.binary(max_size=400), st.sampled_from(("a/node_modules/x/package.json", "package-lock.json", "b/x.dist-info/METADATA")))
def test_marks_that_are_nonsense_are_passed_over(content: bytes, name: str) -> None:
    scanned_files({name: content})


@given(st.binary(max_size=200))
def test_programs_that_are_nonsense_are_passed_over(content: bytes) -> None:
    assert scanned_files({"bin/x": b"\x7fELF" + bytes(40) + b"\xff Go buildinf:" + content}) is not None


@given(st.binary(max_size=200))
def test_rpm_headers_that_are_nonsense_are_passed_over(content: bytes) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
    connection.execute("INSERT INTO Packages VALUES (1, ?)", (content,))
    connection.commit()
    scanned_files({"var/lib/rpm/rpmdb.sqlite": connection.serialize()})

"""What packages are in a file system: found by the marks that installers leave, as scanners look for them. Pure: reads a tar.

dpkg (also distroless' ``status.d``), apk, rpm where its database is SQLite; Python by ``*.dist-info/METADATA`` and egg-info, Node
by each ``node_modules/…/package.json`` and by lock files, Go by the build information in its binaries. The tar is of a stranger's
files: lists are bounded, and what cannot be read is passed over and told of.
"""

from __future__ import annotations

import re
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import quote

import msgspec

_LIST_LIMIT_BYTES = 64 << 20
_MARK_LIMIT_BYTES = 1 << 20
_RPM_LIMIT_BYTES = 512 << 20
_GO_MARK = b"\xff Go buildinf:"
_GO_HEAD_BYTES = 32
_GO_LIMIT_BYTES = 4 << 20
_PIECE_BYTES = 1 << 20
_SENTINEL_BYTES = 16
_INLINE = 2
_RPM_NAMES = {1000: "name", 1001: "version", 1002: "release", 1022: "arch"}
_PYTHON = re.compile(r"(?:[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)|EGG-INFO/PKG-INFO)\Z")
_NODE = re.compile(r"(?:\A|/)node_modules/(?:@[^/]+/)?[^/]+/package\.json\Z")
_DPKG = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+)\Z")
_RPM = ("var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite")
_RPM_OTHER = ("var/lib/rpm/Packages", "var/lib/rpm/Packages.db", "usr/lib/sysimage/rpm/Packages.db")


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package, by its package URL."""

    name: str
    version: str
    purl: str


@dataclass(slots=True)
class Found:
    """All that is in a file system, and what could not be read."""

    packages: dict[str, Package] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, packages: Iterable[Package]) -> None:
        """Count packages in; of one that is found twice the first stands."""
        for package in packages:
            self.packages.setdefault(package.purl, package)


def scan(stream: IO[bytes]) -> Found:
    """Look through a tar. Raises OSError when it breaks off."""
    found = Found()
    system: dict[str, str] = {}
    later: list[tuple[str, bytes]] = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE_BYTES) as archive:
        for member in archive:
            if not member.isreg():
                continue
            name = member.name.removeprefix("./").lstrip("/")
            file = archive.extractfile(member)
            if file is None:
                continue
            if name in ("etc/os-release", "usr/lib/os-release"):
                system = {**_pairs(_text(file, _MARK_LIMIT_BYTES)), **system}
            elif _DPKG.match(name) or name == "lib/apk/db/installed" or name in _RPM:
                limit = _RPM_LIMIT_BYTES if name in _RPM else _LIST_LIMIT_BYTES
                later.append((name, file.read(limit)))  # what system it is of may come behind it
            elif name in _RPM_OTHER:
                found.unread.append(f"{name}: an rpm database in a form that is not read here")
            elif _PYTHON.search(name):
                found.add(_python(_text(file, _MARK_LIMIT_BYTES)))
            elif _NODE.search(name) or name.endswith("package-lock.json"):
                _take(found, name, file)
            elif member.mode & 0o111 and member.size > _GO_HEAD_BYTES:
                found.add(_go(file))
    for name, content in later:
        if name in _RPM:
            _take_rpm(found, name, content, system)
        elif name.startswith("lib/apk"):
            found.add(_alpine(content.decode(errors="replace"), system))
        else:
            found.add(_debian(content.decode(errors="replace"), system))
    return found


# ── systems ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _debian(status: str, system: Mapping[str, str]) -> Iterator[Package]:
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if "Package" in fields and "installed" in fields.get("Status", "installed").split():
            name, version, kind = fields["Package"], fields.get("Version", ""), system.get("ID", "debian")
            purl = f"pkg:deb/{kind}/{quote(name)}@{quote(version)}?arch={fields.get('Architecture', '')}"
            yield Package(name, version, purl)


def _alpine(installed: str, system: Mapping[str, str]) -> Iterator[Package]:
    for paragraph in installed.split("\n\n"):
        fields = dict(re.findall(r"^([A-Z]):(.*)$", paragraph, re.MULTILINE))
        if "P" in fields:
            name, version = fields["P"], fields.get("V", "")
            yield Package(
                name, version, f"pkg:apk/{system.get('ID', 'alpine')}/{quote(name)}@{quote(version)}?arch={fields.get('A', '')}"
            )


def _take_rpm(found: Found, name: str, content: bytes, system: Mapping[str, str]) -> None:
    try:
        found.add(_rpm(content, system))
    except (sqlite3.Error, ValueError, OverflowError) as error:
        found.unread.append(f"{name}: {error}")


def _rpm(content: bytes, system: Mapping[str, str]) -> list[Package]:
    """The headers that rpm keeps in the one table of its database."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(content)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA query_only=ON")
        headers = [row[0] for row in connection.execute("SELECT blob FROM Packages") if isinstance(row[0], bytes)]
    finally:
        connection.close()
    found = []
    for header in headers:
        fields = _rpm_fields(header)
        if fields.get("name"):
            version = "-".join(part for part in (fields.get("version", ""), fields.get("release", "")) if part)
            kind = system.get("ID", "rpm")
            purl = f"pkg:rpm/{kind}/{quote(fields['name'])}@{quote(version)}?arch={fields.get('arch', '')}"
            found.append(Package(fields["name"], version, purl))
    return found


def _rpm_fields(header: bytes) -> dict[str, str]:
    """The strings of a header (rpm's "Header Structure", without its magic): an index of 16 bytes a tag, then the data."""
    count = int.from_bytes(header[:4], "big")
    store = 8 + count * 16
    fields: dict[str, str] = {}
    for place in range(8, min(store, len(header)), 16):
        tag, _, offset = (int.from_bytes(header[place + at : place + at + 4], "big") for at in (0, 4, 8))
        if tag in _RPM_NAMES:
            start = store + offset
            fields[_RPM_NAMES[tag]] = header[start : header.find(b"\0", start)].decode(errors="replace")
    return fields


# ── languages ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _python(metadata: str) -> Iterator[Package]:
    head = metadata.replace("\r\n", "\n").partition("\n\n")[0]
    fields = dict(re.findall(r"^(Name|Version): *(.*)$", head, re.MULTILINE))
    if fields.get("Name") and fields.get("Version"):
        name, version = fields["Name"].strip(), fields["Version"].strip()
        normal = re.sub(r"[-_.]+", "-", name).lower()
        yield Package(name, version, f"pkg:pypi/{quote(normal)}@{quote(version)}")


class _Module(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Lock(msgspec.Struct):
    packages: dict[str, _Module] = {}
    dependencies: dict[str, _Module] = {}


def _take(found: Found, name: str, file: IO[bytes]) -> None:
    try:
        found.add(_node(name, file.read(_LIST_LIMIT_BYTES)))
    except (msgspec.DecodeError, RecursionError) as error:
        found.unread.append(f"{name}: {error}")


def _node(name: str, content: bytes) -> Iterator[Package]:
    if name.endswith("package-lock.json"):
        lock = msgspec.json.decode(content, type=_Lock)
        for path, module in (*lock.packages.items(), *lock.dependencies.items()):
            if path:
                yield from _npm(path.rpartition("node_modules/")[2], module.version)
        return
    module = msgspec.json.decode(content, type=_Module)
    yield from _npm(module.name, module.version)


def _npm(name: str, version: str) -> Iterator[Package]:
    if name and version and re.fullmatch(r"[0-9][^\s:/]*", version):
        yield Package(name, version, f"pkg:npm/{quote(name)}@{quote(version)}")


def _go(file: IO[bytes]) -> Iterator[Package]:
    """What the Go linker writes into a program since 1.18: the version of Go, and a table of the modules."""
    held = file.read(_PIECE_BYTES)
    if not held.startswith(b"\x7fELF"):
        return
    while (place := held.find(_GO_MARK)) < 0:
        piece = file.read(_PIECE_BYTES)
        if not piece:
            return
        held = held[-len(_GO_MARK) :] + piece
    content = held[place:]
    while len(content) < _GO_LIMIT_BYTES and (piece := file.read(_PIECE_BYTES)):
        content += piece
    if len(content) < _GO_HEAD_BYTES or not content[15] & _INLINE:
        return  # before 1.18: pointers into the program
    version, rest = _go_string(content[_GO_HEAD_BYTES:])
    modules, _ = _go_string(rest)
    number = re.match(r"go([0-9][^\s]*)", version.decode(errors="replace"))
    if number is not None:
        yield Package("stdlib", number[1], f"pkg:golang/stdlib@{quote(number[1])}")
    yield from _go_modules(modules[_SENTINEL_BYTES:-_SENTINEL_BYTES].decode(errors="replace"))


def _go_modules(table: str) -> Iterator[Package]:
    module: tuple[str, str] | None = None
    for line in (*table.split("\n"), ""):
        words = line.split("\t")
        if words[0] == "=>" and len(words) >= 3:
            module = words[1], words[2]
            continue
        if module is not None:
            name, version = module
            yield Package(name, version, f"pkg:golang/{quote(name)}@{quote(version)}")
        module = (words[1], words[2]) if words[0] in ("mod", "dep") and len(words) >= 3 else None


def _go_string(content: bytes) -> tuple[bytes, bytes]:
    """A string behind its length, a varint; and what follows."""
    size = start = 0
    for byte in content[:10]:
        size |= (byte & 0x7F) << (7 * start)
        start += 1
        if not byte & 0x80:
            break
    return content[start : start + size], content[start + size :]


def _text(file: IO[bytes], limit_bytes: int) -> str:
    return file.read(limit_bytes).decode(errors="replace")


def _pairs(text: str) -> dict[str, str]:
    return {name: value.strip("\"'") for name, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}

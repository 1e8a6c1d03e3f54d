"""`carrack cp`: files between a container and here, as tar archives, by the rules of `cp -a` that Docker keeps.

What lands where: into an existing folder under its own name; onto a name that does not exist under that name; `SRC/.` means the
content of a folder. Docker's documentation of `docker cp` is the specification.
"""

from __future__ import annotations

import os
import tarfile

from carrack.cli.archives import tar_pieces
from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.cli.images.archive import check_output_path, read_pieces
from carrack.cli.render.units import human_size
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session
    from carrack.client.http import Body

GO_MODE_DIRECTORY = 1 << 31
GO_MODE_SYMLINK = 1 << 27
GO_MODE_DEVICE = 1 << 26
GO_MODE_IRREGULAR = 1 << 19
MAX_LINKS = 10


def split_argument(text: str) -> tuple[str, str]:
    """(container, path) of an argument; no container for a local path."""
    if text.startswith("/"):
        return "", text
    container, colon, path = text.partition(":")
    if not colon or container.startswith("."):
        return "", text
    return container, path


def _copy(session: Session, parsed: Parsed) -> None:
    source, target = parsed.arguments
    if not source:
        raise CommandFailure("source can not be empty")
    if not target:
        raise CommandFailure("destination can not be empty")
    from_container, source_path = split_argument(source)
    to_container, target_path = split_argument(target)
    quiet = parsed.flag("quiet") if parsed.changed("quiet") else not session.out.is_terminal
    if from_container and to_container:
        raise CommandFailure("copying between containers is not supported")
    if from_container:
        _from_container(session, from_container, source_path, target_path, follow=parsed.flag("follow-link"), quiet=quiet)
    elif to_container:
        _to_container(session, to_container, source_path, target_path, parsed, quiet=quiet)
    else:
        raise CommandFailure("must specify at least one container source")


def path_facts(session: Session, container: str, path: str) -> dict[str, Any]:
    """What the daemon says of a path in a container: name, size, mode (Go's bits), linkTarget. Raises ApiError."""
    response = session.engine.request("HEAD", container_path(container, "/archive"), {"path": path})
    response.read_all()
    return _facts(response.headers)


def _facts(headers: dict[str, str]) -> dict[str, Any]:
    from binascii import a2b_base64

    from carrack.client.codec import decode

    facts: dict[str, Any] = decode(a2b_base64(headers.get("x-docker-container-path-stat", "")))
    return facts


def _keep_ending(absolute: str, written: str) -> str:
    """normpath drops the `/` or `/.` at the end that says a folder is meant: puts it back."""
    if written.endswith("/.") or written == ".":
        return f"{absolute}/."
    return f"{absolute}/" if written.endswith("/") and absolute != "/" else absolute


def _resolve(path: str) -> str:
    return _keep_ending(os.path.abspath(path), path)


def split_entry(path: str) -> tuple[str, str]:
    """(folder, entry) of a path; the entry of `a/.` is `.`."""
    clean = os.path.normpath(path)
    if os.path.basename(path) == ".":
        return clean, "."
    return os.path.dirname(clean) or ".", os.path.basename(clean) or "/"


# -- out of a container


def _from_container(session: Session, container: str, source: str, target: str, *, follow: bool, quiet: bool) -> None:
    if target != "-":
        target = _resolve(target)
        check_output_path(target)
    rename = ""
    if follow:
        source, rename = _follow_link(session, container, source)
    with session.engine.request("GET", container_path(container, "/archive"), {"path": source}) as response:
        if target == "-":
            for data in response.body:
                write_all(1, data)
            return
        is_folder = bool(_facts(response.headers)["mode"] & GO_MODE_DIRECTORY)
        reader = BodyFile(response.body)
        _extract(reader, source, target, is_folder=is_folder, rename=rename)
    if not quiet:
        session.err.line(f"Successfully copied {human_size(reader.count, 3)} to {target}")


def _follow_link(session: Session, container: str, source: str) -> tuple[str, str]:
    try:
        facts = path_facts(session, container, source)
    except CarrackError:
        return source, ""
    if not facts["mode"] & GO_MODE_SYMLINK:
        return source, ""
    link = facts["linkTarget"]
    if not link.startswith("/"):
        link = os.path.join(split_entry(source)[0], link)
    base = os.path.basename(os.path.normpath(source))
    link = _keep_ending(os.path.normpath(link), source)
    return link, base if os.path.basename(os.path.normpath(link)) != base else ""


class BodyFile:
    """A response body as a file for `tarfile`, counting what passes."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._kept = b""
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as `io.RawIOBase.read` gives them: fewer than asked for only at the end."""
        pieces = [self._kept]
        have = len(self._kept)
        while size < 0 or have < size:
            data = self._body.read()
            if not data:
                break
            self.count += len(data)
            pieces.append(data)
            have += len(data)
        content = b"".join(pieces)
        taken = content if size < 0 else content[:size]
        self._kept = content[len(taken) :]
        return taken


def _extract(reader: BodyFile, source: str, target: str, *, is_folder: bool, rename: str) -> None:
    folder, old, new = _destination(source, target, is_folder=is_folder, rename=rename)

    def named(name: str) -> str:
        """What an entry of the archive is called here."""
        if rename:
            name = _rebase(name, split_entry(source)[1], rename)
        return _rebase(name, old, new) if new else name

    with tarfile.open(fileobj=reader, mode="r|", errorlevel=1) as archive:  # type: ignore[call-overload]
        directories: list[tarfile.TarInfo] = []
        for entry in archive:
            entry.name = named(entry.name)
            if entry.islnk():
                entry.linkname = named(entry.linkname)
            try:
                extract_entry(archive, entry, folder)
            except OSError as error:
                raise CommandFailure(f"{(error.strerror or str(error)).lower()}: {error.filename or entry.name}") from None
            if entry.isdir():
                directories.append(entry)
        for entry in reversed(directories):
            set_times(os.path.join(folder, entry.name), entry)


def extract_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: str) -> None:
    """Writes one entry below `folder`. An entry that would leave it, by name or through a link, is refused."""
    path = os.path.normpath(os.path.join(folder, entry.name.lstrip("/")))
    root = os.path.realpath(folder)
    if os.path.commonpath([os.path.realpath(os.path.dirname(path)) if path != os.path.normpath(folder) else root, root]) != root:
        raise CommandFailure(f"refusing an archive entry that leads out of {folder}: {entry.name}")
    if entry.isdir():
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
            raise CommandFailure(f"cannot overwrite non-directory {path} with a directory")
        os.makedirs(path, exist_ok=True)
        os.chmod(path, entry.mode & 0o7777)
        return
    if os.path.isdir(path) and not os.path.islink(path):
        raise CommandFailure(f"cannot overwrite directory {path} with a file")
    if os.path.lexists(path):
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if entry.issym():
        os.symlink(entry.linkname, path)
    elif entry.islnk():
        linked = os.path.normpath(os.path.join(folder, entry.linkname.lstrip("/")))
        if os.path.commonpath([os.path.realpath(os.path.dirname(linked)), root]) != root:
            raise CommandFailure(f"refusing an archive entry that links out of {folder}: {entry.linkname}")
        os.link(linked, path, follow_symlinks=False)
    elif entry.isfile():
        _write_file(archive, entry, path)
    elif entry.isfifo():
        os.mkfifo(path, entry.mode & 0o7777)
    else:
        os.mknod(path, entry.mode | (0o060000 if entry.isblk() else 0o020000), os.makedev(entry.devmajor, entry.devminor))
    set_times(path, entry)


def _write_file(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    content = archive.extractfile(entry)
    assert content is not None
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while data := content.read(1 << 18):
            write_all(fd, data)
        os.fchmod(fd, entry.mode & 0o7777)
    finally:
        os.close(fd)


def set_times(path: str, entry: tarfile.TarInfo) -> None:
    """The time that an entry bears."""
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


def _rebase(name: str, old: str, new: str) -> str:
    return name.replace("" if old == "/" else old, new, 1)


def _destination(source: str, target: str, *, is_folder: bool, rename: str) -> tuple[str, str, str]:
    """(folder to unpack into, base name in the archive, the name it gets there or nothing)."""
    path = target
    for _ in range(MAX_LINKS):
        if not os.path.islink(path.rstrip("/") or "/"):
            break
        path = os.path.join(os.path.dirname(path.rstrip("/")), os.readlink(path.rstrip("/")))
    exists, target_is_folder = os.path.lexists(path), os.path.isdir(path)
    folder, base = split_entry(path)
    if not exists and not os.path.isdir(folder):
        raise CommandFailure(f"lstat {folder}: no such file or directory")
    source_base = rename or split_entry(source)[1]
    return plan_rename(
        path, folder, base, source_base, exists=exists, target_is_folder=target_is_folder, source_is_folder=is_folder
    )


def plan_rename(
    path: str, folder: str, base: str, source_base: str, *, exists: bool, target_is_folder: bool, source_is_folder: bool
) -> tuple[str, str, str]:
    """Docker's table of what a copy's source is called at its destination. Raises CommandFailure for what cannot be."""
    if exists and target_is_folder:
        return path, source_base, ""
    if exists and source_is_folder:
        raise CommandFailure("cannot copy directory")
    if not exists and not source_is_folder and (not path or path.endswith("/") or os.path.basename(path) == "."):
        raise CommandFailure("no such directory")
    return folder, source_base, base


# -- into a container


def _to_container(session: Session, container: str, source: str, target: str, parsed: Parsed, *, quiet: bool) -> None:
    shown = target
    facts: dict[str, Any] | None = None
    try:
        facts = path_facts(session, container, target)
        if facts["mode"] & GO_MODE_SYMLINK:
            link = facts["linkTarget"]
            target = link if link.startswith("/") else os.path.join(split_entry(target)[0], link)
            facts = path_facts(session, container, target)
    except CarrackError:
        facts = None
    mode = facts["mode"] if facts else 0
    if mode & (GO_MODE_DEVICE | GO_MODE_IRREGULAR):
        kind = "a device" if mode & GO_MODE_DEVICE else "an irregular file"
        raise CommandFailure(f'destination "{container}:{shown}" must be a directory or a regular file: got {kind}')
    is_folder = bool(mode & GO_MODE_DIRECTORY)
    query = {"noOverwriteDirNonDir": "true", **({"copyUIDGID": "true"} if parsed.flag("archive") else {})}
    if source == "-":
        if not is_folder:
            raise CommandFailure(f'destination "{container}:{shown}" must be a directory')
        _put(session, container, {"path": target, **query}, read_pieces(session.input.fd))
        return
    path, rename = _local_source(_resolve(source), follow=parsed.flag("follow-link"))
    source_base = split_entry(path)[1]
    folder, base = split_entry(target)
    folder, old, new = plan_rename(
        target,
        folder,
        base,
        rename or source_base,
        exists=facts is not None,
        target_is_folder=is_folder,
        source_is_folder=os.path.isdir(path) and not os.path.islink(path),
    )
    counter = [0]
    pieces = _archive(path, source_base, rename, old, new, counter)
    _put(session, container, {"path": folder, **query}, pieces)
    if not quiet:
        session.err.line(f"Successfully copied {human_size(counter[0], 3)} to {container}:{target}")


def _put(session: Session, container: str, query: dict[str, str], pieces: Iterator[bytes]) -> None:
    session.engine.request(
        "PUT", container_path(container, "/archive"), query, content=pieces, media_type="application/x-tar"
    ).read_all()


def _local_source(path: str, *, follow: bool) -> tuple[str, str]:
    """(what to archive, the name it keeps when that is another). Raises CommandFailure when it does not exist."""
    rename = ""
    if follow and os.path.islink(path.rstrip("/")):
        base = os.path.basename(path.rstrip("/"))
        real = os.path.realpath(path)
        rename = base if os.path.basename(real) != base else ""
        path = _keep_ending(real, path)
    elif os.path.basename(path) != ".":
        folder, base = split_entry(path)
        path = _keep_ending(os.path.join(os.path.realpath(folder), base), path)
    try:
        os.lstat(path)
    except OSError as error:
        raise CommandFailure(f"lstat {error.filename}: {(error.strerror or '').lower()}") from None
    return path, rename


def _archive(path: str, base: str, rename: str, old: str, new: str, counter: list[int]) -> Iterator[bytes]:
    """The tar archive of a path, in pieces; hard links and entries get the names they have at the destination."""
    start = split_entry(path)[0] if base == "." else os.path.join(split_entry(path)[0], base)

    def named(name: str) -> str:
        renamed = _rebase(name, base, rename) if rename and base != "." else name
        return _rebase(renamed, old, new) if new else renamed

    entries: list[tuple[str, str]] = []
    for name in _walk(start):
        inside = base if name == start else os.path.normpath(os.path.join(base, os.path.relpath(name, start)))
        entries.append((name, named(inside)))
    for data in tar_pieces(entries):
        counter[0] += len(data)
        yield data


def _walk(start: str) -> Iterator[str]:
    yield start
    if os.path.isdir(start) and not os.path.islink(start):
        for name in sorted(os.listdir(start)):
            yield from _walk(os.path.join(start, name))


COMMANDS = (
    Command(
        "container cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t{} [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files between a container and here\n\n"
        "With '-' as the source a tar archive is read from STDIN and unpacked in a folder of the\n"
        "container; with '-' as the destination one is written to STDOUT.",
        _copy,
        at_least=2,
        at_most=2,
        aliases="container cp, cp",
        flags="""
        -a, --archive bool     Keep owners and groups
        -L, --follow-link bool Copy what a symbolic link points to
        -q, --quiet bool       Say nothing. Nothing is said either when no terminal is attached
        """,
    ),
)

"""The `context` commands."""

from __future__ import annotations

import io
import os
import tarfile

from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.cli.contexts.store import ContextStore, check_name, tls_content
from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.values import read_bool, split_csv
from carrack.client import codec
from carrack.client.endpoint import DEFAULT_HOST, parse_endpoint
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_KEYS = ("from", "host", "ca", "cert", "key", "skip-tls-verify")
_MAX_ERROR = 45
_MAX_ARCHIVE_BYTES = 10 << 20


def _store(session: Session) -> ContextStore:
    return ContextStore(session.config.directory)


def _default_document() -> dict[str, Any]:
    host = os.environ.get("CARRACK_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    return {"Name": "default", "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}


def _read(session: Session, name: str) -> dict[str, Any]:
    return _default_document() if name == "default" else _store(session).read(name)


class Row:
    """One context of the list."""

    __slots__ = ("current", "description", "error", "host", "name")

    def __init__(self, name: str, *, current: bool, description: str = "", host: str = "", error: str = "") -> None:
        self.name = name
        self.current = current
        self.description = description
        self.host = host
        self.error = error


def _short_error(row: Row) -> str:
    from carrack.cli.render.units import ellipsis

    return ellipsis(row.error, _MAX_ERROR)


NOUN = Noun(
    "*formatter.clientContextContext",
    {
        "Current": ("", lambda row: row.current),
        "Name": ("NAME", lambda row: row.name),
        "Description": ("DESCRIPTION", lambda row: row.description),
        "DockerEndpoint": ("DOCKER ENDPOINT", lambda row: row.host),
        "Error": ("ERROR", _short_error),
        "NameAndMark": ("NAME", lambda row: f"{row.name} *" if row.current else row.name),
    },
)


def _list(session: Session, parsed: Parsed) -> None:
    current = session.context_name()
    default_text = "Current DOCKER_HOST based configuration"
    rows = [
        Row(
            "default",
            current=current == "default",
            description=default_text,
            host=_default_document()["Endpoints"]["docker"]["Host"],
        )
    ]
    names = _store(session).names()
    for name in names:
        document = _read(session, name)
        host = ((document.get("Endpoints") or {}).get("docker") or {}).get("Host") or ""
        rows.append(
            Row(name, current=name == current, description=(document.get("Metadata") or {}).get("Description") or "", host=host)
        )
    if current not in ("default", *names):
        try:
            _read(session, current)
        except CommandFailure as error:
            rows.append(Row(current, current=True, error=str(error)))
    rows.sort(key=lambda row: row.name)
    template = parsed.text("format")
    quiet = parsed.flag("quiet")
    noun = NOUN
    if template not in ("", "table"):
        noun = Noun(NOUN.kind, {name: field for name, field in NOUN.fields.items() if name != "NameAndMark"})
    columns = ("NameAndMark", "Description", "DockerEndpoint", "Error")
    print_rows(session.out, noun, rows, template=template, columns=columns, quiet="Name" if quiet else "")
    if os.environ.get("DOCKER_HOST"):
        session.err.line(
            "Warning: DOCKER_HOST environment variable overrides the active context. "
            "To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable."
        )


def _read_pairs(text: str) -> dict[str, str]:
    """`key=value,…` of --docker. Raises ValueError with Docker's text."""
    config: dict[str, str] = {}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if not equals:
            raise ValueError(f"{field} must be formatted as key=value")
        config[key] = value
    return config


def _docker_config(parsed: Parsed) -> dict[str, str]:
    config: dict[str, str] = {}
    for pairs in parsed.value("docker"):
        config.update(pairs)
    unknown = [f"unrecognized config key: {key}" for key in config if key not in _KEYS]
    if unknown:
        raise CommandFailure("unable to create docker endpoint config: " + "\n".join(unknown))
    return config


def _endpoint(session: Session, config: dict[str, str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    if "from" in config:
        source = _read(session, config["from"])
        return dict(source["Endpoints"]["docker"]), _tls_of(session, config["from"])
    try:
        skip = read_bool(config.get("skip-tls-verify") or "false")
        host = config.get("host") or DEFAULT_HOST
        if not host.partition("://")[2]:
            raise ValueError(f"unable to apply docker endpoint options: unable to parse docker host `{host}`")
        parse_endpoint(host)
    except (ValueError, CarrackError) as error:
        raise CommandFailure(f"unable to create docker endpoint config: {error}") from None
    return {**({"Host": config["host"]} if config.get("host") else {}), "SkipTLSVerify": skip}, tls_content(config)


def _tls_of(session: Session, name: str) -> dict[str, bytes]:
    store = _store(session)
    folder = os.path.join(store.tls_path(name), "docker")
    return {file: read_file(os.path.join(folder, file)) for file in store.tls_files(name)} if name != "default" else {}


def _create(session: Session, parsed: Parsed) -> None:
    name, store = parsed.arguments[0], _store(session)
    check_name(name)
    if store.exists(name):
        raise CommandFailure(f'context "{name}" already exists')
    description, source = parsed.text("description"), parsed.text("from")
    if parsed.changed("docker") and not source:
        endpoint, tls = _endpoint(session, _docker_config(parsed))
        document: dict[str, Any] = {
            "Name": name,
            "Metadata": {"Description": description} if description else {},
            "Endpoints": {"docker": endpoint},
        }
    else:
        if parsed.changed("docker"):
            raise CommandFailure("cannot use --docker flag when --from is set")
        source = source or session.context_name()
        document = {**_read(session, source), "Name": name}
        if description:
            document["Metadata"] = {**(document.get("Metadata") or {}), "Description": description}
        tls = _tls_of(session, source)
    store.write(document)
    store.write_tls(name, tls)
    session.out.line(name)
    session.out.flush()
    session.err.line(f'Successfully created context "{name}"')


def _update(session: Session, parsed: Parsed) -> None:
    name, store = parsed.arguments[0], _store(session)
    check_name(name)
    document = store.read(name)
    if parsed.text("description"):
        document["Metadata"] = {**(document.get("Metadata") or {}), "Description": parsed.text("description")}
    if parsed.changed("docker"):
        endpoint, tls = _endpoint(session, _docker_config(parsed))
        document["Endpoints"] = {**(document.get("Endpoints") or {}), "docker": endpoint}
        store.write_tls(name, tls)
    store.write(document)
    session.out.line(name)
    session.out.flush()
    session.err.line(f'Successfully updated context "{name}"')


def _use(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    wanted = "" if name == "default" else name
    if wanted:
        check_name(name)
        _store(session).read(name)
    if session.config.text("currentContext") != wanted:
        if wanted:
            session.config.document["currentContext"] = wanted
        else:
            session.config.document.pop("currentContext", None)
        session.config.save()
    session.out.line(name)
    session.out.flush()
    session.err.line(f'Current context is now "{name}"')
    if wanted and os.environ.get("DOCKER_HOST"):
        session.err.line(
            f'Warning: DOCKER_HOST environment variable overrides the active context. To use "{name}", '
            "either set the global --context flag, or unset DOCKER_HOST environment variable."
        )


def _show(session: Session, parsed: Parsed) -> None:
    session.out.line(session.context_name())


def _remove(session: Session, parsed: Parsed) -> None:
    failures: list[str] = []
    store, force = _store(session), parsed.flag("force")
    for name in parsed.arguments:
        if name == "default":
            failures.append('context "default" cannot be removed')
        elif name == session.context_name() and not force:
            failures.append(f'context "{name}" is in use, set -f flag to force remove')
        elif not force and not store.exists(name):
            failures.append(f'context "{name}" does not exist')
        else:
            if name == session.config.text("currentContext"):
                session.config.document.pop("currentContext", None)
                session.config.save()
            store.remove(name)
            session.out.line(name)
    if failures:
        raise CommandFailure("\n".join(failures))


def _inspect(session: Session, parsed: Parsed) -> None:
    store = _store(session)

    def fetch(name: str) -> bytes:
        document = _read(session, name)
        memory = "<IN MEMORY>"
        place = {"MetadataPath": store.metadata_path(name), "TLSPath": store.tls_path(name)}
        files = store.tls_files(name) if name != "default" else []
        document["TLSMaterial"] = {"docker": files} if files else {}
        document["Storage"] = place if name != "default" else {"MetadataPath": memory, "TLSPath": memory}
        return codec.encode(document, escape_html=True).encode()

    inspect_each(session.out, parsed.arguments or [session.context_name()], parsed.text("format"), fetch)


def _export(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    target = parsed.arguments[1] if len(parsed.arguments) > 1 else f"{name}.dockercontext"
    if name != "default":
        check_name(name)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        contents = {"meta.json": codec.encode(_read(session, name)).encode()}
        contents.update({f"tls/docker/{file}": content for file, content in _tls_of(session, name).items()})
        for path, content in contents.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    if target == "-":
        if session.out.is_terminal:
            raise CommandFailure("cowardly refusing to export to a terminal, specify a file path")
        write_all(1, archive.getvalue())
        return
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandFailure(os_error_text(error)) from None
    try:
        write_all(fd, archive.getvalue())
    finally:
        os.close(fd)
    session.err.line(f'Written file "{target}"')


def _files_of(content: bytes) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the files of a tar or zip archive. Raises TarError, ValueError."""
    if content.startswith(b"PK"):
        import zipfile

        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir() and entry.file_size <= _MAX_ARCHIVE_BYTES:
                        yield entry.filename, archive.read(entry)
        except zipfile.BadZipFile as error:
            raise ValueError(str(error)) from None
        return
    # Docker's command writes archives without their end
    with tarfile.open(fileobj=io.BytesIO(content + bytes(4 * tarfile.BLOCKSIZE))) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def _import(session: Session, parsed: Parsed) -> None:
    name, source = parsed.arguments
    check_name(name)
    store = _store(session)
    if store.exists(name):
        raise CommandFailure(f'context "{name}" already exists')
    try:
        content = session.input.read_all() if source == "-" else read_file(source)
    except OSError as error:
        raise CommandFailure(os_error_text(error)) from None
    if len(content) > _MAX_ARCHIVE_BYTES:
        raise CommandFailure("read exceeds the defined limit")
    document: dict[str, Any] | None = None
    tls: dict[str, bytes] = {}
    try:
        for path, file in _files_of(content):
            if path == "meta.json":
                document = codec.decode(file)
            elif path.startswith("tls/docker/") and path.removeprefix("tls/docker/") in ("ca.pem", "cert.pem", "key.pem"):
                tls[os.path.basename(path)] = file
            else:
                raise CommandFailure(f"invalid context: unexpected path in archive: {path}")
    except tarfile.TarError:
        raise CommandFailure("archive/tar: invalid tar header") from None
    except ValueError as error:
        raise CommandFailure(f"invalid context: {error}") from None
    if document is None:
        raise CommandFailure("invalid context: no metadata found")
    store.write({**document, "Name": name})
    store.write_tls(name, tls)
    session.out.line(name)
    session.out.flush()
    session.err.line(f'Successfully imported context "{name}"')


_ENDPOINT_FLAGS = """
    --description string    Description
    --docker stringToString The daemon: host=…,ca=…,cert=…,key=…,skip-tls-verify=…, or from=CONTEXT (default [])
"""

COMMANDS = (
    Command(
        "context ls",
        "[OPTIONS]",
        "List contexts",
        _list,
        at_most=0,
        aliases="context ls, context list",
        flags="""
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -q, --quiet bool    Print names only
    """,
    ),
    Command(
        "context create",
        "[OPTIONS] CONTEXT",
        "Create a context",
        _create,
        at_least=1,
        at_most=1,
        checks={"docker": _read_pairs},
        flags=f"{_ENDPOINT_FLAGS}\n--from string Context to copy",
    ),
    Command(
        "context update",
        "[OPTIONS] CONTEXT",
        "Change a context",
        _update,
        at_least=1,
        at_most=1,
        checks={"docker": _read_pairs},
        flags=_ENDPOINT_FLAGS,
    ),
    Command("context use", "CONTEXT", "Choose the context to use from now on", _use, at_least=1, at_most=1),
    Command("context show", "", "Print the name of the context in use", _show, at_most=0),
    Command(
        "context rm",
        "CONTEXT [CONTEXT...]",
        "Remove contexts",
        _remove,
        at_least=1,
        aliases="context rm, context remove",
        flags="-f, --force bool Remove a context in use too",
    ),
    Command("context inspect", "[OPTIONS] [CONTEXT] [CONTEXT...]", "Print everything about contexts", _inspect, flags=FORMAT_FLAG),
    Command("context export", "[OPTIONS] CONTEXT [FILE|-]", "Write a context to a tar archive", _export, at_least=1, at_most=2),
    Command("context import", "CONTEXT FILE|-", "Read a context from a tar archive", _import, at_least=2, at_most=2),
)

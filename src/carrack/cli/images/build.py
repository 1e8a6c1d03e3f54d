"""`carrack build`: the context sent to POST /build, the steps shown as they are done."""

from __future__ import annotations

import os

from carrack.cli.command import Command
from carrack.cli.containers.options import check_environment, check_extra_host, check_label
from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text
from carrack.cli.images.context import BuildContext, open_context
from carrack.cli.images.names import parse_name
from carrack.cli.images.transfer import check_trust
from carrack.cli.logins import all_logins
from carrack.cli.render.progress import ProgressDisplay
from carrack.cli.render.units import human_size
from carrack.cli.values import read_swap_bytes
from carrack.client.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from carrack.cli.console import Output
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_NUMBERS = {
    "memory": "memory",
    "memory-swap": "memswap",
    "shm-size": "shmsize",
    "cpu-shares": "cpushares",
    "cpu-period": "cpuperiod",
    "cpu-quota": "cpuquota",
}
_TEXTS = {"cpuset-cpus": "cpusetcpus", "cpuset-mems": "cpusetmems", "cgroup-parent": "cgroupparent", "target": "target"}
_SWITCHES = {"no-cache": "nocache", "force-rm": "forcerm", "pull": "pull", "squash": "squash", "quiet": "q"}


def check_tag(text: str) -> str:
    """An image name."""
    parse_name(text)
    return text


def build_query(session: Session, parsed: Parsed, dockerfile: str) -> dict[str, str | list[str]]:
    """The query of POST /build."""
    query: dict[str, str | list[str]] = {"version": "1"}
    for flag, name in _NUMBERS.items():
        if parsed.number(flag):
            query[name] = str(parsed.number(flag))
    for flag, name in _TEXTS.items():
        if parsed.text(flag):
            query[name] = parsed.text(flag)
    for flag, name in _SWITCHES.items():
        if parsed.flag(flag):
            query[name] = "1"
    if not parsed.flag("rm"):
        query["rm"] = "0"
    if parsed.text("isolation").lower() not in ("", "default"):
        query["isolation"] = parsed.text("isolation")
    if parsed.text("network") not in ("", "default"):
        query["networkmode"] = parsed.text("network")
    for flag, name in (("tag", "t"), ("security-opt", "securityopt"), ("add-host", "extrahosts")):
        if parsed.items(flag):
            query[name] = parsed.items(flag)
    if dockerfile:
        query["dockerfile"] = dockerfile
    documents: dict[str, Any] = {
        "ulimits": list(parsed.value("ulimit")),
        "buildargs": _build_arguments(session, parsed),
        "labels": {key: value for key, _, value in [text.partition("=") for text in parsed.items("label")]},
        "cachefrom": parsed.items("cache-from"),
    }
    for name, value in documents.items():
        if value:
            query[name] = encode(value, escape_html=True, sort=True)
    platform = parsed.text("platform")
    if platform:
        query["platform"] = platform.lower()
    return query


def _build_arguments(session: Session, parsed: Parsed) -> dict[str, str | None]:
    from carrack.cli.containers.create import configured_proxies

    arguments: dict[str, str | None] = {}
    for text in parsed.items("build-arg"):
        name, equals, value = text.partition("=")
        arguments[name] = value if equals else None
    for name, value in configured_proxies(session).items():
        arguments.setdefault(name, value)
    return arguments


def _count(pieces: Iterator[bytes], out: Output | None) -> Iterator[bytes]:
    """Passes the context on and says how much it was, live on a terminal."""
    total = shown = 0
    for data in pieces:
        total += len(data)
        if out is not None and out.is_terminal and total - shown > 1 << 19:
            shown = total
            out.write(f"\x1b[2K\rSending build context to Carrack daemon  {human_size(total)}\r")
            out.flush()
        yield data
    if out is not None:
        out.write(("\x1b[2K\r" if out.is_terminal else "") + f"Sending build context to Carrack daemon  {human_size(total)}\n")
        out.flush()


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    squeezer = zlib.compressobj(wbits=31)
    for data in pieces:
        yield squeezer.compress(data)
    yield squeezer.flush()


def _build(session: Session, parsed: Parsed) -> None:
    check_trust(parsed)
    id_file = parsed.text("iidfile")
    if id_file:
        try:
            os.unlink(id_file)  # no stale id may stay behind when this build fails
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CommandFailure(f"Removing image ID file: {os_error_text(error, 'remove')}") from None
    context = open_context(parsed.arguments[0], parsed.text("file"), session.input.fd)
    try:
        identity = _send(session, parsed, context)
    finally:
        context.close()
    if id_file:
        if not identity:
            raise CommandFailure(f"Server did not provide an image ID. Cannot write {id_file}")
        with open(id_file, "w", encoding="ascii") as file:
            file.write(identity)


def _send(session: Session, parsed: Parsed, context: BuildContext) -> str:
    from binascii import b2a_base64

    quiet = parsed.flag("quiet")
    logins = encode(all_logins(session.config)).encode()
    headers = {"X-Registry-Config": b2a_base64(logins, newline=False).decode().replace("+", "-").replace("/", "_")}
    pieces = _count(context.pieces, None if quiet else session.out)
    if parsed.flag("compress"):
        pieces = _compressed(pieces)
    identity: list[str] = []
    kept = _Kept()
    out: Any = kept if quiet else session.out
    display = ProgressDisplay(out, on_aux=lambda aux: identity.append(str(aux.get("ID") or "")))
    query = build_query(session, parsed, context.dockerfile)
    with session.engine.request(
        "POST", "/build", query, content=pieces, media_type="application/x-tar", headers=headers
    ) as response:
        try:
            display.show_all(response.documents())
        except CommandFailure:
            if quiet:
                session.err.write("".join(kept.pieces))
            raise
    if quiet:
        text = "".join(kept.pieces)
        session.out.write(text)
        return text.strip()
    return identity[-1] if identity else ""


class _Kept:
    """Output held back until the end of a quiet build."""

    is_terminal = False

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def write(self, text: str) -> None:
        self.pieces.append(text)

    def flush(self) -> None:
        """Nothing: it is held back."""

    def size(self) -> tuple[int, int]:
        return 0, 0


_FLAGS = """
        --add-host list           Add a line to the hosts file of RUN (host:ip)
        --build-arg list          Build-time variables
        --cache-from strings      Images to take cache from
        --cgroup-parent string    Parent cgroup of RUN
        --compress bool           Compress the context with gzip
        --cpu-period int          CFS period in microseconds
        --cpu-quota int           CFS quota in microseconds
    -c, --cpu-shares int          Relative weight of CPU time
        --cpuset-cpus string      CPUs that RUN may use (0-3, 0,1)
        --cpuset-mems string      Memory nodes that RUN may use (0-3, 0,1)
        --disable-content-trust bool=true Do not verify signatures
    -f, --file string             The Dockerfile, unless it is "PATH/Dockerfile"
        --force-rm bool           Remove intermediate containers even after a failure
        --iidfile string          File to write the image's id to
        --isolation string        Isolation technology
        --label list              Labels
    -m, --memory bytes            Memory limit
        --memory-swap bytes       Limit of memory and swap together, -1 for unlimited swap
        --network string@1.25=default  Network of RUN
        --no-cache bool           Do not use the cache
        --platform string@1.38=$DOCKER_DEFAULT_PLATFORM         Platform, if the daemon can build for several
        --pull bool               Look for newer versions of the images it starts from
    -q, --quiet bool              Print the image's id only
        --rm bool=true            Remove intermediate containers after a success
        --security-opt strings    Security options
        --shm-size bytes          Size of "/dev/shm"
        --squash bool@experimental             Make one layer of the new ones
    -t, --tag list                Name and tag of the image ("name:tag")
        --target string           Stage to build
        --ulimit ulimit           Resource limits
"""
_CHECKS = {
    "add-host": check_extra_host,
    "build-arg": check_environment,
    "label": check_label,
    "memory-swap": read_swap_bytes,
    "tag": check_tag,
}


def _command(path: str) -> Command:
    return Command(
        path,
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        _build,
        at_least=1,
        at_most=1,
        aliases="image build, build, builder build",
        checks=_CHECKS,
        flags=_FLAGS,
    )


COMMANDS = (_command("image build"), _command("builder build"))

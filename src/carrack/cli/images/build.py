"""`carrack build`: the context sent to POST /build, the steps shown as they are done."""

from __future__ import annotations

import os

from carrack.cli.command import Command
from carrack.cli.containers.options import check_environment, check_extra_host, check_label
from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file
from carrack.cli.images.archive import read_pieces
from carrack.cli.images.build_calls import read_call
from carrack.cli.images.build_calls import show as show_answer
from carrack.cli.images.build_display import BuildState, open_display
from carrack.cli.images.build_folder import BuildFolder, ignore_file_of
from carrack.cli.images.build_options import Output as BuildOutput
from carrack.cli.images.build_options import (
    is_folder,
    read_agents,
    read_attestations,
    read_caches,
    read_named_contexts,
    read_outputs,
    read_resources,
    read_secrets,
    split_layout,
)
from carrack.cli.images.build_outputs import DELETE, may_delete, write_metadata
from carrack.cli.images.build_session import BuildOrder, build_in_session
from carrack.cli.images.context import (
    BuildContext,
    context_folder,
    dockerfile_of,
    fetch_dockerfile,
    is_remote,
    open_context,
    with_dockerfile,
)
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

_LAYOUT = "oci-layout://"
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
    query |= read_resources(parsed.items("resource"))
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
        "cachefrom": [each["Attributes"].get("ref", "") for each in read_caches(parsed.items("cache-from"))],
    }
    for name, value in documents.items():
        if value:
            query[name] = encode(value, escape_html=True, sort=True)
    platforms = parsed.items("platform") or [os.environ.get("DOCKER_DEFAULT_PLATFORM", "")]
    if any(platforms):
        query["platform"] = ",".join(_platform(each) for text in platforms for each in text.split(",")).lower()
    return query


def _platform(text: str) -> str:
    """``local`` is the platform of who asks."""
    if text != "local":
        return text
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386"}


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
    _check(parsed)
    id_file = parsed.text("iidfile")
    if id_file:
        try:
            os.unlink(id_file)  # no stale id may stay behind when this build fails
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CommandFailure(f"Removing image ID file: {os_error_text(error, 'remove')}") from None
    state, context = _in_session(session, parsed)
    identity = str(state.built.get("image") or "") if state is not None else _classic(session, parsed, context)
    if state is not None:
        _report(session, parsed, state)
    if id_file and identity:
        with open(id_file, "w", encoding="ascii") as file:
            file.write(identity)
    elif id_file and state is None:
        raise CommandFailure(f"Server did not provide an image ID. Cannot write {id_file}")


def _check(parsed: Parsed) -> None:
    """What is refused before anybody is asked."""
    if _progress(parsed) not in _PROGRESSES:
        raise CommandFailure(f"invalid progress mode {_progress(parsed)}: want one of {', '.join(_PROGRESSES)}")
    if parsed.text("builder") not in ("", "default"):
        raise CommandFailure(
            f'no builder "{parsed.text("builder")}" found: Carrack builds in its daemon, which is the builder "default"'
        )


def _in_session(session: Session, parsed: Parsed) -> tuple[BuildState | None, BuildContext | None]:
    """The build by the daemon's session; no state when it must be the classic way, then perhaps what stdin has begun to give."""
    if parsed.changed("compress") or parsed.flag("squash"):
        _refuse_without_session(parsed)
        return None, None  # words of the classic way
    argument = parsed.arguments[0]
    call = read_call(parsed)
    order = BuildOrder()
    order.secrets = read_secrets(parsed.items("secret"))
    order.agents = read_agents(parsed.items("ssh"))
    order.outputs = read_outputs(parsed)
    _check_outputs(parsed, order.outputs)
    order.further = {
        "CacheFrom": _caches_from(order, parsed.items("cache-from")),
        "CacheTo": _caches_to(order, parsed.items("cache-to")),
        "Attestations": read_attestations(parsed),
        "Annotations": dict(text.partition("=")[::2] for text in parsed.items("annotation")),
        "NoCacheStages": [each for text in parsed.items("no-cache-filter") for each in text.split(",") if each],
        "Allowed": [right for right in parsed.items("allow") if right != DELETE],
        "Call": "" if call.method == "build" else call.method,
    }
    archive: BuildContext | None = None
    name = parsed.text("file")
    if name.startswith(("http://", "https://")):
        order.dockerfile, name = fetch_dockerfile(name), ""
    if argument == "-":
        archive = open_context(argument, name, session.input.fd)
        name = archive.dockerfile
        order.further["Archive"] = True
    elif is_remote(argument):
        order.further["Remote"] = argument
    else:
        name = _main_folder(session, order, argument, name)
    further: dict[str, str] = {}
    for context, where in read_named_contexts(parsed.items("build-context")).items():
        if where.startswith(_LAYOUT):
            folder, wanted = split_layout(where.removeprefix(_LAYOUT))
            if not os.path.isfile(os.path.join(folder, "index.json")):
                raise CommandFailure(f"failed to get build context {context}: {folder} is no OCI image layout")
            order.folders[f"layout:{context}"] = BuildFolder(folder)
            further[context] = f"{_LAYOUT}{wanted}"
        elif is_folder(where):
            folder = os.path.realpath(where)
            if not os.path.isdir(folder):
                raise CommandFailure(f"failed to get build context {context}: {where} is no directory")
            order.folders[context] = BuildFolder(folder, ignore_file_of(folder, ""))
        else:
            further[context] = where
    order.further["Named"] = further
    query = build_query(session, parsed, name)
    query.pop("cachefrom", None)
    progress = "quiet" if parsed.flag("quiet") or call.method != "build" else _progress(parsed)
    display = open_display(progress, session.err, explains=parsed.flag("explain"))
    state = build_in_session(session, order, query, _credentials(session), display, archive.pieces if archive else None)
    if state is None:
        _refuse_without_session(parsed)
        if order.dockerfile is not None and parsed.text("file").startswith(("-", "http://", "https://")):
            archive = with_dockerfile(context_folder(argument), order.dockerfile)
    return state, archive


def _check_outputs(parsed: Parsed, outputs: list[BuildOutput]) -> None:
    """What cannot be meant of outputs."""
    for output in outputs:
        if output.type in ("local", "tar") and parsed.text("iidfile"):
            raise CommandFailure("local and tar exporters are incompatible with image ID file")
        mode = output.attributes.get("mode", "copy")
        if output.type == "local" and mode not in ("copy", "delete"):
            raise CommandFailure(f"invalid mode {mode!r} of the local output: want copy or delete")
        if output.type == "local" and mode == "delete" and not may_delete(output.destination, parsed.items("allow")):
            raise CommandFailure(
                f"mode=delete would clear {output.destination}, which is not below the current directory: give --allow={DELETE}"
            )


def _caches_from(order: BuildOrder, texts: list[str]) -> list[dict[str, Any]]:
    """The caches to use; one in a folder of ours travels like a context."""
    found = read_caches(texts)
    for number, cache in enumerate(found):
        fields = cache["Attributes"]
        if cache["Type"] not in ("local", "oci"):
            continue
        folder = os.path.realpath(fields.get("src", ""))
        if not fields.get("src") or not os.path.isfile(os.path.join(folder, "index.json")):
            raise CommandFailure(f"--cache-from {cache['Type']}: src={fields.get('src', '')} is no image layout")
        fields["context"] = f"cache:{number}"
        order.folders[fields["context"]] = BuildFolder(folder)
    return found


def _caches_to(order: BuildOrder, texts: list[str]) -> list[dict[str, Any]]:
    """Where the cache is to go; into a folder of ours it comes like an output."""
    kept = []
    for cache in read_caches(texts):
        if cache["Type"] not in ("local", "oci"):
            kept.append(cache)
            continue
        destination = cache["Attributes"].pop("dest", "")
        if not destination:
            raise CommandFailure(f"--cache-to {cache['Type']}: dest=FOLDER is required")
        order.outputs = order.outputs or [BuildOutput("image", {}, "")]
        order.outputs.append(BuildOutput("cache", cache["Attributes"], destination))
    return kept


def _main_folder(session: Session, order: BuildOrder, argument: str, name: str) -> str:
    """Take the folder and its Dockerfile into the order; the name that the daemon shows the file by."""
    folder = context_folder(argument)
    if order.dockerfile is not None:
        order.folders[""] = BuildFolder(folder, ignore_file_of(folder, ""))
        return ""
    if name == "-":
        order.dockerfile = b"".join(read_pieces(session.input.fd))
        order.folders[""] = BuildFolder(folder, ignore_file_of(folder, ""))
        return ""
    path, name = dockerfile_of(folder, name)
    try:
        order.dockerfile = read_file(path)
    except OSError as error:
        raise CommandFailure(f"unable to open Dockerfile: {os_error_text(error)}") from None
    order.folders[""] = BuildFolder(folder, ignore_file_of(folder, path))
    return os.path.basename(path) if name.startswith(".." + os.sep) else name


def _refuse_without_session(parsed: Parsed) -> None:
    """Flags that Docker's own daemon cannot serve by this way are refused by name, never passed over."""
    for flag in _SESSION_FLAGS:
        if parsed.changed(flag):
            raise CommandFailure(f"--{flag} needs a Carrack daemon: the one that answers knows only the classic build API")


def _report(session: Session, parsed: Parsed, state: BuildState) -> None:
    """What the command says at its end, the file for programs, and the push of what was built."""
    built = state.built
    call = read_call(parsed)
    if call.method != "build":
        show_answer(session.out, call, state)
        return
    if parsed.text("metadata-file"):
        write_metadata(parsed.text("metadata-file"), built, [_buildkit_warning(each) for each in state.warnings])
    if parsed.flag("quiet") and built.get("image"):
        session.out.line(str(built["image"]))
    pushed = [each for each in read_outputs(parsed) if each.attributes.get("push") == "true"]
    if pushed:
        names = built.get("names") or []
        if not names:
            raise CommandFailure("tag is needed when pushing to registry")
        from carrack.cli.images.transfer import push_name

        for name in names:
            push_name(session, name, quiet=parsed.flag("quiet"))


def _buildkit_warning(warning: dict[str, Any]) -> dict[str, Any]:
    """A finding as ``buildx.build.warnings`` has it."""
    from binascii import b2a_base64

    def encoded(text: str) -> str:
        return b2a_base64(text.encode(), newline=False).decode()

    first, last = warning.get("line", 0), warning.get("last_line", 0) or warning.get("line", 0)
    return {
        "level": 1,
        "short": encoded(f"{warning.get('rule', '')}: {warning.get('message', '')} (line {first})"),
        "detail": [encoded(str(line)) for line in warning.get("detail") or ()],
        "url": warning.get("url", ""),
        "sourceInfo": {"filename": warning.get("file", ""), "language": "Dockerfile"},
        "range": [{"start": {"line": first}, "end": {"line": last}}],
    }


def _credentials(session: Session) -> dict[str, str]:
    from binascii import b2a_base64

    logins = encode(all_logins(session.config)).encode()
    return {"X-Registry-Config": b2a_base64(logins, newline=False).decode().replace("+", "-").replace("/", "_")}


def _classic(session: Session, parsed: Parsed, context: BuildContext | None) -> str:
    """Docker's own way: the whole context in one tar, and its progress messages."""
    context = context or open_context(parsed.arguments[0], parsed.text("file"), session.input.fd)
    try:
        return _send(session, parsed, context)
    finally:
        context.close()


def _send(session: Session, parsed: Parsed, context: BuildContext) -> str:
    quiet = parsed.flag("quiet")
    headers = _credentials(session)
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


def _progress(parsed: Parsed) -> str:
    return parsed.text("progress") or os.environ.get("BUILDKIT_PROGRESS", "") or "auto"


_PROGRESSES = ("auto", "plain", "tty", "rawjson", "quiet", "none")
_SESSION_FLAGS = (
    "allow",
    "annotation",
    "attest",
    "build-context",
    "cache-to",
    "check",
    "explain",
    "load",
    "metadata-file",
    "no-cache-filter",
    "output",
    "provenance",
    "push",
    "resource",
    "sbom",
    "secret",
    "ssh",
)
_FLAGS = """
        --add-host list           Add a line to the hosts file of RUN (host:ip)
        --allow list              Grant an extra privilege ("network.host", "security.insecure")
        --annotation list         Annotation of the image's manifest
        --attest list             Statement to attach ("type=provenance", "type=sbom")
        --build-arg list          Build-time variables
        --build-context list      Another context ("name=path", "name=docker-image://…", a Git address)
        --builder string          The builder, of which there is one ("default")
        --cache-from strings      Images to take cache from
        --cache-to list           Where to keep the cache ("type=registry,ref=…")
        --call string=build       What to do: "build", "check", "outline", "targets"
        --cgroup-parent string    Parent cgroup of RUN
        --check bool              Only look for faults in the Dockerfile
        --compress bool           Compress the context with gzip
        --cpu-period int          CFS period in microseconds
        --cpu-quota int           CFS quota in microseconds
    -c, --cpu-shares int          Relative weight of CPU time
        --cpuset-cpus string      CPUs that RUN may use (0-3, 0,1)
        --cpuset-mems string      Memory nodes that RUN may use (0-3, 0,1)
        --disable-content-trust bool=true Do not verify signatures
        --explain bool            Say why a step was not taken from the cache
    -f, --file string             The Dockerfile, unless it is "PATH/Dockerfile"
        --force-rm bool           Remove intermediate containers even after a failure
        --iidfile string          File to write the image's id to
        --isolation string        Isolation technology
        --label list              Labels
        --load bool               Put the image into the daemon, beside other outputs
    -m, --memory bytes            Memory limit
        --memory-swap bytes       Limit of memory and swap together, -1 for unlimited swap
        --metadata-file string    File to write facts about the result to
        --network string@1.25=default  Network of RUN
        --no-cache bool           Do not use the cache
        --no-cache-filter list    Stages that do not use the cache
    -o, --output list             Where the result goes ("type=local,dest=path", "type=tar,dest=file")
        --platform strings@1.38   Platforms to build for ("linux/amd64,linux/arm64")
        --progress string         How progress is shown: "auto", "plain", "tty", "quiet", "rawjson" ($BUILDKIT_PROGRESS)
        --provenance string       Shorthand for "--attest=type=provenance"
        --pull bool               Look for newer versions of the images it starts from
        --push bool               Push the names when it is built
    -q, --quiet bool              Print the image's id only
        --resource list           Limit of each RUN ("memory=2g", "cpu-quota=50000")
        --rm bool=true            Remove intermediate containers after a success
        --sbom string             Shorthand for "--attest=type=sbom"
        --secret list             Secret for RUN ("id=name,src=path", "id=name,env=VARIABLE")
        --security-opt strings    Security options
        --shm-size bytes          Size of "/dev/shm"
        --squash bool@experimental             Make one layer of the new ones
        --ssh list                ssh agent or keys for RUN ("default", "name=socket", "name=key,key")
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

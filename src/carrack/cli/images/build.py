"""`carrack build`: the context sent to POST /build, the steps shown as they are done."""

from __future__ import annotations

import os

from carrack.cli.command import Command
from carrack.cli.containers.options import check_environment, check_extra_host, check_label
from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text
from carrack.cli.images.build_calls import read_call
from carrack.cli.images.build_calls import show as show_answer
from carrack.cli.images.build_display import BuildState, open_display
from carrack.cli.images.build_options import read_outputs
from carrack.cli.images.build_order import read_order
from carrack.cli.images.build_outputs import write_metadata
from carrack.cli.images.build_query import build_query
from carrack.cli.images.build_session import build_in_session
from carrack.cli.images.classic_build import build_classic, credentials
from carrack.cli.images.context import BuildContext, context_folder, with_dockerfile
from carrack.cli.images.names import parse_name
from carrack.cli.images.transfer import check_trust
from carrack.cli.values import read_swap_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def check_tag(text: str) -> str:
    """An image name."""
    parse_name(text)
    return text


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
    identity = str(state.built.get("image") or "") if state is not None else build_classic(session, parsed, context)
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
    call = read_call(parsed)
    order = read_order(session, parsed, call.method)
    query = build_query(session, parsed, order.dockerfile_name)
    query.pop("cachefrom", None)
    progress = "quiet" if parsed.flag("quiet") or call.method != "build" else _progress(parsed)
    display = open_display(progress, session.err, explains=parsed.flag("explain"))
    state = build_in_session(session, order, query, credentials(session), display)
    archive = order.archive
    if state is None:
        _refuse_without_session(parsed)
        if order.dockerfile is not None and parsed.text("file").startswith(("-", "http://", "https://")):
            archive = with_dockerfile(context_folder(parsed.arguments[0]), order.dockerfile)
    return state, archive


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

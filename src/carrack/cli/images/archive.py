"""Images as files: load, save, import."""

from __future__ import annotations

import os
import stat

from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text
from carrack.cli.images.platforms import platform_document
from carrack.cli.images.transfer import show_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

PIECE_BYTES = 1 << 18


def read_pieces(fd: int) -> Iterator[bytes]:
    """A descriptor's content piece by piece."""
    while data := os.read(fd, PIECE_BYTES):
        yield data


def open_input(path: str) -> int:
    """Opens a file to send. Raises CommandFailure."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CommandFailure(os_error_text(error)) from None
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise CommandFailure(f"read {path}: is a directory")
    return fd


def _need(session: Session, parsed: Parsed) -> str:
    platform = parsed.text("platform")
    if platform and not session.engine.speaks("1.48"):
        raise CommandFailure(f'"platform" requires API version 1.48, but the Docker daemon API version is {session.engine.version}')
    return platform_document(platform) if platform else ""


def _load(session: Session, parsed: Parsed) -> None:
    path = parsed.text("input")
    if not path and session.input.is_terminal:
        raise CommandFailure("requested load from stdin, but stdin is empty")
    query = {"quiet": "1" if parsed.flag("quiet") or not session.out.is_terminal else "0"}
    platform = _need(session, parsed)
    if platform:
        query["platform"] = platform
    fd = open_input(path) if path else session.input.fd
    try:
        with session.engine.request(
            "POST", "/images/load", query, content=read_pieces(fd), media_type="application/x-tar"
        ) as response:
            if response.headers.get("content-type", "").startswith("application/json"):
                show_progress(response.documents(), session.out)
            else:
                for data in response.body:
                    session.out.write_bytes(data)
    finally:
        if path:
            os.close(fd)


def _save(session: Session, parsed: Parsed) -> None:
    path = parsed.text("output")
    if not path and session.out.is_terminal:
        raise CommandFailure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    query: dict[str, str | list[str]] = {"names": parsed.arguments}
    platform = _need(session, parsed)
    if platform:
        query["platform"] = platform
    with session.engine.request("GET", "/images/get", query) as response:
        if path:
            write_download(path, response.body, "failed to save image")
        else:
            for data in response.body:
                write_all(1, data)


def check_output_path(path: str) -> None:
    """Refuses a file to write that cannot be one. Raises CommandFailure."""
    folder = os.path.dirname(os.path.normpath(path))
    if folder and not os.path.exists(folder):
        raise CommandFailure(f'invalid output path: directory "{folder}" does not exist')
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise CommandFailure(f'invalid output path: "{path}" must be a directory or a regular file: got a device')


def write_download(path: str, pieces: Iterable[bytes], failure: str) -> None:
    """Writes pieces to a file that appears only when it is whole. Raises CommandFailure."""
    try:
        check_output_path(path)
    except CommandFailure as error:
        raise CommandFailure(f"{failure}: {error}") from None
    if os.path.isdir(path):
        raise CommandFailure(f"{failure}: cannot write to a directory: {path}")
    temporary = os.path.join(os.path.dirname(path) or ".", f".carrack-{os.getpid()}-{os.path.basename(path)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandFailure(f"{failure}: {os_error_text(error)}") from None
    try:
        for data in pieces:
            write_all(fd, data)
        os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _import(session: Session, parsed: Parsed) -> None:
    source = parsed.arguments[0]
    name = parsed.arguments[1] if len(parsed.arguments) > 1 else ""
    repository, tag = split_tag(name)
    remote = source.startswith(("http://", "https://"))
    query: dict[str, str | list[str]] = {"fromSrc": source if remote else "-", "repo": repository}
    if tag:
        query["tag"] = tag
    if parsed.text("message"):
        query["message"] = parsed.text("message")
    if parsed.text("platform"):
        query["platform"] = parsed.text("platform").lower()
    if parsed.items("change"):
        query["changes"] = parsed.items("change")
    fd = session.input.fd if remote or source == "-" else open_input(source)
    try:
        content = None if remote else read_pieces(fd)
        with session.engine.request("POST", "/images/create", query, content=content) as response:
            show_progress(response.documents(), session.out)
    finally:
        if fd != session.input.fd:
            os.close(fd)


def split_tag(name: str) -> tuple[str, str]:
    """(repository, tag) of a name for a new image. Raises CommandFailure when it is no name."""
    if not name:
        return "", ""
    from carrack.cli.images.transfer import read_name

    checked = read_name(name)
    if checked.digest:
        raise CommandFailure("cannot import digest reference")
    return name, ""


COMMANDS = (
    Command(
        "image load",
        "[OPTIONS]",
        "Load images from a tar archive or STDIN",
        _load,
        at_most=0,
        aliases="image load, load",
        flags="""
        -i, --input string    File to read instead of STDIN
            --platform string@1.48 Load only one platform (e.g. "linux/amd64")
        -q, --quiet bool      Do not show progress
        """,
    ),
    Command(
        "image save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save images to a tar archive, on STDOUT or in a file",
        _save,
        at_least=1,
        aliases="image save, save",
        flags="""
        -o, --output string   File to write instead of STDOUT
            --platform string@1.48 Save only one platform (e.g. "linux/amd64")
        """,
    ),
    Command(
        "image import",
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Make an image of a tar archive of files",
        _import,
        at_least=1,
        aliases="image import, import",
        flags="""
        -c, --change list     Dockerfile instruction to apply to the image
        -m, --message string  Message for the image's history
            --platform string@1.32=$DOCKER_DEFAULT_PLATFORM Platform, if the daemon can have several
        """,
    ),
)

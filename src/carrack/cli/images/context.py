"""The build context: a folder, an archive on stdin, a Dockerfile on stdin, a git repository or a URL, as one tar stream."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file
from carrack.cli.images.archive import read_pieces
from carrack.cli.images.build_folder import IGNORE, BuildFolder, ignore_file_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DOCKERFILE = "Dockerfile"
DOCKERFILE_LIMIT_BYTES = 2 << 20
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


class BuildContext:
    """What is sent: the archive's bytes and the Dockerfile's name in it. `close` removes what was fetched for it."""

    def __init__(self, pieces: Iterator[bytes], dockerfile: str, folder: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self.pieces = pieces
        self.dockerfile = dockerfile
        self._folder = folder

    def close(self) -> None:
        """Remove what was fetched for it. Idempotent."""
        if self._folder is not None:
            self._folder.cleanup()


def open_context(argument: str, dockerfile: str, stdin_fd: int) -> BuildContext:
    """The context a command line names. Raises CommandFailure."""
    if argument == "-":
        if dockerfile == "-":
            raise CommandFailure("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stream(read_pieces(stdin_fd), dockerfile)
    if os.path.exists(argument):
        return _from_folder(argument, dockerfile, stdin_fd)
    if _is_git(argument):
        return _from_git(argument, dockerfile)
    if argument.startswith(("http://", "https://")):
        return _from_url(argument, dockerfile)
    raise CommandFailure(f'unable to prepare context: path "{argument}" not found')


def is_remote(argument: str) -> bool:
    """Whether a context is fetched from somewhere: a repository or a page, unless a folder of ours is called so."""
    return not os.path.exists(argument) and (_is_git(argument) or argument.startswith(("http://", "https://")))


def context_folder(argument: str) -> str:
    """The folder that a command line names. Raises CommandFailure."""
    if not os.path.exists(argument):
        raise CommandFailure(f'unable to prepare context: path "{argument}" not found')
    folder = os.path.realpath(argument)
    if not os.path.isdir(folder):
        raise CommandFailure(f"unable to prepare context: context must be a directory: {folder}")
    return folder


def dockerfile_of(folder: str, dockerfile: str) -> tuple[str, str]:
    """(where the Dockerfile is, its name from the folder's root). Raises CommandFailure."""
    path = os.path.abspath(dockerfile) if dockerfile else os.path.join(folder, DOCKERFILE)
    if not dockerfile and not os.path.lexists(path) and os.path.lexists(os.path.join(folder, "dockerfile")):
        path = os.path.join(folder, "dockerfile")
    try:
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        os.stat(path)
    except OSError as error:
        raise CommandFailure(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {os_error_text(error, 'lstat')}"
        ) from None
    return path, os.path.relpath(path, folder)


def _from_folder(argument: str, dockerfile: str, stdin_fd: int) -> BuildContext:
    folder = context_folder(argument)
    if dockerfile == "-":
        extra = b"".join(read_pieces(stdin_fd))
        return with_dockerfile(folder, extra)
    path, name = dockerfile_of(folder, dockerfile)
    if name.startswith(".." + os.sep):
        try:
            return with_dockerfile(folder, read_file(path))
        except OSError as error:
            raise CommandFailure(f"unable to open Dockerfile: {os_error_text(error)}") from None
    folder_without = BuildFolder(folder, ignore_file_of(folder, path), (name, IGNORE))
    return BuildContext(folder_without.whole_tar(), name)


def with_dockerfile(folder: str, content: bytes) -> BuildContext:
    """A folder's context with a Dockerfile that is not in it, under a name nothing else has and that the ignore file names."""
    name = f".dockerfile.{os.urandom(10).hex()}"
    kept = BuildFolder(folder, ignore_file_of(folder, ""), (IGNORE,))
    ignore = f"{kept.ignore_text}\n{name}\n".encode("utf-8", "surrogateescape")

    def pieces() -> Iterator[bytes]:
        yield _entry(name, content)
        yield _entry(IGNORE, ignore)
        yield from kept.whole_tar(without=IGNORE)

    return BuildContext(pieces(), name)


def _entry(name: str, content: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    padding = -len(content) % tarfile.BLOCKSIZE
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + content + bytes(padding)


def _from_stream(pieces: Iterator[bytes], dockerfile: str) -> BuildContext:
    """stdin is an archive, or else a Dockerfile with nothing around it."""
    head = b""
    for data in pieces:
        head += data
        if len(head) >= tarfile.BLOCKSIZE:
            break
    if _is_archive(head):

        def whole() -> Iterator[bytes]:
            yield head
            yield from pieces

        return BuildContext(whole(), dockerfile)
    if dockerfile:
        raise CommandFailure(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"
        )
    content = head + b"".join(pieces)
    return BuildContext(iter([_entry(DOCKERFILE, content) + bytes(2 * tarfile.BLOCKSIZE)]), DOCKERFILE)


def _is_archive(head: bytes) -> bool:
    if head.startswith(_MAGIC):
        return True
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _is_git(argument: str) -> bool:
    bare = argument.partition("#")[0]
    if argument.startswith(("http://", "https://")):
        return bare.endswith(".git")
    return argument.startswith(("git://", "git@", "github.com/", "ssh://git@"))


def _from_git(argument: str, dockerfile: str) -> BuildContext:
    repository, _, fragment = argument.partition("#")
    reference, _, inside = fragment.partition(":")
    if repository.startswith("github.com/"):
        repository = f"https://{repository}"
    folder = tempfile.TemporaryDirectory(prefix="carrack-build-git")
    try:
        _git(["init", "--quiet", folder.name])
        _git(["-C", folder.name, "fetch", "--quiet", "--depth", "1", "--", repository, reference or "HEAD"])
        _git(["-C", folder.name, "checkout", "--quiet", "FETCH_HEAD"])
        _git(["-C", folder.name, "submodule", "update", "--init", "--recursive", "--depth=1", "--quiet"])
        root = os.path.realpath(os.path.join(folder.name, inside.lstrip("/")))
        if os.path.commonpath([root, os.path.realpath(folder.name)]) != os.path.realpath(folder.name):
            raise CommandFailure(f"unable to prepare context: {inside} leads out of the repository")
        context = _from_folder(root, os.path.join(root, dockerfile) if dockerfile else "", 0)
    except BaseException:
        folder.cleanup()
        raise
    return BuildContext(context.pieces, context.dockerfile, folder)


def _git(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_PROTOCOL_FROM_USER": "0"},
        )
    except OSError:
        raise CommandFailure(
            "unable to prepare context: unable to find 'git': exec: \"git\": executable file not found in $PATH"
        ) from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip()
        raise CommandFailure(f"unable to prepare context: unable to 'git clone' to temporary context directory: {text}")


def fetch_dockerfile(url: str) -> bytes:
    """A Dockerfile that is on the web (``--file URL``). Raises CommandFailure."""
    with _opened(url, f"failed to fetch the Dockerfile {url}") as answer:
        content = answer.read(DOCKERFILE_LIMIT_BYTES + 1)
    if len(content) > DOCKERFILE_LIMIT_BYTES:
        raise CommandFailure(f"the Dockerfile {url} is larger than {DOCKERFILE_LIMIT_BYTES} bytes")
    return bytes(content)


def _from_url(argument: str, dockerfile: str) -> BuildContext:
    answer = _opened(argument, f"unable to prepare context: unable to download remote context {argument}")
    return _from_stream(iter(lambda: answer.read(1 << 18), b""), dockerfile)


def _opened(url: str, trouble: str) -> Any:
    import urllib.error
    import urllib.request

    try:
        return urllib.request.urlopen(url)
    except (urllib.error.URLError, OSError) as error:
        raise CommandFailure(f"{trouble}: {error}") from None

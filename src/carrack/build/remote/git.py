"""Git repositories as sources: a reference settled to a commit, and that commit's files.

`git` runs confined (`shim.run_confined`): no hooks, no settings of the host, no credentials but those of the build, no protocol
that reads local files, and a file system that holds nothing of value. What it wrote is a stranger's tree; a subdirectory is taken
out of it by the worker that copies, which follows no link out.
"""

from __future__ import annotations

import os
import re
import shutil
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from carrack.archive.removal import remove_tree
from carrack.build.remote.git_url import GitAddress
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter, NotFound, Unavailable
from carrack.oci.mount import Mount
from carrack.shim import messages

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OUTPUT_BYTES = 16 << 20
_CHECKOUT = "checkout"
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "GIT_SSL_CAINFO")
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.sshCommand": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/tmp/hosts",
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "protocol.git.allow": "always",
    "protocol.ssh.allow": "always",
    "safe.directory": "*",
    "init.defaultBranch": "main",
    "advice.detachedHead": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}


class Git:
    """The git program of this host, confined."""

    def __init__(self, trees: WorkerTrees, workspace: Callable[[], Path]) -> None:
        """`workspace` gives a new empty directory, which is removed after use."""
        self._trees = trees
        self._workspace = workspace

    def resolve(self, address: GitAddress, secrets: Mapping[str, bytes], cancel: Cancellation) -> str:
        """The commit that the address means now. Raises NotFound, InvalidParameter, Unavailable."""
        reference = address.reference or "HEAD"
        if _COMMIT.fullmatch(reference):
            return _agreeing(reference, address)
        place = self._workspace()
        try:
            answer = self._git(
                place, ["ls-remote", "--", address.repository, reference, f"{reference}^{{}}"], address, secrets, cancel
            )
        finally:
            remove_checkout(place)
        found = {name: commit for commit, _, name in (line.partition("\t") for line in answer.splitlines())}
        for name in (reference, f"refs/heads/{reference}", f"refs/tags/{reference}", f"refs/{reference}"):
            commit = found.get(f"{name}^{{}}") or found.get(name)  # of an annotated tag, what it stands for
            if commit:
                return _agreeing(commit, address)
        if re.fullmatch(r"[0-9a-f]{7,}", reference):
            raise InvalidParameter(f"{address.shown}: a commit must be given whole, {reference} is only its beginning")
        raise NotFound(f"repository does not contain ref {reference}: {address.shown}")

    def check_out(
        self,
        address: GitAddress,
        commit: str,
        into: Path,
        secrets: Mapping[str, bytes],
        tell: Callable[[str], None],
        cancel: Cancellation,
        *,
        keep_git_dir: bool,
        submodules: bool,
    ) -> None:
        """Fill the empty directory `into` with the files of a commit. Raises NotFound, InvalidParameter, Unavailable."""
        place = self._workspace()
        try:
            (place / _CHECKOUT).mkdir()

            def git(*arguments: str) -> str:
                return self._git(place, ["-C", _CHECKOUT, *arguments], address, secrets, cancel)

            git("init", "--quiet")
            git("remote", "add", "--", "origin", address.repository)
            tell(f"fetching {commit[:12]} of {address.shown}")
            self._fetch(git, address, commit)
            git("checkout", "--quiet", "--force", "--detach", commit)
            if submodules:
                git("submodule", "update", "--init", "--recursive", "--depth=1", "--quiet")
            if not keep_git_dir:
                self._forget_git(place, cancel)
            self._move(address, place, into, cancel)
        finally:
            remove_checkout(place)

    @staticmethod
    def _fetch(git: Callable[..., str], address: GitAddress, commit: str) -> None:
        """The commit alone where the server gives single commits, else the reference, else everything."""
        try:
            git("fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", commit)
            return
        except (NotFound, Unavailable, InvalidParameter):
            pass
        reference = address.reference
        if reference and not _COMMIT.fullmatch(reference):
            try:
                git("fetch", "--quiet", "--no-tags", "--", "origin", reference)
                git("cat-file", "-e", f"{commit}^{{commit}}")
                return
            except (NotFound, Unavailable, InvalidParameter):
                pass
        git("fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*")

    def _forget_git(self, place: Path, cancel: Cancellation) -> None:
        """Take `.git` away, of the repository and of its submodules."""
        fd = os.open(place / _CHECKOUT, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._trees.do(messages.PruneTree(("**/.git",)), (fd,), cancel)
        finally:
            os.close(fd)

    def _move(self, address: GitAddress, place: Path, into: Path, cancel: Cancellation) -> None:
        directory = address.directory.strip("/") or "."
        job = messages.CopyFiles(
            target=(Mount("bind", str(into), options=("bind", "rw")),),
            trees=((Mount("bind", str(place / _CHECKOUT), options=("bind", "ro")),),),
            sources=(messages.CopySource(f"{directory}/", wildcards=False),),
            destination="/",
        )
        try:
            self._trees.do(job, (), cancel)
        except NotFound:
            raise NotFound(f"no directory {address.directory!r} in {address.shown}") from None

    def _git(
        self, place: Path, arguments: list[str], address: GitAddress, secrets: Mapping[str, bytes], cancel: Cancellation
    ) -> str:
        """What git prints. Secrets travel in its environment, never among its arguments."""
        program = shutil.which("git")
        if program is None:
            raise Unavailable("git is needed for this build, and this host has none: install the package `git`")
        directory_fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        output_fd, error_fd = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("git-output", "git-errors"))
        try:
            job = messages.RunConfined((program, *arguments), _environment(address, secrets))
            code = self._trees.do(job, (directory_fd, output_fd, error_fd), cancel).exit_code
            if code:
                said = os.pread(error_fd, 4096, 0).decode(errors="replace").strip()
                raise _failure(said or f"exit status {code}", address)
            return os.pread(output_fd, _OUTPUT_BYTES, 0).decode(errors="surrogateescape")
        finally:
            for fd in (directory_fd, output_fd, error_fd):
                os.close(fd)


def _environment(address: GitAddress, secrets: Mapping[str, bytes]) -> tuple[str, ...]:
    settings = dict(_SETTINGS)
    header = _authorization(address, secrets)
    if header:
        settings[f"http.{_origin(address)}.extraHeader"] = header
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/true",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_CONFIG_COUNT": str(len(settings)),
        **{name: os.environ[name] for name in (*_PASSED_ON, *_CERTIFICATES) if name in os.environ},
    }
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"], environment[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return tuple(f"{name}={value}" for name, value in environment.items())


def _authorization(address: GitAddress, secrets: Mapping[str, bytes]) -> str:
    """BuildKit's secrets for Git: GIT_AUTH_HEADER and GIT_AUTH_TOKEN, for one host when a dot and its name follow."""
    for suffix in (f".{address.host}", ""):
        if value := secrets.get(f"GIT_AUTH_HEADER{suffix}"):
            return f"Authorization: {value.decode(errors='replace').strip()}"
        if value := secrets.get(f"GIT_AUTH_TOKEN{suffix}"):
            return f"Authorization: basic {b64encode(b'x-access-token:' + value.strip()).decode()}"
    return ""


def _origin(address: GitAddress) -> str:
    scheme, _, rest = address.repository.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}/"


def _agreeing(commit: str, address: GitAddress) -> str:
    if address.checksum and not commit.startswith(address.checksum):
        raise InvalidParameter(f"expected checksum to match {address.checksum}, got {commit}: {address.shown}")
    return commit


def _failure(said: str, address: GitAddress) -> NotFound | Unavailable | InvalidParameter:
    text = f"{address.shown}: {said}"
    if "not found" in said or "does not exist" in said or "couldn't find remote ref" in said:
        return NotFound(text)
    if "not allowed" in said or "unadvertised" in said:
        return InvalidParameter(text)
    return Unavailable(text)


def remove_checkout(place: Path) -> None:
    """Remove what was checked out, whatever is in it."""
    fd = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(fd, place.name)
    finally:
        os.close(fd)

"""Contexts on disk, in the layout Docker's command shares: `contexts/meta/<sha256 of the name>/meta.json` and `contexts/tls/…`."""

from __future__ import annotations

import os
import shutil

from carrack.cli.failure import CommandFailure
from carrack.cli.files import read_file, write_atomically
from carrack.client import codec
from carrack.client.endpoint import Endpoint, TlsFiles, parse_endpoint
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TLS_FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}


class ContextStore:
    """The contexts in one settings folder."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(directory, "contexts")

    def metadata_path(self, name: str) -> str:
        """The folder of a context's document."""
        return os.path.join(self.directory, "meta", _folder(name))

    def tls_path(self, name: str) -> str:
        """The folder of a context's keys."""
        return os.path.join(self.directory, "tls", _folder(name))

    def names(self) -> list[str]:
        """Every context kept here, in order."""
        found = []
        folder = os.path.join(self.directory, "meta")
        for entry in os.listdir(folder) if os.path.isdir(folder) else ():
            try:
                found.append(codec.decode(read_file(os.path.join(folder, entry, "meta.json")))["Name"])
            except (OSError, ValueError, KeyError):
                continue
        return sorted(found)

    def exists(self, name: str) -> bool:
        """Whether a context is kept here."""
        return os.path.exists(os.path.join(self.metadata_path(name), "meta.json"))

    def read(self, name: str) -> dict[str, Any]:
        """A context's document. Raises CommandFailure when there is none."""
        path = os.path.join(self.metadata_path(name), "meta.json")
        try:
            document: dict[str, Any] = codec.decode(read_file(path))
        except FileNotFoundError:
            raise CommandFailure(f'context "{name}": context not found: open {path}: no such file or directory') from None
        except (OSError, ValueError) as error:
            raise CommandFailure(f'context "{name}": {error}') from None
        return document

    def write(self, document: dict[str, Any]) -> None:
        """Keeps a context's document."""
        folder = self.metadata_path(document["Name"])
        os.makedirs(folder, mode=0o755, exist_ok=True)
        write_atomically(os.path.join(folder, "meta.json"), codec.encode(document).encode())

    def write_tls(self, name: str, files: dict[str, bytes]) -> None:
        """Replaces a context's keys."""
        shutil.rmtree(self.tls_path(name), ignore_errors=True)
        if files:
            folder = os.path.join(self.tls_path(name), "docker")
            os.makedirs(folder, mode=0o700)
            for file, content in files.items():
                write_atomically(os.path.join(folder, file), content, mode=0o600)

    def tls_files(self, name: str) -> list[str]:
        """The names of a context's key files."""
        folder = os.path.join(self.tls_path(name), "docker")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def remove(self, name: str) -> None:
        """Forgets a context and its keys."""
        shutil.rmtree(self.metadata_path(name), ignore_errors=True)
        shutil.rmtree(self.tls_path(name), ignore_errors=True)


def _folder(name: str) -> str:
    from hashlib import sha256

    return sha256(name.encode()).hexdigest()


def check_name(name: str) -> None:
    """Refuses what cannot name a context. Raises CommandFailure."""
    if not name:
        raise CommandFailure("context name cannot be empty")
    if name == "default":
        raise CommandFailure('"default" is a reserved context name')
    bare = name.replace("_", "").replace(".", "").replace("+", "").replace("-", "")
    if not name[0].isalnum() or not bare.isalnum() or not name.isascii() or len(name) < 2:
        raise CommandFailure(
            f'context name "{name}" is invalid, names are validated against regexp "^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def context_endpoint(directory: str, name: str) -> Endpoint:
    """The daemon a context names. Raises CommandFailure."""
    store = ContextStore(directory)
    endpoint = (store.read(name).get("Endpoints") or {}).get("docker") or {}
    files = store.tls_files(name)
    tls = None
    if files or endpoint.get("SkipTLSVerify"):
        folder = os.path.join(store.tls_path(name), "docker")
        paths = [os.path.join(folder, file) if file in files else "" for file in _TLS_FILES.values()]
        tls = TlsFiles(*paths, verify=not endpoint.get("SkipTLSVerify"))
    try:
        return parse_endpoint(endpoint.get("Host") or "", tls=tls)
    except CarrackError as error:
        raise CommandFailure(f'context "{name}": {error}') from None


def tls_content(config: dict[str, str]) -> dict[str, bytes]:
    """The key files a --docker names, by their names in the store. Raises CommandFailure."""
    files: dict[str, bytes] = {}
    for key, file in _TLS_FILES.items():
        if config.get(key):
            try:
                files[file] = read_file(config[key])
            except OSError as error:
                raise CommandFailure(
                    f"unable to create docker endpoint config: open {config[key]}: {(error.strerror or '').lower()}"
                ) from None
            if b"-----BEGIN " not in files[file]:
                problem = f"failed to retrieve context tls info: {file} seems invalid"
                raise CommandFailure(f"unable to create docker endpoint config: invalid docker endpoint options: {problem}")
    return files

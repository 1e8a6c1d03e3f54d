"""The user's own settings: `config.json` in DOCKER_CONFIG or ~/.docker, shared with Docker's command so that both agree.

A missing file is an empty one. Values are read where they are used and keys of others are kept when the file is written.
"""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def default_directory() -> str:
    """DOCKER_CONFIG, or ~/.docker."""
    chosen = os.environ.get("DOCKER_CONFIG")
    return chosen or os.path.join(os.environ.get("HOME") or os.path.expanduser("~"), ".docker")


class Config:
    """config.json of one folder, read at first use."""

    __slots__ = ("_document", "directory")

    def __init__(self, directory: str = "") -> None:
        self.directory = directory or default_directory()
        self._document: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        """Where the file is or would be."""
        return os.path.join(self.directory, "config.json")

    @property
    def document(self) -> dict[str, Any]:
        """The whole file. Raises CommandFailure when it is not JSON."""
        if self._document is None:
            self._document = self._load()
        return self._document

    def text(self, key: str) -> str:
        """A string setting; empty when absent."""
        value = self.document.get(key)
        return value if isinstance(value, str) else ""

    def table(self, key: str) -> dict[str, Any]:
        """An object setting; empty when absent."""
        value = self.document.get(key)
        return value if isinstance(value, dict) else {}

    def save(self) -> None:
        """Writes the file whole or not at all, readable by its owner only."""
        from carrack.cli.files import write_atomically
        from carrack.cli.render.indent import indent
        from carrack.client.codec import encode

        self.document.setdefault("auths", {})  # as Docker's command leaves it
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        write_atomically(os.path.realpath(self.path), indent(encode(self.document, sort=True), "\t").encode(), mode=0o600)

    def _load(self) -> dict[str, Any]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            pieces = []
            while data := os.read(descriptor, 65536):
                pieces.append(data)
        finally:
            os.close(descriptor)
        from carrack.client.codec import decode

        try:
            document = decode(b"".join(pieces))
        except ValueError as error:
            raise CommandFailure(f"error parsing config file: {self.path}: {error}") from None
        return document if isinstance(document, dict) else {}

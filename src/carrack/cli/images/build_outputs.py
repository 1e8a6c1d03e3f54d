"""A build's output into a folder of ours, and the file that tells programs about the result."""

from __future__ import annotations

import json
import os
import tarfile

from carrack.cli.containers.copy import BodyFile, extract_entry, set_times
from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.client.http import Body


def unpack(body: Body, folder: str) -> None:
    """Put an archive's files into a folder, which is made when it is not there. Owners are not kept, as with buildx."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tarfile.open(fileobj=BodyFile(body), mode="r|", errorlevel=1) as archive:  # type: ignore[call-overload]
            directories: list[tarfile.TarInfo] = []
            for entry in archive:
                extract_entry(archive, entry, folder)
                if entry.isdir():
                    directories.append(entry)
            for entry in reversed(directories):
                set_times(os.path.join(folder, entry.name), entry)
    except OSError as error:
        raise CommandFailure(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}") from None


def write_metadata(path: str, built: dict[str, Any]) -> None:
    """``--metadata-file``: what was built, in buildx's words."""
    document = dict(built.get("metadata") or {})
    if built.get("image"):
        document.setdefault("containerimage.config.digest", built["image"])
    if built.get("names"):
        document.setdefault("image.name", ",".join(built["names"]))
    temporary = f"{path}.{os.urandom(4).hex()}"
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2) + "\n")
        os.rename(temporary, path)
    except OSError as error:
        raise CommandFailure(f"open {path}: {(error.strerror or '').lower()}") from None

"""A build's output into a folder of ours, and the file that tells programs about the result."""

from __future__ import annotations

import json
import os
import tarfile

from carrack.cli.containers.copy import BodyFile, extract_entry, set_times
from carrack.cli.failure import CommandFailure

DELETE = "buildx.local.delete"
"""The right to clear a folder that is not below where we are; it is ours to give, and no daemon hears of it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from carrack.client.http import Body


def may_delete(destination: str, allowed: Sequence[str]) -> bool:
    """Whether ``mode=delete`` may clear a folder: one below where we are, or any when ``--allow=buildx.local.delete`` says so."""
    here, there = os.path.realpath("."), os.path.realpath(destination)
    return DELETE in allowed or (there != here and os.path.commonpath([here, there]) == here)


def unpack(body: Body, folder: str, *, delete: bool = False) -> None:
    """Put an archive's files into a folder, which is made when it is not there. Owners are not kept, as with buildx.

    `delete`: what the archive does not have goes.
    """
    kept: set[str] = set()
    try:
        os.makedirs(folder, exist_ok=True)
        with tarfile.open(fileobj=BodyFile(body), mode="r|", errorlevel=1) as archive:  # type: ignore[call-overload]
            directories: list[tarfile.TarInfo] = []
            for entry in archive:
                extract_entry(archive, entry, folder)
                kept.add(os.path.normpath(entry.name.lstrip("/")))
                if entry.isdir():
                    directories.append(entry)
            for entry in reversed(directories):
                set_times(os.path.join(folder, entry.name), entry)
        if delete:
            _delete_others(folder, "", kept)
    except OSError as error:
        raise CommandFailure(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}") from None


def _delete_others(folder: str, inside: str, kept: set[str]) -> None:
    import shutil

    with os.scandir(os.path.join(folder, inside)) as found:
        entries = list(found)
    for entry in entries:
        name = os.path.join(inside, entry.name)
        is_folder = entry.is_dir(follow_symlinks=False)
        if name not in kept:
            shutil.rmtree(entry.path) if is_folder else os.unlink(entry.path)
        elif is_folder:
            _delete_others(folder, name, kept)


def write_metadata(path: str, built: dict[str, Any], warnings: Sequence[dict[str, Any]] = ()) -> None:
    """``--metadata-file``: what was built, in buildx's words."""
    document = dict(built.get("metadata") or {})
    if os.environ.get("BUILDX_METADATA_PROVENANCE", "") in ("disabled", "false", "0"):
        document = {key: value for key, value in document.items() if not key.startswith("buildx.build.provenance")}
    if os.environ.get("BUILDX_METADATA_WARNINGS", "") in ("1", "true"):
        document["buildx.build.warnings"] = warnings
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

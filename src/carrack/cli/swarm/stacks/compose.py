"""Reading Compose files for a stack: checked, variables filled in, short forms written out, several files made one.

What comes out is the file as `stack config` prints it: plain dicts and lists in the long form, ready to become a swarm's specs.
"""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file
from carrack.cli.swarm.stacks.long_form import write_out
from carrack.cli.swarm.stacks.merging import merge_files
from carrack.cli.swarm.stacks.schema import KINDS, check
from carrack.cli.swarm.stacks.variables import fill
from carrack.cli.swarm.stacks.yaml_text import read_yaml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from carrack.cli.session import Session

    Document = dict[str, Any]

_FORBIDDEN = ("extends", "volume_driver", "volumes_from", "cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit")
_NEWEST_MINOR = 13
_NEWEST = f"3.{_NEWEST_MINOR}"


def load_files(session: Session, paths: Sequence[str], *, interpolate: bool = True) -> Document:
    """The files as one document. Raises CommandFailure with Docker's text."""
    if not paths:
        raise CommandFailure("Specify a Compose file (with --compose-file)")
    folder = os.getcwd() if paths[0] == "-" else os.path.dirname(os.path.abspath(paths[0]))
    merged: Document = {}
    for number, path in enumerate(paths):
        document = _load_one(session, path, interpolate=interpolate)
        write_out(document, folder)
        if number == 0:
            merged = document
        else:
            merge_files(merged, document)
    merged["version"] = _NEWEST if merged.get("version") in (None, "3") else merged["version"]
    return _without_nothing(merged)


def _load_one(session: Session, path: str, *, interpolate: bool) -> Document:
    if path == "-":
        content = session.input.read_all()
    else:
        try:
            content = read_file(path)
        except OSError as error:
            raise CommandFailure(os_error_text(error)) from None
    document = read_yaml(content)
    if not isinstance(document, dict):
        raise CommandFailure("top-level object must be a mapping")
    version = document.get("version")
    if version is not None and not isinstance(version, str):
        raise CommandFailure("version must be a string")
    major, _, minor = str(version or "3").partition(".")
    if major != "3" or not (minor or "0").isdigit() or int(minor or "0") > _NEWEST_MINOR:
        raise CommandFailure(f"unsupported Compose file version: {version}")
    services = document.get("services")
    for service in services.values() if isinstance(services, dict) else ():
        if isinstance(service, dict) and any(key in service for key in _FORBIDDEN):
            raise CommandFailure("Configuration contains forbidden properties")
    if interpolate:
        for kind in KINDS:
            if isinstance(document.get(kind), dict):
                document[kind] = {name: fill(entry, f"{kind}.{name}", name) for name, entry in document[kind].items()}
    check(document)
    return document


def _without_nothing(document: Document) -> Document:
    """The document without what was written but says nothing."""
    return {key: value for key, value in document.items() if value not in (None, {})}

"""The flags of `carrack build` that buildx has and the classic API has not: secrets, agents, outputs, caches, statements.

Each is read into the words of the daemon's session (`POST /build/sessions`). Texts of errors are buildx's where scripts meet them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from carrack.cli.failure import CommandFailure
from carrack.cli.values import read_bool, read_bytes, read_int, read_swap_bytes, split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.images.ssh_agent import Agent

SECRET_LIMIT_BYTES = 500 << 10
_TO_CLIENT = ("local", "tar", "docker", "oci")


class Output:
    """One ``--output``: `destination` is a place of ours, "-" standard output, "" the daemon's."""

    __slots__ = ("attributes", "destination", "type")

    def __init__(self, type: str, attributes: dict[str, str], destination: str) -> None:
        self.type = type
        self.attributes = attributes
        self.destination = destination


def read_fields(text: str, flag: str) -> dict[str, str]:
    """``key=value`` pairs of one comma-separated value."""
    fields: dict[str, str] = {}
    try:
        parts = split_csv(text)
    except ValueError as error:
        raise CommandFailure(f"invalid value {text!r} for --{flag}: {error}") from None
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise CommandFailure(f"invalid field '{part}' must be a key=value pair: --{flag} {text}")
        fields[key.lower()] = value
    return fields


def read_secrets(texts: list[str]) -> dict[str, bytes]:
    """``--secret id=NAME[,src=FILE][,env=VARIABLE]``: what they hold, by id."""
    secrets: dict[str, bytes] = {}
    for text in texts:
        fields = read_fields(text, "secret")
        for key in fields:
            if key not in ("id", "src", "source", "type", "env"):
                raise CommandFailure(f"unexpected key '{key}' in '{text}'")
        kind = fields.get("type", "")
        if kind not in ("", "file", "env"):
            raise CommandFailure(f"unsupported secret type {kind!r}")
        source, variable = fields.get("src") or fields.get("source") or "", fields.get("env", "")
        if kind == "env" and not variable:
            source, variable = "", source
        identity = fields.get("id") or variable or os.path.basename(source)
        if not identity:
            raise CommandFailure("secret ID must be set: --secret id=NAME")
        if not source and not variable:
            source, variable = ("", identity) if identity in os.environ else (identity, "")
        secrets[identity] = _secret(identity, source, variable)
    return secrets


def _secret(identity: str, path: str, variable: str) -> bytes:
    if variable:
        value = os.environ.get(variable)
        if value is None:
            raise CommandFailure(f"secret {identity}: environment variable {variable} is not set")
        return value.encode("utf-8", "surrogateescape")
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read(SECRET_LIMIT_BYTES + 1)
    except OSError as error:
        raise CommandFailure(f"failed to stat {path}: {(error.strerror or '').lower()}") from None
    if len(content) > SECRET_LIMIT_BYTES:
        raise CommandFailure(f"secret {path!r} is too big: max size is {SECRET_LIMIT_BYTES} bytes")
    return content


def read_agents(texts: list[str]) -> dict[str, Agent]:
    """``--ssh default``, ``--ssh NAME=SOCKET`` and ``--ssh NAME=KEY,…``: the agents, by id."""
    agents: dict[str, Agent] = {}
    for text in texts:
        identity, _, path = text.partition("=")
        path = path or os.environ.get("SSH_AUTH_SOCK", "")
        if not path:
            raise CommandFailure("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
        from carrack.cli.images.ssh_agent import open_agent

        agents[identity or "default"] = open_agent(identity, path)
    return agents


def read_resources(texts: list[str]) -> dict[str, str]:
    """``--resource KEY=VALUE``: the limits of each step, by the names of `POST /build`. Raises CommandFailure."""
    limits: dict[str, str] = {}
    for text in texts:
        for key, value in read_fields(text, "resource").items():
            known = _RESOURCES.get(key)
            if known is None:
                raise CommandFailure(f"unknown resource {key!r}: want one of {', '.join(_RESOURCES)}")
            name, read = known
            try:
                limits[name] = str(read(value))
            except ValueError as error:
                raise CommandFailure(f"invalid value {value!r} of resource {key}: {error}") from None
    return limits


_RESOURCES: dict[str, tuple[str, Callable[[str], object]]] = {
    "memory": ("memory", read_bytes),
    "memory-swap": ("memswap", read_swap_bytes),
    "cpu-shares": ("cpushares", read_int),
    "cpu-period": ("cpuperiod", read_int),
    "cpu-quota": ("cpuquota", read_int),
    "cpuset-cpus": ("cpusetcpus", str),
    "cpuset-mems": ("cpusetmems", str),
}


def read_outputs(parsed: Parsed) -> list[Output]:
    """``--output``, and what ``--push`` and ``--load`` stand for."""
    outputs: list[Output] = []
    for text in parsed.items("output"):
        if "=" not in text:
            outputs.append(Output("tar", {}, "-") if text == "-" else Output("local", {}, text))
            continue
        fields = read_fields(text, "output")
        kind = fields.pop("type", "")
        destination = fields.pop("dest", "")
        if not kind:
            raise CommandFailure(f"type is required for output: {text}")
        if kind == "registry":
            kind = "image"
            fields["push"] = "true"
        if kind in ("local", "tar", "oci") and not destination:
            if kind == "local":
                raise CommandFailure("dest is required for local output")
            destination = "-"
        outputs.append(Output(kind, fields, destination if kind in _TO_CLIENT else ""))
    if parsed.flag("push"):
        outputs = outputs or [Output("image", {}, "")]
        for output in outputs:
            if output.type != "image":
                raise CommandFailure("--push and --output of another type than image cannot be used together")
            output.attributes["push"] = "true"
    if parsed.flag("load") and not [output for output in outputs if output.type in ("docker", "image")]:
        outputs.append(Output("docker", {}, ""))
    if sum(output.destination == "-" for output in outputs) > 1:
        raise CommandFailure("only one output can go to standard output")
    return outputs


def read_caches(texts: list[str]) -> list[dict[str, Any]]:
    """``--cache-from`` and ``--cache-to``: a reference, or ``type=…,…``."""
    found: list[dict[str, Any]] = []
    for text in _rejoined(texts):
        if "=" not in text.partition(",")[0]:
            found += [{"Type": "registry", "Attributes": {"ref": each}} for each in text.split(",") if each]
            continue
        fields = read_fields(text, "cache-from")
        kind = fields.pop("type", "")
        if not kind:
            raise CommandFailure(f"type required form> {text}")
        found.append({"Type": kind, "Attributes": fields})
    return found


def _rejoined(texts: list[str]) -> list[str]:
    """Descriptions whose fields the flag's commas have torn apart: Docker's flag is a list of names."""
    whole: list[str] = []
    for text in texts:
        begins = "=" not in text or not whole or "=" not in whole[-1] or (text.startswith("type=") and "type=" in whole[-1])
        if begins:
            whole.append(text)
        else:
            whole[-1] += f",{text}"
    return whole


def read_attestations(parsed: Parsed) -> dict[str, dict[str, str]]:
    """``--attest``, ``--provenance`` and ``--sbom``: the statements that are wanted, with their attributes."""
    wanted: dict[str, dict[str, str]] = {}
    for text in parsed.items("attest"):
        fields = read_fields(text, "attest")
        kind = fields.pop("type", "")
        if kind not in ("provenance", "sbom"):
            raise CommandFailure(f"attestation type {kind!r} is unknown: want provenance or sbom")
        wanted[kind] = fields
    for kind in ("provenance", "sbom"):
        if parsed.text(kind):
            wanted[kind] = _switch_or_fields(parsed.text(kind), kind)
    for kind in [kind for kind, fields in wanted.items() if fields.pop("disabled", "") == "true"]:
        del wanted[kind]
    return wanted


def _switch_or_fields(text: str, flag: str) -> dict[str, str]:
    try:
        return {} if read_bool(text) else {"disabled": "true"}
    except ValueError:
        return read_fields(text, flag)


def read_named_contexts(texts: list[str]) -> dict[str, str]:
    """``--build-context NAME=WHERE``."""
    named: dict[str, str] = {}
    for text in texts:
        name, equals, where = text.partition("=")
        if not equals or not name:
            raise CommandFailure(f"invalid context value: {text}, expected key=value")
        named[name] = where
    return named


def split_layout(text: str) -> tuple[str, str]:
    """``path[:tag]`` or ``path@digest`` of a layout: the folder, and which of its images."""
    path, at, digest = text.partition("@")
    if at:
        return os.path.realpath(path), digest
    head, colon, tag = path.rpartition(":")
    return (os.path.realpath(head), tag) if colon and "/" not in tag else (os.path.realpath(path), "")


def is_folder(where: str) -> bool:
    """Whether a named context is a folder of ours, rather than an image, a repository or a page."""
    return not where.startswith(("docker-image://", "http://", "https://", "git://", "ssh://", "git@", "github.com/", "target:"))

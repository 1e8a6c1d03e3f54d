"""How the `swarm` commands read addresses, certificates and authorities, and what their flags change in a cluster's spec."""

from __future__ import annotations

from carrack.cli.values import split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed

DEFAULT_PORT = "2377"

SPEC_FLAGS = """
    --autolock bool                     Lock managers: one that was stopped needs a key to start (true|false)
    --cert-expiry duration=2160h0m0s    How long node certificates are valid (ns|us|ms|s|m|h)
    --dispatcher-heartbeat duration=5s  Time between two signs of life of a node (ns|us|ms|s|m|h)
    --external-ca external-ca           Certificate authorities outside the swarm
    --max-snapshots uint@1.25           Raft snapshots to keep beside the newest
    --snapshot-interval uint@1.25=10000 Log entries between two Raft snapshots
    --task-history-limit int=5          Tasks that ended to keep in the history
"""


def read_node_address(text: str) -> str:
    """`<ip|interface>[:port]` with the swarm's own port when none is given. Raises ValueError with Docker's text."""
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]:{DEFAULT_PORT}"
    host, colon, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    if host.startswith("[") and not colon:
        raise ValueError(f"invalid bind address format: {text}")
    if colon and not port.isdigit():
        raise ValueError(f'parse "tcp://{text}": invalid port ":{port}" after host')
    return f"{host}:{port or DEFAULT_PORT}"


def read_address_pools(text: str) -> list[str]:
    """Address blocks, comma between them. Raises ValueError with Docker's text."""
    from carrack.cli.containers.options import normal_address

    blocks = [block.strip() for block in split_csv(text)]
    for block in blocks:
        address, slash, bits = block.partition("/")
        if not slash or not bits.isdigit() or normal_address(address) is None:
            raise ValueError(f"invalid string being converted to CIDR: {block}")
    return blocks


def read_external_ca(text: str) -> dict[str, Any]:
    """`protocol=cfssl,url=…[,cacert=file]` as the API's ExternalCA. Raises ValueError with Docker's text."""
    authority: dict[str, Any] = {"CACert": ""}
    options: dict[str, str] = {}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if not equals:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        key = key.strip().lower()
        if key == "protocol":
            if value.strip().lower() != "cfssl":
                raise ValueError(f"unrecognized external CA protocol {value}")
            authority["Protocol"] = "cfssl"
        elif key == "url":
            authority["URL"] = value
        elif key == "cacert":
            authority["CACert"] = read_pem(value)
        else:
            options[key] = value
    for key, field in (("protocol", "Protocol"), ("url", "URL")):
        if field not in authority:
            raise ValueError(f"the external-ca option needs a {key}= parameter")
    return {**authority, **({"Options": options} if options else {})}


def read_pem(path: str) -> str:
    """The content of a PEM file. Raises ValueError when it cannot be read or holds no PEM block."""
    from carrack.cli.files import os_error_text, read_file

    try:
        content = read_file(path).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ValueError(os_error_text(error)) from None
    if "-----BEGIN " not in content:
        raise ValueError("file contents must be in PEM format")
    return content


def apply_spec_flags(spec: dict[str, Any], parsed: Parsed, *, trust_root: str = "") -> None:
    """Writes the flags that were given into a cluster's spec; `trust_root` is the certificate that new external CAs stand for."""
    if parsed.changed("task-history-limit"):
        spec.setdefault("Orchestration", {})["TaskHistoryRetentionLimit"] = parsed.number("task-history-limit")
    if parsed.changed("dispatcher-heartbeat"):
        spec.setdefault("Dispatcher", {})["HeartbeatPeriod"] = parsed.number("dispatcher-heartbeat")
    apply_authority_flags(spec, parsed, trust_root=trust_root)
    for flag, field in (("snapshot-interval", "SnapshotInterval"), ("max-snapshots", "KeepOldSnapshots")):
        if parsed.changed(flag):
            spec.setdefault("Raft", {})[field] = parsed.number(flag)
    if parsed.changed("autolock"):
        spec.setdefault("EncryptionConfig", {})["AutoLockManagers"] = parsed.flag("autolock")


def apply_authority_flags(spec: dict[str, Any], parsed: Parsed, *, trust_root: str) -> None:
    """Writes the flags that concern certificates into a cluster's spec."""
    authority = spec.setdefault("CAConfig", {})
    if parsed.changed("cert-expiry"):
        authority["NodeCertExpiry"] = parsed.number("cert-expiry")
    if parsed.changed("external-ca"):
        authority["ExternalCAs"] = [{**entry, "CACert": entry["CACert"] or trust_root} for entry in parsed.value("external-ca")]

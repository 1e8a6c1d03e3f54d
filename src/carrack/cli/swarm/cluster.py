"""The `swarm` commands: making a cluster, joining and leaving it, its tokens, its key and its certificates."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.failure import PROGRAM, CommandFailure
from carrack.cli.swarm.cluster_flags import (
    SPEC_FLAGS,
    apply_authority_flags,
    apply_spec_flags,
    read_address_pools,
    read_external_ca,
    read_node_address,
    read_pem,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_AVAILABILITY = ("active", "pause", "drain")
_POLL_SECONDS = 0.2


def _availability(parsed: Parsed) -> str:
    if not parsed.changed("availability"):
        return ""
    chosen = parsed.text("availability").lower()
    if chosen not in _AVAILABILITY:
        raise CommandFailure(f'invalid availability "{parsed.text("availability")}", only active, pause and drain are supported')
    return chosen


def _init(session: Session, parsed: Parsed) -> None:
    availability = _availability(parsed)
    spec: dict[str, Any] = {
        "Labels": None,
        "Orchestration": {},
        "Raft": {"ElectionTick": 0, "HeartbeatTick": 0},
        "Dispatcher": {},
        "CAConfig": {},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": False},
    }
    apply_spec_flags(spec, parsed)
    request = {
        "ListenAddr": parsed.text("listen-addr"),
        "AdvertiseAddr": parsed.text("advertise-addr"),
        "DataPathAddr": parsed.text("data-path-addr"),
        "DataPathPort": parsed.number("data-path-port"),
        "ForceNewCluster": parsed.flag("force-new-cluster"),
        "Spec": spec,
        "AutoLockManagers": parsed.flag("autolock"),
        "Availability": availability,
        "DefaultAddrPool": [block for blocks in parsed.value("default-addr-pool") for block in blocks],
        "SubnetSize": parsed.number("default-addr-pool-mask-length"),
    }
    node = session.engine.json("POST", "/swarm/init", document=request)
    session.out.line(f"Swarm initialized: current node ({node}) is now a manager.\n")
    _print_join_command(session, str(node), "worker")
    session.out.line(f"To add a manager to this swarm, run '{PROGRAM} swarm join-token manager' and follow the instructions.")
    if parsed.flag("autolock"):
        _print_unlock_key(session, _unlock_key(session))


def _print_join_command(session: Session, node_id: str, role: str) -> None:
    node = session.engine.json("GET", f"/nodes/{node_id}")
    cluster = session.engine.json("GET", "/swarm")
    manager = node.get("ManagerStatus")
    if manager is None:
        return
    token = cluster["JoinTokens"]["Worker" if role == "worker" else "Manager"]
    session.out.line(f"To add a {role} to this swarm, run the following command:\n")
    session.out.line(f"    {PROGRAM} swarm join --token {token} {manager['Addr']}\n")


def _unlock_key(session: Session) -> str:
    return str((session.engine.json("GET", "/swarm/unlockkey") or {}).get("UnlockKey") or "")


def _print_unlock_key(session: Session, key: str) -> None:
    session.out.line(
        f"To unlock a swarm manager after it restarts, run the `{PROGRAM} swarm unlock`\n"
        f"command and provide the following key:\n\n    {key}\n\n"
        "Remember to store this key in a password manager, since without it you\n"
        "will not be able to restart the manager."
    )


def _join(session: Session, parsed: Parsed) -> None:
    request = {
        "ListenAddr": parsed.text("listen-addr"),
        "AdvertiseAddr": parsed.text("advertise-addr"),
        "DataPathAddr": parsed.text("data-path-addr"),
        "RemoteAddrs": [parsed.arguments[0]],
        "JoinToken": parsed.text("token"),
        "Availability": _availability(parsed),
    }
    session.engine.order("POST", "/swarm/join", document=request)
    swarm = session.engine.json("GET", "/info").get("Swarm") or {}
    session.out.line(f"This node joined a swarm as a {'manager' if swarm.get('ControlAvailable') else 'worker'}.")


def _leave(session: Session, parsed: Parsed) -> None:
    session.engine.order("POST", "/swarm/leave", {"force": "1"} if parsed.flag("force") else None)
    session.out.line("Node left the swarm.")


def _send_update(session: Session, cluster: dict[str, Any], *, rotate: str = "") -> None:
    query = {"version": str(cluster["Version"]["Index"])}
    for name in ("WorkerToken", "ManagerToken", "ManagerUnlockKey"):
        query[f"rotate{name}"] = "true" if rotate == name else "false"
    session.engine.order("POST", "/swarm/update", query, document=cluster["Spec"])


def _trust_root(cluster: dict[str, Any]) -> str:
    return str((cluster.get("TLSInfo") or {}).get("TrustRoot") or "")


def _update(session: Session, parsed: Parsed) -> None:
    if not parsed.given_flags:
        from carrack.cli.catalogue import load
        from carrack.cli.help import command_help

        session.out.write(command_help(load("swarm update"), "swarm update"))
        return
    cluster = session.engine.json("GET", "/swarm")
    before = bool((cluster["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers"))
    apply_spec_flags(cluster["Spec"], parsed, trust_root=_trust_root(cluster))
    _send_update(session, cluster)
    session.out.line("Swarm updated.")
    if not before and (cluster["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers"):
        _print_unlock_key(session, _unlock_key(session))


def _join_token(session: Session, parsed: Parsed) -> None:
    role = parsed.arguments[0]
    if role not in ("worker", "manager"):
        raise CommandFailure(f"unknown role {role}")
    field = role.capitalize()
    if parsed.flag("rotate"):
        _send_update(session, session.engine.json("GET", "/swarm"), rotate=f"{field}Token")
        if not parsed.flag("quiet"):
            session.out.line(f"Successfully rotated {role} join token.\n")
    cluster = session.engine.json("GET", "/swarm")
    if parsed.flag("quiet"):
        session.out.line(cluster["JoinTokens"][field])
        return
    node = (session.engine.json("GET", "/info").get("Swarm") or {}).get("NodeID") or ""
    _print_join_command(session, node, role)


def _unlock(session: Session, parsed: Parsed) -> None:
    state = (session.engine.json("GET", "/info").get("Swarm") or {}).get("LocalNodeState")
    if state == "inactive":
        raise CommandFailure("Error: This node is not part of a swarm")
    if state != "locked":
        raise CommandFailure("Error: swarm is not locked")
    if session.input.is_terminal:
        from carrack.cli.system.login import read_secret

        key = read_secret(session, "Please enter unlock key: ")
    else:
        key = session.input.read_all().decode("utf-8", "surrogateescape").partition("\n")[0].strip()
    session.engine.order("POST", "/swarm/unlock", document={"UnlockKey": key})


def _show_unlock_key(session: Session, parsed: Parsed) -> None:
    if parsed.flag("rotate"):
        cluster = session.engine.json("GET", "/swarm")
        if not (cluster["Spec"].get("EncryptionConfig") or {}).get("AutoLockManagers"):
            raise CommandFailure("cannot rotate because autolock is not turned on")
        _send_update(session, cluster, rotate="ManagerUnlockKey")
        if not parsed.flag("quiet"):
            session.out.line("Successfully rotated manager unlock key.\n")
    key = _unlock_key(session)
    if not key:
        raise CommandFailure("no unlock key is set")
    if parsed.flag("quiet"):
        session.out.line(key)
    else:
        _print_unlock_key(session, key)


def _authority(session: Session, parsed: Parsed) -> None:
    cluster = session.engine.json("GET", "/swarm")
    if not parsed.flag("rotate"):
        for flag in ("ca-cert", "ca-key", "cert-expiry", "external-ca"):
            if parsed.changed(flag):
                raise CommandFailure(f"`--{flag}` flag requires the `--rotate` flag to update the CA")
        _print_trust_root(session, cluster)
        return
    certificate, key = parsed.text("ca-cert"), parsed.text("ca-key")
    if certificate and not key and not parsed.changed("external-ca"):
        raise CommandFailure("the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well")
    apply_authority_flags(cluster["Spec"], parsed, trust_root=certificate)
    authority = cluster["Spec"].setdefault("CAConfig", {})
    authority.update({name: text for name, text in (("SigningCACert", certificate), ("SigningCAKey", key)) if text})
    if not certificate and not key:
        authority["ForceRotate"] = int(authority.get("ForceRotate") or 0) + 1
        for name in ("SigningCACert", "SigningCAKey"):
            authority.pop(name, None)
    _send_update(session, cluster)
    if parsed.flag("detach"):
        return
    _watch_rotation(session, quiet=parsed.flag("quiet"))
    if not parsed.flag("quiet"):
        _print_trust_root(session, session.engine.json("GET", "/swarm"))


def _print_trust_root(session: Session, cluster: dict[str, Any]) -> None:
    if not _trust_root(cluster):
        raise CommandFailure("No CA information available")
    session.out.line(_trust_root(cluster).strip())


def _watch_rotation(session: Session, *, quiet: bool) -> None:
    """Shows how many nodes have the new certificates, until all have."""
    from carrack.cli.images.transfer import show_progress

    try:
        show_progress(_rotation_messages(session), None if quiet else session.out)
    except KeyboardInterrupt:
        session.out.line("Operation continuing in background.")


def _rotation_messages(session: Session) -> Iterator[dict[str, Any]]:
    from hashlib import sha256

    while True:
        cluster = session.engine.json("GET", "/swarm")
        info = cluster.get("TLSInfo") or {}
        digest = sha256(str(info.get("TrustRoot") or "").encode()).hexdigest()
        yield {"id": "desired root digest", "status": f"sha256:{digest}"}
        nodes = session.engine.json("GET", "/nodes")
        theirs = [(node.get("Description") or {}).get("TLSInfo") or {} for node in nodes]
        issuer = ("CertIssuerPublicKey", "CertIssuerSubject")
        certified = [tls for tls in theirs if all(tls.get(field) == info.get(field) for field in issuer)]
        trusting = [tls for tls in certified if tls.get("TrustRoot") == info.get("TrustRoot")]
        for title, count in (("rotated TLS certificates", len(certified)), ("rotated CA certificates", len(trusting))):
            yield {
                "id": f"  {title}",
                "status": f"{count}/{len(nodes)} nodes",
                "progressDetail": {"current": count, "total": len(nodes), "units": "nodes"},
            }
        if not cluster.get("RootRotationInProgress"):
            return
        time.sleep(_POLL_SECONDS)


_ADDRESSES = """
    --advertise-addr string             Address that other nodes reach this one at (format: "<ip|interface>[:port]")
    --availability string=active        Whether it takes tasks ("active", "pause", "drain")
    --data-path-addr string@1.31        Address or interface for the data of networks (format: "<ip|interface>")
    --listen-addr node-addr=0.0.0.0:2377 Address to listen at (format: "<ip|interface>[:port]")
"""
_CHECKS = {
    "default-addr-pool": read_address_pools,
    "external-ca": read_external_ca,
    "listen-addr": read_node_address,
    "ca-cert": read_pem,
    "ca-key": read_pem,
}
_QUIET_ROTATE = "-q, --quiet bool Print the {0} only\n--rotate bool Make a new {0}"

COMMANDS = (
    Command(
        "swarm init",
        "[OPTIONS]",
        "Make this engine the first node of a swarm",
        _init,
        at_most=0,
        checks=_CHECKS,
        flags=_ADDRESSES
        + SPEC_FLAGS
        + """
    --data-path-port uint32@1.40                     UDP port for the data of networks, 1024 to 49151 (0 means 4789)
    --default-addr-pool ipNetSlice@1.39              Address blocks that networks are cut from (CIDR) (default [])
    --default-addr-pool-mask-length uint32@1.39=24   Size of a network cut from them
    --force-new-cluster bool                         Start a new cluster from what this node knows
    """,
    ),
    Command(
        "swarm join",
        "[OPTIONS] HOST:PORT",
        "Join a swarm as a node or manager",
        _join,
        at_least=1,
        at_most=1,
        checks=_CHECKS,
        flags=_ADDRESSES + "--token string Token that lets a node in",
    ),
    Command(
        "swarm leave",
        "[OPTIONS]",
        "Leave the swarm",
        _leave,
        at_most=0,
        flags="-f, --force bool Leave even if it is a manager, whatever is lost",
    ),
    Command("swarm update", "[OPTIONS]", "Change the settings of the swarm", _update, at_most=0, checks=_CHECKS, flags=SPEC_FLAGS),
    Command(
        "swarm join-token",
        "[OPTIONS] (worker|manager)",
        "Print or renew the tokens that let nodes in",
        _join_token,
        at_least=1,
        at_most=1,
        flags=_QUIET_ROTATE.format("token"),
    ),
    Command("swarm unlock", "", "Unlock a manager that was started again", _unlock, at_most=0),
    Command(
        "swarm unlock-key",
        "[OPTIONS]",
        "Print or renew the key that unlocks managers",
        _show_unlock_key,
        at_most=0,
        flags=_QUIET_ROTATE.format("key"),
    ),
    Command(
        "swarm ca",
        "[OPTIONS]",
        "Print or renew the root certificate",
        _authority,
        at_most=0,
        needs="1.30",
        checks=_CHECKS,
        flags="""
        --ca-cert pem-file        File with the new root certificate (PEM)
        --ca-key pem-file         File with the new root key (PEM)
        --cert-expiry duration=2160h0m0s How long node certificates are valid (ns|us|ms|s|m|h)
    -d, --detach bool             Do not wait until every node has its new certificate
        --external-ca external-ca Certificate authorities outside the swarm
    -q, --quiet bool              Show no progress
        --rotate bool             Make a new root certificate, or take the one given
        """,
    ),
)

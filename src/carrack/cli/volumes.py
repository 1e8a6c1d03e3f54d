"""The `volume` commands."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.look import natural_key
from carrack.cli.containers.options import check_label
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.pruning import FORCE_FLAG, ask_or_stop, print_report, prune_filters, prune_volumes
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import human_size
from carrack.cli.several import for_every
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_SURE = "\nAre you sure you want to continue?"
_ANONYMOUS = f"WARNING! This will remove anonymous local volumes not used by at least one container.{_SURE}"
_ALL = f"WARNING! This will remove all local volumes not used by at least one container.{_SURE}"
_CLUSTER_FLAGS = ("group", "scope", "sharing", "availability", "type", "secret", "limit-bytes", "required-bytes")


def volume_path(name: str) -> str:
    """The API path of a volume. Raises CommandFailure for a blank name."""
    if not name.strip():
        raise CommandFailure("invalid volume name: value is empty")
    return f"/volumes/{percent_encode(name)}"


def fetch_volume(session: Session, name: str) -> bytes:
    """The volume's document as the daemon wrote it. Raises ApiError."""
    return session.engine.request("GET", volume_path(name)).read_all()


def _usage(volume: dict[str, Any], field: str) -> Any:
    return (volume.get("UsageData") or {}).get(field)


def _cluster_status(volume: dict[str, Any]) -> str:
    cluster = volume.get("ClusterVolume")
    if not cluster:
        return "N/A"
    if not (cluster.get("Info") or {}).get("VolumeID"):
        return "pending creation"
    states = [status.get("State") for status in cluster.get("PublishStatus") or ()]
    if "published" in states or "pending-node-unpublish" in states:
        return f"in use ({len(states)} node{'s' if len(states) != 1 else ''})"
    return "created"


NOUN = Noun(
    "*formatter.volumeContext",
    {
        "Name": ("VOLUME NAME", lambda volume: volume["Name"]),
        "Driver": ("DRIVER", lambda volume: volume.get("Driver") or ""),
        "Scope": ("SCOPE", lambda volume: volume.get("Scope") or ""),
        "Mountpoint": ("MOUNTPOINT", lambda volume: volume.get("Mountpoint") or ""),
        "Labels": ("LABELS", lambda volume: ",".join([f"{key}={value}" for key, value in (volume.get("Labels") or {}).items()])),
        "Links": ("LINKS", lambda volume: "N/A" if not volume.get("UsageData") else str(_usage(volume, "RefCount"))),
        "Size": ("SIZE", lambda volume: "N/A" if not volume.get("UsageData") else human_size(_usage(volume, "Size"))),
        "Group": (
            "GROUP",
            lambda volume: volume["ClusterVolume"]["Spec"].get("Group", "") if volume.get("ClusterVolume") else "N/A",
        ),
        "Availability": (
            "AVAILABILITY",
            lambda volume: volume["ClusterVolume"]["Spec"].get("Availability", "") if volume.get("ClusterVolume") else "N/A",
        ),
        "Status": ("STATUS", _cluster_status),
    },
    {"Label": lambda volume, name: (volume.get("Labels") or {}).get(name, "")},
)


def _list(session: Session, parsed: Parsed) -> None:
    volumes = session.engine.json("GET", "/volumes", filters_query(parsed.filters())).get("Volumes") or []
    quiet = parsed.flag("quiet")
    template = parsed.text("format") or ("" if quiet else session.config.text("volumesFormat"))
    columns: tuple[str, ...] = ("Driver", "Name")
    if parsed.flag("cluster"):
        volumes = [volume for volume in volumes if volume.get("ClusterVolume")]
        columns, template = ("Name", "Group", "Driver", "Availability", "Status"), ""
    if template == "raw":
        template = "name: {{.Name}}" if quiet else r"name: {{.Name}}\ndriver: {{.Driver}}\n"
    volumes.sort(key=lambda volume: natural_key(volume["Name"]))
    print_rows(session.out, NOUN, volumes, template=template, columns=columns, quiet="Name" if quiet else "")


def _inspect(session: Session, parsed: Parsed) -> None:
    inspect_each(session.out, parsed.arguments, parsed.text("format"), lambda name: fetch_volume(session, name))


def _create(session: Session, parsed: Parsed) -> None:
    if parsed.arguments and parsed.text("name"):
        raise CommandFailure("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
    document: dict[str, Any] = {
        "Driver": parsed.text("driver"),
        "DriverOpts": parsed.pairs("opt"),
        "Labels": {key: value for key, _, value in [text.partition("=") for text in parsed.items("label")]},
        "Name": parsed.arguments[0] if parsed.arguments else parsed.text("name"),
    }
    document = {name: value for name, value in document.items() if value or name == "Driver"}
    if any(parsed.changed(flag) for flag in _CLUSTER_FLAGS):
        document["ClusterVolumeSpec"] = _cluster_spec(parsed)
    session.out.line(session.engine.json("POST", "/volumes/create", document=document)["Name"])


def _cluster_spec(parsed: Parsed) -> dict[str, Any]:
    kind = {"mount": "MountVolume", "block": "BlockVolume"}.get(parsed.text("type"))
    access: dict[str, Any] = {"Scope": parsed.text("scope"), "Sharing": parsed.text("sharing")}
    if kind:
        access[kind] = {}

    def topologies(flag: str) -> list[dict[str, Any]]:
        return [
            {"Segments": {key: value for key, _, value in [part.partition("=") for part in text.split(",")]}}
            for text in parsed.items(flag)
        ]

    secrets = [{"Key": key, "Secret": secret} for key, secret in sorted(parsed.pairs("secret").items())]
    topology = {"Requisite": topologies("topology-required"), "Preferred": topologies("topology-preferred")}
    return {
        "Group": parsed.text("group"),
        "AccessMode": access,
        "AccessibilityRequirements": {name: places for name, places in topology.items() if places},
        "CapacityRange": {"RequiredBytes": parsed.number("required-bytes"), "LimitBytes": parsed.number("limit-bytes")},
        **({"Secrets": secrets} if secrets else {}),
        "Availability": parsed.text("availability"),
    }


def _remove(session: Session, parsed: Parsed) -> None:
    query = {"force": "1"} if parsed.flag("force") else {}

    def remove(name: str) -> None:
        session.engine.order("DELETE", volume_path(name), query)
        session.out.line(name)

    for_every(parsed.arguments, remove)


def _prune(session: Session, parsed: Parsed) -> None:
    filters = prune_filters(session, parsed.filters())
    question = _ANONYMOUS
    if session.engine.speaks("1.42"):
        if parsed.flag("all"):
            if "all" in filters:
                raise CommandFailure("conflicting options: cannot specify both --all and --filter all=1")
            filters["all"] = ["true"]
            question = _ALL
    else:
        question = _ALL  # older daemons remove named volumes too
    ask_or_stop(session, parsed, question)
    print_report(session, *prune_volumes(session, filters))


def _update(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    cluster = session.engine.json("GET", volume_path(name)).get("ClusterVolume")
    if not cluster:
        raise CommandFailure("can only update cluster volumes")
    spec = cluster["Spec"]
    if parsed.changed("availability"):
        spec["Availability"] = parsed.text("availability")
    session.engine.order("PUT", volume_path(cluster["ID"]), {"version": str(cluster["Version"]["Index"])}, document={"Spec": spec})


COMMANDS = (
    Command(
        "volume ls",
        "[OPTIONS]",
        "List volumes",
        _list,
        at_most=0,
        aliases="volume ls, volume list",
        flags="""
            --cluster bool@1.42  Show cluster volumes only
        -f, --filter filter Show only what matches (e.g. "dangling=true")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -q, --quiet bool    Print names only
        """,
    ),
    Command(
        "volume inspect", "[OPTIONS] VOLUME [VOLUME...]", "Print everything about volumes", _inspect, at_least=1, flags=FORMAT_FLAG
    ),
    Command(
        "volume create",
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        _create,
        at_most=1,
        checks={"label": check_label},
        flags="""
            --availability string@1.42=active Availability ("active", "pause", "drain"; cluster volumes)
        -d, --driver string=local     Driver of the volume
            --group string@1.42            Group (cluster volumes)
            --label list              Labels
            --limit-bytes bytes@1.42       Largest size (cluster volumes)
            --name string!            Name of the volume
        -o, --opt map                 Options of the driver
            --required-bytes bytes@1.42    Smallest size (cluster volumes)
            --scope string@1.42=single     Nodes that may use it at once ("single", "multi"; cluster volumes)
            --secret map@1.42              Secrets (cluster volumes)
            --sharing string@1.42=none     Sharing ("none", "readonly", "onewriter", "all"; cluster volumes)
            --topology-preferred list@1.42 Topology it should be reachable from (cluster volumes)
            --topology-required list@1.42  Topology it must be reachable from (cluster volumes)
            --type string@1.42=block       Kind of access ("mount", "block"; cluster volumes)
        """,
    ),
    Command(
        "volume rm",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove volumes",
        _remove,
        at_least=1,
        aliases="volume rm, volume remove",
        flags="-f, --force bool Remove them by force",
    ),
    Command(
        "volume prune",
        "[OPTIONS]",
        "Remove unused local volumes",
        _prune,
        at_most=0,
        flags=f"-a, --all bool@1.42 Remove named ones too, not only anonymous ones\n{FORCE_FLAG}\n"
        '--filter filter Remove only what matches (e.g. "label=<label>")',
    ),
    Command(
        "volume update",
        "[OPTIONS] VOLUME",
        "Change a cluster volume",
        _update,
        needs="1.42",
        at_least=1,
        at_most=1,
        flags='--availability string@1.42=active Availability ("active", "pause", "drain")',
    ),
)

"""Images as Docker's documents, in each version's shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from carrack.api.moments import ZERO
from carrack.api.shapes import Field, Shape, fields
from carrack.api.versions import at_least
from carrack.images.attestations import Attestation
from carrack.images.image import Image
from carrack.images.images import HistoryLine, Pruned
from carrack.images.parts import Identity, ManifestSummary
from carrack.images.progress import Progress
from carrack.images.remove import Removal, Untagged
from carrack.oci.descriptor import Descriptor
from carrack.oci.image_config import ExecutionConfig
from carrack.oci.platform import Platform

Json = dict[str, object]

SUMMARY = Shape(
    Field("VirtualSize", gone="1.44"),
    Field("Manifests", since="1.47", omitted_empty="1.47"),
    Field("Descriptor", since="1.48"),
)
INSPECT = Shape(
    Field("Variant", omitted_empty="1.24"),
    Field("OsVersion", omitted_empty="1.24"),
    Field("VirtualSize", gone="1.44"),
    *fields("Container ContainerConfig", gone="1.45"),
    *fields("Parent Comment DockerVersion Author", omitted_empty="1.52"),
    Field("Descriptor", since="1.48"),
    Field("Manifests", since="1.48", omitted_empty="1.48"),
    Field("Identity", since="1.53", omitted_empty="1.53"),
    *fields("ExposedPorts Healthcheck ArgsEscaped StopSignal Shell", inside="Config", omitted_empty="1.24"),
    *fields(
        "Hostname Domainname AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Image", inside="Config", gone="1.50"
    ),
    *fields("Cmd Entrypoint Env Labels OnBuild User Volumes WorkingDir", inside="Config", omitted_empty="1.52"),
)

_UNKNOWN = -1
_BAR_WIDTH = 50


def summary(
    image: Image,
    version: str,
    *,
    shared_bytes: int = _UNKNOWN,
    containers: int = _UNKNOWN,
    manifests: Sequence[ManifestSummary] = (),
) -> Json:
    """One line of a list."""
    document: Json = {
        "Containers": containers if at_least(version, "1.51") else _UNKNOWN,
        "Created": int(image.created.timestamp()) if image.created else 0,
        "Id": str(image.id),
        "Labels": image.config.execution.labels,
        "ParentId": str(image.parent or ""),
        "Descriptor": descriptor(image.descriptor),
        "Manifests": [manifest(each) for each in manifests],
        "RepoDigests": list(image.repo_digests),
        "RepoTags": list(image.names),
        "SharedSize": shared_bytes,
        "Size": image.size_bytes,
        "VirtualSize": image.size_bytes,
    }
    if not at_least(version, "1.43") and not image.names and not image.repo_digests:
        document |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    return SUMMARY.fit(document, version)


def inspect(
    image: Image,
    version: str,
    layers: Sequence[str],
    driver: str,
    tagged: datetime | None,
    *,
    manifests: Sequence[ManifestSummary] = (),
    identity: Identity | None = None,
) -> Json:
    """One image in full. `layers` are its directories, topmost first."""
    config = image.config
    document: Json = {
        "Id": str(image.id),
        "RepoTags": list(image.names),
        "RepoDigests": list(image.repo_digests),
        "Parent": str(image.parent or ""),
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or ZERO,
        "DockerVersion": "",
        "Author": config.author,
        "Config": _execution(config.execution),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os or "linux",
        "OsVersion": config.os_version,
        "Size": image.size_bytes,
        "VirtualSize": image.size_bytes,
        "GraphDriver": {"Data": _graph(layers, driver), "Name": driver},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids} if config.rootfs.diff_ids else {"Type": "layers"},
        "Metadata": {"LastTagTime": tagged.isoformat().replace("+00:00", "Z") if tagged else ZERO},
        "Container": "",
        "ContainerConfig": {name: value for name, value in _execution(ExecutionConfig()).items() if name != "Healthcheck"},
        "Descriptor": descriptor(image.descriptor),
        "Manifests": [manifest(each) for each in manifests],
        "Identity": identity_json(identity) if identity is not None else None,
    }
    if not config.created and at_least(version, "1.44"):
        del document["Created"]
    return INSPECT.fit(document, version)


def manifest(of: ManifestSummary) -> Json:
    """One part of an index."""
    document: Json = {
        "ID": of.descriptor.digest,
        "Descriptor": descriptor(of.descriptor),
        "Available": of.available,
        "Size": {"Content": of.content_bytes, "Total": of.content_bytes + of.unpacked_bytes},
        "Kind": of.kind,
    }
    if of.kind == "image":
        data: Json = {
            "Platform": _platform(of.platform),
            "Size": {"Unpacked": of.unpacked_bytes},
            "Containers": list(of.containers),
        }
        if of.identity is not None:
            data["Identity"] = identity_json(of.identity)
        document["ImageData"] = data
    if of.attests:
        document["AttestationData"] = {"For": of.attests}
    return document


def identity_json(of: Identity) -> Json:
    """Where an image came from."""
    return {"Pull": [{"Repository": repository} for repository in of.pulled_from]}


def attestation(of: Attestation) -> Json:
    """One statement about an image."""
    document: Json = {"Descriptor": descriptor(of.descriptor), "PredicateType": of.predicate_type}
    if of.statement is not None:
        document["Statement"] = msgspec.Raw(of.statement)
    return document


def _platform(platform: Platform | None) -> Json:
    document: Json = {"architecture": platform.architecture if platform else "", "os": platform.os if platform else ""}
    if platform is not None:
        optional = {"os.version": platform.os_version, "os.features": list(platform.os_features), "variant": platform.variant}
        document |= {name: value for name, value in optional.items() if value}
    return document


def history(lines: Sequence[HistoryLine]) -> list[Json]:
    """How an image was made."""
    return [
        {
            "Comment": line.comment,
            "Created": line.created_seconds,
            "CreatedBy": line.created_by,
            "Id": line.id,
            "Size": line.size_bytes,
            "Tags": list(line.tags) or None,
        }
        for line in lines
    ]


def removals(records: Sequence[Removal]) -> list[Json]:
    """What was taken away, in the order it went."""
    return [{"Untagged": record.name} if isinstance(record, Untagged) else {"Deleted": record.id} for record in records]


def gone(record: Removal) -> str:
    """What a prune's progress says went."""
    return record.name if isinstance(record, Untagged) else record.id


def pruned(report: Pruned) -> Json:
    """What a prune removed."""
    return {"ImagesDeleted": removals(report.records) or None, "SpaceReclaimed": report.reclaimed_bytes}


def progress(line: Progress, version: str) -> Json:
    """One line of a progress stream (Docker's `jsonmessage`)."""
    if line.stream:
        return {"stream": line.stream}
    if line.aux is not None:
        return {"aux": line.aux}
    document: Json = {"status": line.status}
    if line.id:
        document["id"] = line.id
    if line.total or line.current:
        document["progressDetail"] = {"current": line.current, **({"total": line.total} if line.total else {})}
        if not at_least(version, "1.52"):
            document["progress"] = bar(line.current, line.total)
    elif line.id and not line.sentence:
        document["progressDetail"] = {}
    return document


def error(message: str) -> Json:
    """The failure that ends a stream whose status is long sent."""
    return {"errorDetail": {"message": message}, "error": message}


def bar(current: int, total: int) -> str:
    """The bar of clients that draw none themselves."""
    if total <= 0:
        return f"{human_bytes(current):>8}"
    filled = min(_BAR_WIDTH, current * _BAR_WIDTH // total)
    spaces = " " * (_BAR_WIDTH - filled)
    return f"[{'=' * filled}>{spaces}] {human_bytes(current):>8}/{human_bytes(total)}"


def human_bytes(size: int) -> str:
    """A size in decimal units with four digits, as Docker's go-units says it: 1.234MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            return f"{value:.4g}{unit}"
        value /= 1000
    return f"{value:.4g}EB"


def descriptor(of: Descriptor) -> Json:
    """A descriptor, with its platform when the standard gives it one."""
    document: Json = msgspec.to_builtins(of)
    return document


def _graph(layers: Sequence[str], driver: str) -> dict[str, str]:
    """Where the storage driver keeps an image."""
    if driver != "overlay2" or not layers:
        return {"dir": layers[0]} if layers else {}
    return {"UpperDir": layers[0], **({"LowerDir": ":".join(layers[1:])} if len(layers) > 1 else {})}


def _execution(config: ExecutionConfig) -> Json:
    """The `Config` object, with the fields of a container's that stood in it before 1.50."""
    return {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "ExposedPorts": config.exposed_ports,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": config.env,
        "Cmd": config.cmd,
        "Healthcheck": config.healthcheck,
        "ArgsEscaped": config.args_escaped,
        "Image": "",
        "Volumes": config.volumes,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": config.on_build,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "Shell": config.shell,
    }

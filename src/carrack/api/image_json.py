"""Images as Docker's documents, in each version's shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from carrack.api.moments import ZERO
from carrack.api.versions import at_least
from carrack.images.image import Image
from carrack.images.images import HistoryLine, Pruned
from carrack.images.progress import Progress
from carrack.images.remove import Removal, Untagged
from carrack.oci.descriptor import Descriptor
from carrack.oci.image_config import ExecutionConfig

Json = dict[str, object]

_UNKNOWN = -1
_BAR_WIDTH = 50


def summary(image: Image, version: str, *, shared_bytes: int = _UNKNOWN, containers: int = _UNKNOWN) -> Json:
    """One line of a list."""
    document: Json = {
        "Containers": containers,
        "Created": int(image.created.timestamp()) if image.created else 0,
        "Id": str(image.id),
        "Labels": image.config.execution.labels,
        "ParentId": str(image.parent or ""),
        "RepoDigests": list(image.repo_digests),
        "RepoTags": list(image.names),
        "SharedSize": shared_bytes,
        "Size": image.size_bytes,
    }
    if not at_least(version, "1.43") and not image.names and not image.repo_digests:
        document |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    if not at_least(version, "1.44"):
        document["VirtualSize"] = image.size_bytes
    if at_least(version, "1.48"):
        document["Descriptor"] = descriptor(image.descriptor)
    return document


def inspect(image: Image, version: str, layers: Sequence[str], driver: str, tagged: datetime | None) -> Json:
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
        "Config": _execution(config.execution, version),
        "Architecture": config.architecture,
        "Os": config.os or "linux",
        "Size": image.size_bytes,
        "GraphDriver": {"Data": _graph(layers, driver), "Name": driver},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids} if config.rootfs.diff_ids else {"Type": "layers"},
        "Metadata": {"LastTagTime": tagged.isoformat().replace("+00:00", "Z") if tagged else ZERO},
    }
    if config.variant:
        document["Variant"] = config.variant
    if config.os_version:
        document["OsVersion"] = config.os_version
    if at_least(version, "1.44"):
        if not config.created:
            del document["Created"]
    else:
        document["VirtualSize"] = image.size_bytes
    if not at_least(version, "1.45"):
        document |= {"Container": "", "ContainerConfig": _execution(ExecutionConfig(), version)}
    if at_least(version, "1.48"):
        document["Descriptor"] = descriptor(image.descriptor)
    if at_least(version, "1.52"):
        for name in ("Parent", "Comment", "DockerVersion", "Author"):
            if not document[name]:
                del document[name]
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


def _execution(config: ExecutionConfig, version: str) -> Json:
    """The `Config` object; its fields that concern containers only are gone from version 1.50 on."""
    document: Json = {
        "User": config.user,
        "Env": config.env,
        "Cmd": config.cmd,
        "Volumes": config.volumes,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": config.on_build,
        "Labels": config.labels,
    }
    optional: Json = {
        "ExposedPorts": config.exposed_ports,
        "Healthcheck": config.healthcheck,
        "ArgsEscaped": config.args_escaped,
        "StopSignal": config.stop_signal,
        "Shell": config.shell,
    }
    document |= {name: value for name, value in optional.items() if value}
    if at_least(version, "1.52"):
        return {name: value for name, value in document.items() if value}
    if not at_least(version, "1.50"):
        document |= _CONTAINER_ONLY
    return document


_CONTAINER_ONLY: Json = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}

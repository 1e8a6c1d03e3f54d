"""The order of keys in which Docker's `stack config` prints a Compose file."""

from __future__ import annotations

from carrack.cli.swarm.stacks.schema import RESOURCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Document = dict[str, Any]

_ORDER: dict[str, tuple[str, ...]] = {
    "service": (
        "build",
        "cap_add",
        "cap_drop",
        "cgroup_parent",
        "cgroupns_mode",
        "command",
        "configs",
        "container_name",
        "credential_spec",
        "depends_on",
        "deploy",
        "devices",
        "dns",
        "dns_search",
        "domainname",
        "entrypoint",
        "environment",
        "env_file",
        "expose",
        "external_links",
        "extra_hosts",
        "hostname",
        "healthcheck",
        "image",
    ),
    "ipam": ("driver", "config"),
    "deploy": (
        "mode",
        "replicas",
        "labels",
        "update_config",
        "rollback_config",
        "resources",
        "restart_policy",
        "placement",
        "endpoint_mode",
    ),
    "update_config": ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"),
    "rollback_config": ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"),
    "resources": ("limits", "reservations"),
    "limits": ("cpus", "memory", "pids"),
    "reservations": ("cpus", "memory", "generic_resources"),
    "restart_policy": ("condition", "delay", "max_attempts", "window"),
    "placement": ("constraints", "preferences", "max_replicas_per_node"),
    "healthcheck": ("test", "timeout", "interval", "retries", "start_period", "start_interval", "disable"),
    "ports": ("mode", "target", "published", "protocol"),
    "volumes": ("type", "source", "target", "read_only", "consistency", "bind", "volume", "image", "tmpfs", "cluster"),
    "secrets": ("source", "target", "uid", "gid", "mode"),
    "configs": ("source", "target", "uid", "gid", "mode"),
    "logging": ("driver", "options"),
    "build": ("context", "dockerfile", "args"),
    "nofile": ("soft", "hard"),
}
_RESOURCE_ORDER = (
    "name",
    "file",
    "driver",
    "driver_opts",
    "ipam",
    "external",
    "internal",
    "attachable",
    "labels",
    "template_driver",
)


def in_order(document: Document) -> Document:
    """The document with its keys in the order in which Docker's command prints them."""
    ordered: Document = {}
    if document.get("version"):
        ordered["version"] = document["version"]
    services = document.get("services") or {}
    ordered["services"] = {name: _ordered(services[name], "service") for name in sorted(services)}
    for kind in RESOURCES:
        entries = document.get(kind)
        if entries:
            ordered[kind] = {name: _by(_RESOURCE_ORDER, entries[name]) for name in sorted(entries)}
    for key in sorted(document):
        if key.startswith("x-"):
            ordered[key] = document[key]
    return ordered


def _by(order: Sequence[str], entry: Document) -> Document:
    known = [key for key in order if key in entry]
    return {key: _ordered(entry[key], key) for key in [*known, *sorted(set(entry) - set(known))]}


def _ordered(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_ordered(item, key) for item in value]
    if not isinstance(value, dict):
        return value
    return _by(_ORDER.get(key, ("soft", "hard") if set(value) == {"soft", "hard"} else ()), value)

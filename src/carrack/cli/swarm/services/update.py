"""`service update`: what its flags change in the spec that a service has. Pure, except for names that the daemon must look up."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.cli.swarm.services.spec import (
    HEALTH_FLAGS,
    RESTART_DEFAULTS,
    RESTART_FLAGS,
    attach_configs,
    attachment,
    changed_update_config,
    changed_values,
    effective_capabilities,
    environment,
    file_references,
    generic_resources,
    host_line,
    privileges,
)
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Document = dict[str, Any]

_PLAIN = {
    "workdir": "Dir",
    "user": "User",
    "hostname": "Hostname",
    "tty": "TTY",
    "read-only": "ReadOnly",
    "stop-signal": "StopSignal",
    "stop-grace-period": "StopGracePeriod",
    "isolation": "Isolation",
    "init": "Init",
    "oom-score-adj": "OomScoreAdj",
    "entrypoint": "Command",
    "args": "Args",
}
_LISTS = {"group": "Groups"}
_DNS = {"dns": "Nameservers", "dns-search": "Search", "dns-option": "Options"}


def update_spec(session: Session, spec: Document, parsed: Parsed) -> None:
    """Changes a ServiceSpec as the flags say. Raises CommandFailure."""
    task = spec.setdefault("TaskTemplate", {})
    container = task.setdefault("ContainerSpec", {})
    _labels(spec, parsed, "label")
    _container(session, container, parsed)
    _resources(task, parsed)
    if any(parsed.changed(flag) for flag in RESTART_FLAGS):
        task["RestartPolicy"] = changed_values(parsed, RESTART_FLAGS, task.get("RestartPolicy") or RESTART_DEFAULTS)
    _placement(task, parsed)
    _networks(session, task, parsed)
    if parsed.changed("log-driver"):
        options = {key: value for key, _, value in [text.partition("=") for text in parsed.items("log-opt")]}
        if parsed.text("log-driver"):
            task["LogDriver"] = {"Name": parsed.text("log-driver"), **({"Options": options} if options else {})}
        else:
            task.pop("LogDriver", None)
    if parsed.flag("force"):
        task["ForceUpdate"] = int(task.get("ForceUpdate") or 0) + 1
    _replicas(spec, parsed)
    for prefix, field in (("update", "UpdateConfig"), ("rollback", "RollbackConfig")):
        config = changed_update_config(parsed, prefix, spec.get(field))
        if config is not None:
            spec[field] = config
    _endpoint(spec, parsed)


def _set(document: Document, field: str, value: Any) -> None:
    """Sets a field, or takes it away when the value says nothing."""
    if value in ("", 0, None, False, [], {}) and field != "Init":
        document.pop(field, None)
    else:
        document[field] = value


def _labels(document: Document, parsed: Parsed, flag: str) -> None:
    labels = dict(document.get("Labels") or {})
    for key in parsed.items(f"{flag}-rm"):
        labels.pop(key, None)
    labels.update({key: value for key, _, value in [text.partition("=") for text in parsed.items(f"{flag}-add")]})
    if labels or "Labels" in document:
        document["Labels"] = labels


def _merge(current: Iterable[Any], remove: Iterable[Any], add: Iterable[Any], key: Callable[[Any], Hashable]) -> list[Any]:
    """A list without what is removed and with what is added, which takes the place of what has the same key."""
    added = list(add)
    gone = {*remove, *(key(entry) for entry in added)}
    return [entry for entry in current if key(entry) not in gone] + added


def _merge_texts(document: Document, field: str, parsed: Parsed, flag: str) -> None:
    if parsed.changed(f"{flag}-add") or parsed.changed(f"{flag}-rm"):
        texts = _merge(document.get(field) or (), parsed.items(f"{flag}-rm"), parsed.items(f"{flag}-add"), str)
        _set(document, field, sorted(set(texts)))


def _container(session: Session, container: Document, parsed: Parsed) -> None:
    for flag, field in _PLAIN.items():
        if parsed.changed(flag):
            _set(container, field, parsed.value(flag))
    if parsed.changed("image"):
        from carrack.cli.swarm.services.spec import image_reference

        container["Image"] = image_reference(parsed.text("image"))
    if parsed.changed("container-label-add") or parsed.changed("container-label-rm"):
        _labels(container, parsed, "container-label")
    if parsed.changed("env-add") or parsed.changed("env-rm"):
        name = _before("=")
        _set(container, "Env", _merge(container.get("Env") or (), parsed.items("env-rm"), environment(parsed, "env-add"), name))
    for flag, field in _LISTS.items():
        _merge_texts(container, field, parsed, flag)
    for flag, field in _DNS.items():
        _merge_texts(container.setdefault("DNSConfig", {}), field, parsed, flag)
    _capabilities(container, parsed)
    _mounts(container, parsed)
    _files(session, container, parsed)
    _health(container, parsed)
    _hosts(container, parsed)
    if parsed.changed("sysctl-add") or parsed.changed("sysctl-rm"):
        pairs = dict(container.get("Sysctls") or {})
        for key in parsed.items("sysctl-rm"):
            pairs.pop(key.partition("=")[0], None)
        pairs.update({setting: value for setting, _, value in [text.partition("=") for text in parsed.items("sysctl-add")]})
        _set(container, "Sysctls", pairs)
    if parsed.changed("ulimit-add") or parsed.changed("ulimit-rm"):
        limits = _merge(container.get("Ulimits") or (), parsed.items("ulimit-rm"), parsed.value("ulimit-add"), _field("Name"))
        _set(container, "Ulimits", sorted(limits, key=lambda limit: str(limit["Name"])))


def _before(separator: str) -> Callable[[str], str]:
    return lambda text: text.partition(separator)[0]


def _field(name: str) -> Callable[[Document], Hashable]:
    return lambda document: str(document.get(name))


def _capabilities(container: Document, parsed: Parsed) -> None:
    """--cap-add and --cap-drop move capabilities between the two lists; one that comes back to where it began is in neither."""
    if not parsed.changed("cap-add") and not parsed.changed("cap-drop"):
        return
    added, dropped = set(container.get("CapabilityAdd") or ()), set(container.get("CapabilityDrop") or ())
    add, drop = effective_capabilities(parsed.items("cap-add"), parsed.items("cap-drop"))
    for name in drop:
        if name in added:
            added.discard(name)
        else:
            dropped.add(name)
    for name in add:
        if name in dropped and name not in drop:
            dropped.discard(name)
        else:
            added.add(name)
    final_added, final_dropped = effective_capabilities(sorted(added), sorted(dropped))
    _set(container, "CapabilityAdd", final_added)
    _set(container, "CapabilityDrop", final_dropped)


def _mounts(container: Document, parsed: Parsed) -> None:
    if not parsed.changed("mount-add") and not parsed.changed("mount-rm"):
        return
    added = parsed.value("mount-add")
    targets = [mount["Target"] for mount in added]
    for target in targets:
        if targets.count(target) > 1:
            raise CommandFailure("duplicate mount target")
    mounts = _merge(container.get("Mounts") or (), parsed.items("mount-rm"), added, _field("Target"))
    _set(container, "Mounts", sorted(mounts, key=lambda mount: (str(mount.get("Source") or ""), str(mount["Target"]))))


def _files(session: Session, container: Document, parsed: Parsed) -> None:
    for kind, field in (("secret", "Secrets"), ("config", "Configs")):
        removed = parsed.items(f"{kind}-rm")
        name = f"{kind.capitalize()}Name"
        kept = [entry for entry in container.get(field) or () if entry.get(name) not in removed]
        if kind == "secret":
            kept += file_references(session, kind, parsed.value(f"{kind}-add"))
        _set(container, field, kept)
    if parsed.changed("credential-spec"):
        container["Privileges"] = privileges(parsed)
        if not any(container["Privileges"]["CredentialSpec"].values()):
            del container["Privileges"]
        container["Configs"] = [entry for entry in container.get("Configs") or () if "Runtime" not in entry]
    wanted = parsed.value("config-add")
    if wanted or parsed.changed("credential-spec"):
        attach_configs(session, container, wanted)
    _set(container, "Configs", container.get("Configs"))


def _health(container: Document, parsed: Parsed) -> None:
    given = [flag for flag in ("health-cmd", *HEALTH_FLAGS) if parsed.changed(flag)]
    if not given and not parsed.changed("no-healthcheck"):
        return
    if parsed.flag("no-healthcheck"):
        if given:
            raise CommandFailure("--no-healthcheck conflicts with --health-* options")
        container["Healthcheck"] = {"Test": ["NONE"]}
        return
    health = dict(container.get("Healthcheck") or {})
    if health.get("Test") == ["NONE"]:
        health.pop("Test")
    if parsed.changed("health-cmd"):
        _set(health, "Test", ["CMD-SHELL", parsed.text("health-cmd")] if parsed.text("health-cmd") else [])
    for flag, field in HEALTH_FLAGS.items():
        if parsed.changed(flag):
            _set(health, field, parsed.number(flag))
    container["Healthcheck"] = health


def _hosts(container: Document, parsed: Parsed) -> None:
    """Lines of a hosts file may name several hosts for an address; the ones removed go, the rest of the line stays."""
    if not parsed.changed("host-add") and not parsed.changed("host-rm"):
        return
    lines: list[str] = list(container.get("Hosts") or ())
    for text in parsed.items("host-rm"):
        host, _, address = text.partition(":")
        kept = []
        for line in lines:
            place, *names = line.split()
            if not address or place == address:
                names = [name for name in names if name != host]
            if names:
                kept.append(" ".join([place, *names]))
        lines = kept
    for text in parsed.items("host-add"):
        line = host_line(text)
        if line not in lines:
            lines.append(line)
    _set(container, "Hosts", lines)


def _resources(task: Document, parsed: Parsed) -> None:
    places = {
        "limit-cpu": ("Limits", "NanoCPUs"),
        "limit-memory": ("Limits", "MemoryBytes"),
        "limit-pids": ("Limits", "Pids"),
        "reserve-cpu": ("Reservations", "NanoCPUs"),
        "reserve-memory": ("Reservations", "MemoryBytes"),
    }
    for flag, (part, field) in places.items():
        if parsed.changed(flag):
            _set(task.setdefault("Resources", {}).setdefault(part, {}), field, parsed.number(flag))
    if parsed.changed("generic-resource-add") or parsed.changed("generic-resource-rm"):
        reservations = task.setdefault("Resources", {}).setdefault("Reservations", {})

        def kind(resource: Document) -> str:
            return str((resource.get("DiscreteResourceSpec") or resource.get("NamedResourceSpec") or {}).get("Kind"))

        added = generic_resources(parsed.items("generic-resource-add"))
        removed = [text.partition("=")[0] for text in parsed.items("generic-resource-rm")]
        _set(reservations, "GenericResources", _merge(reservations.get("GenericResources") or (), removed, added, kind))


def _placement(task: Document, parsed: Parsed) -> None:
    placement = task.get("Placement") or {}
    if parsed.changed("constraint-add") or parsed.changed("constraint-rm"):
        _merge_texts(placement, "Constraints", parsed, "constraint")
    if parsed.changed("placement-pref-add") or parsed.changed("placement-pref-rm"):
        gone = parsed.items("placement-pref-rm")
        kept = [
            entry for entry in placement.get("Preferences") or () if (entry.get("Spread") or {}).get("SpreadDescriptor") not in gone
        ]
        kept += [{"Spread": {"SpreadDescriptor": text}} for text in parsed.items("placement-pref-add")]
        _set(placement, "Preferences", kept)
    if parsed.changed("replicas-max-per-node"):
        _set(placement, "MaxReplicas", parsed.number("replicas-max-per-node"))
    if placement or "Placement" in task:
        task["Placement"] = placement


def _networks(session: Session, task: Document, parsed: Parsed) -> None:
    if not parsed.changed("network-add") and not parsed.changed("network-rm"):
        return
    gone = {
        session.engine.json("GET", f"/networks/{percent_encode(name)}", {"scope": "swarm"})["Id"]
        for name in parsed.items("network-rm")
    }
    kept = [entry for entry in task.get("Networks") or () if entry.get("Target") not in gone]
    known = {entry["Target"] for entry in kept}
    for choice in parsed.value("network-add"):
        entry = attachment(session, choice)
        if entry["Target"] in known:
            raise CommandFailure(f"service is already attached to network {choice.target}")
        known.add(entry["Target"])
        kept.append(entry)
    _set(task, "Networks", sorted(kept, key=lambda entry: str(entry["Target"])))


def _replicas(spec: Document, parsed: Parsed) -> None:
    mode = spec.get("Mode") or {}
    if parsed.changed("replicas"):
        if mode.get("Replicated") is not None:
            mode["Replicated"]["Replicas"] = parsed.number("replicas")
        elif mode.get("ReplicatedJob") is not None:
            mode["ReplicatedJob"]["TotalCompletions"] = parsed.number("replicas")
        else:
            raise CommandFailure("replicas can only be used with replicated mode")
    if parsed.changed("max-concurrent") and mode.get("ReplicatedJob") is not None:
        mode["ReplicatedJob"]["MaxConcurrent"] = parsed.number("max-concurrent")


def _endpoint(spec: Document, parsed: Parsed) -> None:
    endpoint = spec.get("EndpointSpec") or {}
    if parsed.changed("endpoint-mode"):
        endpoint["Mode"] = parsed.text("endpoint-mode").lower()
    if parsed.changed("publish-add") or parsed.changed("publish-rm"):
        removed = [config for configs in parsed.value("publish-rm") for config in configs]
        added = [config for configs in parsed.value("publish-add") for config in configs]

        def matches(port: Document, gone: Document) -> bool:
            same = port.get("TargetPort") == gone["TargetPort"] and port.get("Protocol") == gone["Protocol"]
            wanted = gone.get("PublishedPort")
            return same and (not wanted or wanted == port.get("PublishedPort"))

        def key(port: Document) -> Hashable:
            return tuple([port.get(name) for name in ("PublishedPort", "TargetPort", "Protocol", "PublishMode")])

        kept = [port for port in endpoint.get("Ports") or () if not any(matches(port, gone) for gone in removed)]
        ports = _merge(kept, (), added, key)
        _set(endpoint, "Ports", sorted(ports, key=lambda port: int(port.get("PublishedPort") or 0)))
    if endpoint or "EndpointSpec" in spec:
        spec["EndpointSpec"] = endpoint

"""Reading Compose files for a stack: variables filled in, several files made one, short forms written out.

What comes out is the file as `stack config` prints it: plain dicts and lists in the long form, ready to become a swarm's specs.
"""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file, read_key_values
from carrack.cli.swarm.stacks.schema import check
from carrack.cli.swarm.stacks.yaml_text import read_yaml
from carrack.cli.values import go_quote, read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from carrack.cli.session import Session

    Document = dict[str, Any]

KINDS = ("services", "networks", "volumes", "secrets", "configs")
FORBIDDEN = ("extends", "volume_driver", "volumes_from", "cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit")
_NEWEST_MINOR = 13
NEWEST = f"3.{_NEWEST_MINOR}"
_WHOLE = frozenset(
    ("replicas", "parallelism", "max_attempts", "max_replicas_per_node", "retries", "published", "target", "pids", "size")
)
_TRUTHS = frozenset(
    ("tty", "stdin_open", "read_only", "privileged", "init", "external", "internal", "attachable", "nocopy", "disable")
)


def load_files(session: Session, paths: Sequence[str], *, interpolate: bool = True) -> Document:
    """The files as one document. Raises CommandFailure with Docker's text."""
    if not paths:
        raise CommandFailure("Specify a Compose file (with --compose-file)")
    folder = os.getcwd() if paths[0] == "-" else os.path.dirname(os.path.abspath(paths[0]))
    merged: Document = {}
    for number, path in enumerate(paths):
        document = _load_one(session, path, interpolate=interpolate)
        _write_out(document, folder)
        if number == 0:
            merged = document
        else:
            _merge_files(merged, document)
    merged["version"] = NEWEST if merged.get("version") in (None, "3") else merged["version"]
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
        if isinstance(service, dict) and any(key in service for key in FORBIDDEN):
            raise CommandFailure("Configuration contains forbidden properties")
    if interpolate:
        for kind in KINDS:
            if isinstance(document.get(kind), dict):
                document[kind] = {name: _fill(entry, f"{kind}.{name}", name) for name, entry in document[kind].items()}
    check(document)
    return document


# -- variables


def _fill(value: Any, path: str, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _fill(inner, f"{path}.{name}", str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, f"{path}.[]", "") for inner in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    try:
        filled = substitute(value, os.environ)
    except ValueError as error:
        raise CommandFailure(
            f'invalid interpolation format for {path}: "{error}"; you may need to escape any $ with another $'
        ) from None
    return _cast(filled, key, path)


def _cast(text: str, key: str, path: str) -> Any:
    """A variable's text as the type its place has."""
    if key in _TRUTHS and text.lower() in ("true", "y", "yes", "on", "false", "n", "no", "off"):
        return text.lower() in ("true", "y", "yes", "on")
    if key in _WHOLE:
        if not text.lstrip("-").isdigit():
            raise CommandFailure(
                f"error while interpolating {path}: failed to cast to expected type: "
                f"strconv.Atoi: parsing {go_quote(text)}: invalid syntax"
            )
        return int(text)
    if key == "max_failure_ratio":
        try:
            return float(text)
        except ValueError:
            return text
    return text


def substitute(template: str, variables: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, with `:-`, `-`, `:?` and `?` as a shell has them; `$$` is a dollar. Raises ValueError."""
    pieces: list[str] = []
    position = 0
    while (start := template.find("$", position)) != -1:
        pieces.append(template[position:start])
        following = template[start + 1 : start + 2]
        if following == "$":
            pieces.append("$")
            position = start + 2
        elif following == "{":
            end = template.find("}", start)
            if end == -1:
                raise ValueError(template)
            pieces.append(_braced(template[start + 2 : end], template, variables))
            position = end + 1
        else:
            end = start + 1
            while end < len(template) and (template[end].isascii() and (template[end].isalnum() or template[end] == "_")):
                end += 1
            name = template[start + 1 : end]
            if not name or name[0].isdigit():
                raise ValueError(template)
            pieces.append(variables.get(name, ""))
            position = end
    return "".join(pieces) + template[position:]


def _braced(text: str, template: str, variables: Mapping[str, str]) -> str:
    name = text
    operator = rest = ""
    for index, letter in enumerate(text):
        if letter in ":-?":
            name = text[:index]
            operator = text[index : index + 2] if letter == ":" else letter
            rest = text[index + len(operator) :]
            break
    valid = (
        bool(name) and not name[0].isdigit() and all(letter.isascii() and (letter.isalnum() or letter == "_") for letter in name)
    )
    if not valid or (operator and operator not in (":-", "-", ":?", "?")):
        raise ValueError(template)
    value = variables.get(name)
    missing = value is None or (operator.startswith(":") and value == "")
    if missing and operator.endswith("?"):
        raise ValueError(
            f"required variable {name} is missing a value: {rest}" if rest else f"required variable {name} is missing a value"
        )
    return rest if missing and operator.endswith("-") else value or ""


# -- the long form


def _write_out(document: Document, folder: str) -> None:
    for name, service in (document.get("services") or {}).items():
        document["services"][name] = _service(service, folder)
    for kind in KINDS[1:]:
        entries = document.get(kind) or {}
        for name, entry in entries.items():
            entries[name] = _resource(kind, name, entry or {}, folder)
        if kind in document:
            document[kind] = entries


def _resource(kind: str, name: str, entry: Document, folder: str) -> Document:
    word = kind.removesuffix("s")
    if isinstance(entry.get("external"), dict):
        given = entry["external"].get("name") or name
        if entry.get("name"):
            raise CommandFailure(f"{word} {name}: {word}.external.name and {word}.name conflict; only use {word}.name")
        entry = {**entry, "name": given, "external": True}
    if entry.get("external"):
        entry = {**entry, "name": entry.get("name") or name}
        for field in ("driver", "driver_opts", "labels") if kind == "volumes" else ():
            if entry.get(field):
                raise CommandFailure(f'conflicting parameters "external" and "{field}" specified for volume "{name}"')
    elif "external" in entry:
        entry = {key: value for key, value in entry.items() if key != "external"}
    if entry.get("file"):
        entry = {**entry, "file": _absolute(entry["file"], folder)}
    for field in ("labels", "driver_opts"):
        if field in entry:
            entry = {**entry, field: pairs(entry[field])}
    return entry


def _absolute(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def pairs(value: Any, *, keep_none: bool = False) -> dict[str, Any]:
    """A mapping or a list of `key=value` as a mapping of texts; a key alone has no value."""
    if isinstance(value, dict):
        return {str(key): _text(inner) if inner is not None or not keep_none else None for key, inner in value.items()}
    found: dict[str, Any] = {}
    for item in value or ():
        key, equals, text = str(item).partition("=")
        found[key] = text if equals or not keep_none else None
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(value: Any) -> list[str]:
    from shlex import split

    return split(value) if isinstance(value, str) else list(value)


def _service(service: Document, folder: str) -> Document:
    service = dict(service)
    environment: dict[str, Any] = {}
    files = [service["env_file"]] if isinstance(service.get("env_file"), str) else list(service.get("env_file") or ())
    for path in files:
        try:
            lines = read_key_values(_absolute(path, folder), os.environ.get)
        except ValueError as error:
            raise CommandFailure(str(error)) from None
        environment.update({key: text for key, _, text in [line.partition("=") for line in lines]})
    if files:
        service["env_file"] = files
    for name, value in pairs(service.get("environment"), keep_none=True).items():
        environment[name] = os.environ.get(name) if value is None else value
    if environment:
        service["environment"] = environment
    for field, read in _SERVICE_READERS.items():
        if service.get(field) is not None:
            service[field] = read(service[field])
    service = {key: value for key, value in service.items() if value not in (None, [])}
    if isinstance(service.get("build"), str):
        service["build"] = {"context": service["build"]}
    if service.get("volumes"):
        service["volumes"] = [_volume(volume, folder) for volume in service["volumes"]]
    if service.get("deploy"):
        service["deploy"] = _deploy(service["deploy"])
    if service.get("healthcheck"):
        service["healthcheck"] = _healthcheck(service["healthcheck"])
    if service.get("logging"):
        service["logging"] = {**service["logging"]}
        if "options" in service["logging"]:
            service["logging"]["options"] = pairs(service["logging"]["options"])
    return service


def _hosts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return sorted([f"{name}:{address}" for name, address in value.items()])
    return list(value)


def _networks(value: Any) -> Document:
    return dict.fromkeys(value) if isinstance(value, list) else value


def _references(value: list[Any]) -> list[Document]:
    return [{"source": item} if isinstance(item, str) else item for item in value]


def _ulimits(value: Document) -> Document:
    return dict(value)


def _ports(value: list[Any]) -> list[Document]:
    from carrack.cli.swarm.services.flags import read_port

    ports: list[Document] = []
    for item in value:
        if isinstance(item, dict):
            ports.append(item)
            continue
        text = _without_address(str(item))
        try:
            configs = read_port(text)
        except ValueError as error:
            raise CommandFailure(str(error)) from None
        for config in configs:
            port = {"mode": config["PublishMode"], "target": config["TargetPort"]}
            if config.get("PublishedPort"):
                port["published"] = config["PublishedPort"]
            ports.append({**port, "protocol": config["Protocol"]})
    return ports


def _without_address(text: str) -> str:
    """A port without the host address it names: a swarm's ports are open on every address of a node."""
    _, colon, rest = text.partition(":") if text.count(":") == 2 else ("", "", text)
    if colon:
        import sys
        import time

        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        protocol = "" if "/" in rest else "/tcp"
        note = f"ignoring IP-address ({text}{protocol}) service will listen on '0.0.0.0'"
        sys.stderr.write(f'time="{moment}" level=warning msg="{note}"\n')
    return rest


def _one_or_many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _duration(text: str) -> str:
    from carrack.cli.swarm.services.page import go_duration
    from carrack.cli.values import read_duration

    return go_duration(read_duration(text))


_SERVICE_READERS: dict[str, Callable[[Any], Any]] = {
    "command": _words,
    "configs": _references,
    "dns": _one_or_many,
    "dns_search": _one_or_many,
    "entrypoint": _words,
    "expose": lambda value: [str(item) for item in value],
    "extra_hosts": _hosts,
    "labels": pairs,
    "networks": _networks,
    "ports": _ports,
    "secrets": _references,
    "shm_size": str,
    "stop_grace_period": _duration,
    "sysctls": pairs,
    "tmpfs": _one_or_many,
    "ulimits": _ulimits,
}


def _volume(volume: Any, folder: str) -> Document:
    if isinstance(volume, dict):
        found = dict(volume)
        if found.get("type") == "bind" and not found.get("source"):
            raise CommandFailure('invalid mount config for type "bind": field Source must not be empty')
    else:
        found = _short_volume(str(volume))
    if found.get("type") == "bind" and str(found["source"]).startswith((".", "~")):
        found["source"] = _absolute(found["source"], folder)
    return found


def _short_volume(text: str) -> Document:
    """`[source:]target[:options]`."""
    if not text:
        raise CommandFailure("invalid empty volume spec")
    parts = text.split(":")
    if len(parts) == 1 or not parts[0]:
        return {"type": "volume", "target": text}
    source, target, *rest = parts
    found: Document = {"type": "bind" if source.startswith((".", "/", "~")) else "volume", "source": source, "target": target}
    for option in ",".join(rest).split(",") if rest else ():
        if option == "ro":
            found["read_only"] = True
        elif option == "nocopy":
            found["volume"] = {"nocopy": True}
        elif option in ("rprivate", "private", "rshared", "shared", "rslave", "slave"):
            found["bind"] = {"propagation": option}
    return found


def _deploy(deploy: Document) -> Document:
    deploy = dict(deploy)
    if "labels" in deploy:
        deploy["labels"] = pairs(deploy["labels"])
    for field in ("update_config", "rollback_config", "restart_policy"):
        if deploy.get(field):
            deploy[field] = {
                key: _duration(value) if key in ("delay", "monitor", "window") else value for key, value in deploy[field].items()
            }
    resources = deploy.get("resources")
    if resources:
        deploy["resources"] = {
            part: {key: str(read_bytes(value)) if key == "memory" else value for key, value in limits.items()}
            for part, limits in resources.items()
        }
    return deploy


def _healthcheck(health: Document) -> Document:
    found = dict(health)
    if "test" in found:
        found["test"] = ["CMD-SHELL", found["test"]] if isinstance(found["test"], str) else list(found["test"])
    for field in ("interval", "timeout", "start_period", "start_interval"):
        if field in found:
            found[field] = _duration(found[field])
    return found


# -- several files


_KEYS: dict[str, Callable[[Document], Any]] = {
    "ports": lambda port: (port.get("target"), port.get("published"), port.get("protocol"), port.get("mode")),
    "volumes": lambda volume: volume.get("target"),
    "secrets": lambda reference: reference.get("source"),
    "configs": lambda reference: reference.get("source"),
}
_SORTED_BY: dict[str, Callable[[Document], Any]] = {
    **_KEYS,
    "ports": lambda port: (port.get("published") or 0, port.get("target") or 0),
}
_REPLACED = ("command", "entrypoint")


def _merge_files(base: Document, other: Document) -> None:
    for kind, entries in other.items():
        if kind == "services":
            services = base.setdefault("services", {})
            for name, service in entries.items():
                services[name] = _merge_service(services[name], service) if name in services else service
        elif kind in KINDS:
            base[kind] = {**(base.get(kind) or {}), **entries}


def _merge_service(base: Document, other: Document) -> Document:
    merged = {field: sorted(value, key=_SORTED_BY[field]) if field in _SORTED_BY else value for field, value in base.items()}
    for field, value in other.items():
        before = merged.get(field)
        if field in _KEYS and before:
            key = _KEYS[field]
            replaced = {key(item) for item in value}
            kept = [item for item in before if key(item) not in replaced]
            merged[field] = sorted(kept + value, key=_SORTED_BY[field])
        elif isinstance(before, list) and isinstance(value, list) and field not in _REPLACED:
            merged[field] = before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            merged[field] = _merge_tables(before, value)
        else:
            merged[field] = value
    return merged


def _merge_tables(base: Document, other: Document) -> Document:
    merged = dict(base)
    for key, value in other.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merge_tables(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = before + value
        else:
            merged[key] = value
    return merged


def _without_nothing(document: Document) -> Document:
    """The document without what was written but says nothing."""
    return {key: value for key, value in document.items() if value not in (None, {})}


# -- what `stack config` prints

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
    for kind in KINDS[1:]:
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

"""Short forms of a Compose file written out: every port, volume, reference and resource as the table it stands for."""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure
from carrack.cli.files import read_key_values
from carrack.cli.swarm.stacks.schema import RESOURCES
from carrack.cli.values import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Document = dict[str, Any]


def write_out(document: Document, folder: str) -> None:
    """Write out what the document says in short; relative paths are `folder`'s. Raises CommandFailure."""
    for name, service in (document.get("services") or {}).items():
        document["services"][name] = _service(service, folder)
    for kind in RESOURCES:
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
            entry = {**entry, field: _pairs(entry[field])}
    return entry


def _absolute(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def _pairs(value: Any, *, keep_none: bool = False) -> dict[str, Any]:
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
    for name, value in _pairs(service.get("environment"), keep_none=True).items():
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
            service["logging"]["options"] = _pairs(service["logging"]["options"])
    return service


def _hosts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return sorted([f"{name}:{address}" for name, address in value.items()])
    return list(value)


def _networks(value: Any) -> Document:
    return dict.fromkeys(value) if isinstance(value, list) else value


def _references(value: list[Any]) -> list[Document]:
    return [{"source": item} if isinstance(item, str) else item for item in value]


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
    "labels": _pairs,
    "networks": _networks,
    "ports": _ports,
    "secrets": _references,
    "shm_size": str,
    "stop_grace_period": _duration,
    "sysctls": _pairs,
    "tmpfs": _one_or_many,
    "ulimits": dict,
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
        deploy["labels"] = _pairs(deploy["labels"])
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

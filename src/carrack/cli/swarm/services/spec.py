"""`service create`'s flags as the API's ServiceSpec, and what flags name (networks, secrets, configs, images) looked up for it."""

from __future__ import annotations

import os

from carrack.cli.containers.options import check_environment
from carrack.cli.failure import CommandFailure
from carrack.cli.files import read_key_values
from carrack.cli.filters import filters_query
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from carrack.cli.containers.mounts import NetworkChoice
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Document = dict[str, Any]

RESTART_DEFAULTS: Document = {"Condition": "any", "Delay": 5 * 10**9, "MaxAttempts": 0}
UPDATE_DEFAULTS: Document = {
    "Parallelism": 1,
    "Delay": 0,
    "FailureAction": "pause",
    "Monitor": 5 * 10**9,
    "MaxFailureRatio": 0.0,
    "Order": "stop-first",
}
RESTART_FLAGS = {
    "restart-condition": "Condition",
    "restart-delay": "Delay",
    "restart-max-attempts": "MaxAttempts",
    "restart-window": "Window",
}
UPDATE_FLAGS = {
    "parallelism": "Parallelism",
    "delay": "Delay",
    "failure-action": "FailureAction",
    "monitor": "Monitor",
    "max-failure-ratio": "MaxFailureRatio",
    "order": "Order",
}
HEALTH_FLAGS = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
    "health-retries": "Retries",
}


def image_reference(text: str) -> str:
    """An image name with its default tag; a text that is no name is left to the daemon's judgement."""
    from carrack.cli.images.names import parse_any

    try:
        name = parse_any(text)
    except ValueError:
        return text
    return text if name is None else name.with_default_tag().familiar


def build_spec(session: Session, parsed: Parsed) -> Document:
    """The whole ServiceSpec. Raises CommandFailure, ValueError with Docker's text."""
    container = _container(parsed)
    task: Document = {"ContainerSpec": container, "Resources": _resources(parsed)}
    if any(parsed.changed(flag) for flag in RESTART_FLAGS):
        task["RestartPolicy"] = changed_values(parsed, RESTART_FLAGS, RESTART_DEFAULTS)
    task["Placement"] = _placement(parsed)
    networks = [attachment(session, choice) for choice in parsed.value("network")]
    if networks:
        task["Networks"] = sorted(networks, key=lambda network: network["Target"])
    if parsed.text("log-driver"):
        task["LogDriver"] = {"Name": parsed.text("log-driver"), **_some(Options=_pairs(parsed.items("log-opt")))}
    task["ForceUpdate"] = 0
    mode, is_job = _mode(parsed)
    spec: Document = {
        **_some(Name=parsed.text("name")),
        "Labels": _pairs(parsed.items("label")),
        "TaskTemplate": task,
        "Mode": mode,
    }
    for prefix, field in (("update", "UpdateConfig"), ("rollback", "RollbackConfig")):
        config = changed_update_config(parsed, prefix, None)
        if config is not None:
            if is_job:
                raise CommandFailure("update and rollback configuration is not supported for jobs")
            spec[field] = config
    ports = [config for configs in parsed.value("publish") for config in configs]
    spec["EndpointSpec"] = {"Mode": parsed.text("endpoint-mode").lower(), **_some(Ports=ports)}
    container.update(_some(Secrets=file_references(session, "secret", parsed.value("secret"))))
    attach_configs(session, container, parsed.value("config"))
    return spec


def _some(**values: Any) -> Document:
    """The values that are not empty."""
    return {name: value for name, value in values.items() if value not in ("", 0, None, False, [], {})}


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    return {key: value for key, _, value in [text.partition("=") for text in texts]}


def _container(parsed: Parsed) -> Document:
    image, *arguments = parsed.arguments
    if parsed.number("stop-grace-period") < 0:
        raise CommandFailure("--stop-grace-period cannot be negative")
    spec: Document = {"Image": image_reference(image)}
    spec.update(
        _some(
            Labels=_pairs(parsed.items("container-label")),
            Command=parsed.value("entrypoint"),
            Args=arguments,
            Hostname=parsed.text("hostname"),
            Env=environment(parsed, "env"),
            Dir=parsed.text("workdir"),
            User=parsed.text("user"),
            Groups=parsed.items("group"),
        )
    )
    if parsed.changed("credential-spec"):
        spec["Privileges"] = privileges(parsed)
    spec["Init"] = parsed.flag("init")
    added, dropped = effective_capabilities(parsed.items("cap-add"), parsed.items("cap-drop"))
    spec.update(
        _some(
            StopSignal=parsed.text("stop-signal"),
            TTY=parsed.flag("tty"),
            ReadOnly=parsed.flag("read-only"),
            Mounts=parsed.value("mount"),
            StopGracePeriod=parsed.number("stop-grace-period") if parsed.changed("stop-grace-period") else 0,
            Healthcheck=healthcheck(parsed),
            Hosts=[host_line(text) for text in parsed.items("host")],
            Isolation=parsed.text("isolation"),
            Sysctls=_pairs(parsed.items("sysctl")),
            CapabilityAdd=added,
            CapabilityDrop=dropped,
            Ulimits=sorted(parsed.value("ulimit"), key=lambda limit: str(limit["Name"])),
            OomScoreAdj=parsed.number("oom-score-adj"),
        )
    )
    spec["DNSConfig"] = _some(
        Nameservers=parsed.items("dns"), Search=parsed.items("dns-search"), Options=parsed.items("dns-option")
    )
    return spec


def environment(parsed: Parsed, flag: str) -> list[str]:
    """The variables of files and flags, the last of a name winning; names of which we know no value are left out of files only."""
    variables: dict[str, str] = {}
    texts: list[str] = []
    for path in parsed.items("env-file") if flag == "env" else ():
        try:
            texts.extend(read_key_values(path, os.environ.get))
        except ValueError as error:
            raise CommandFailure(str(error)) from None
    for text in [*texts, *parsed.items(flag)]:
        variables[text.partition("=")[0]] = check_environment(text)
    return list(variables.values())


def host_line(text: str) -> str:
    """`name:address` as a line of a hosts file: address first."""
    name, _, address = text.partition(":")
    return f"{address} {name}"


def healthcheck(parsed: Parsed) -> Document | None:
    """The health check that flags describe; None when they say nothing. Raises CommandFailure."""
    wanted = [flag for flag in ("health-cmd", *HEALTH_FLAGS) if parsed.changed(flag)]
    if parsed.flag("no-healthcheck"):
        if wanted:
            raise CommandFailure("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not wanted:
        return None
    health: Document = {"Test": ["CMD-SHELL", parsed.text("health-cmd")]} if parsed.text("health-cmd") else {}
    for flag, field in HEALTH_FLAGS.items():
        if parsed.number(flag) < 0:
            raise CommandFailure(f"--{flag} cannot be negative")
        health.update(_some(**{field: parsed.number(flag)}))
    return health


def effective_capabilities(add: list[str], drop: list[str]) -> tuple[list[str], list[str]]:
    """Capabilities added and dropped, in the standard's spelling and in order; what is in both lists is added."""
    from carrack.cli.containers.spec import normal_capabilities

    added, dropped = set(normal_capabilities(add) or ()), set(normal_capabilities(drop) or ())
    if "ALL" in dropped:
        dropped = {"ALL"}
    if "ALL" in added:
        added = {"ALL"}
    dropped -= added
    return sorted(added), sorted(dropped)


def privileges(parsed: Parsed) -> Document:
    """The API's Privileges of --credential-spec."""
    return {"CredentialSpec": parsed.value("credential-spec"), "SELinuxContext": None, "NoNewPrivileges": False}


def _resources(parsed: Parsed) -> Document:
    limits = _some(NanoCPUs=parsed.number("limit-cpu"), MemoryBytes=parsed.number("limit-memory"), Pids=parsed.number("limit-pids"))
    reservations = _some(
        NanoCPUs=parsed.number("reserve-cpu"),
        MemoryBytes=parsed.number("reserve-memory"),
        GenericResources=generic_resources(parsed.items("generic-resource")),
    )
    return {"Limits": limits, "Reservations": reservations}


def generic_resources(texts: list[str]) -> list[Document]:
    """`gpu=2` as the API's GenericResources. Raises CommandFailure."""
    found: list[Document] = []
    for text in texts:
        name, _, value = text.partition("=")
        if "," in value or "=" in value:
            raise CommandFailure(
                "invalid generic resource specification: could not parse GenericResource: "
                f"incorrect term {text}, missing '=' or malformed expression"
            )
        if not value.isdigit():
            raise CommandFailure(
                f"invalid generic-resource request `{text}`, Named Generic Resources is not supported for service create or update"
            )
        found.append({"DiscreteResourceSpec": {"Kind": name, "Value": int(value)}})
    return found


def _placement(parsed: Parsed) -> Document:
    preferences = [{"Spread": {"SpreadDescriptor": text}} for text in parsed.value("placement-pref")]
    return _some(
        Constraints=parsed.items("constraint"), Preferences=preferences, MaxReplicas=parsed.number("replicas-max-per-node")
    )


def _mode(parsed: Parsed) -> tuple[Document, bool]:
    """(the API's ServiceMode, whether it is a job). Raises CommandFailure."""
    mode, replicas = parsed.text("mode"), parsed.changed("replicas")
    if mode not in ("replicated", "global", "replicated-job", "global-job"):
        raise CommandFailure(f"Unknown mode: {mode}, only replicated and global supported")
    if mode.startswith("global") and replicas:
        raise CommandFailure("replicas can only be used with replicated or replicated-job mode")
    if mode.startswith("global") and parsed.number("replicas-max-per-node") > 0:
        raise CommandFailure("replicas-max-per-node can only be used with replicated or replicated-job mode")
    if mode != "replicated-job" and parsed.changed("max-concurrent"):
        raise CommandFailure("max-concurrent can only be used with replicated-job mode")
    if mode == "global":
        return {"Global": {}}, False
    if mode == "global-job":
        return {"GlobalJob": {}}, True
    if mode == "replicated":
        return {"Replicated": {"Replicas": parsed.number("replicas")} if replicas else {}}, False
    count = parsed.number("replicas")
    concurrent = parsed.number("max-concurrent") if parsed.changed("max-concurrent") else count
    job: Document = {}
    if concurrent or parsed.changed("max-concurrent") or replicas:
        job["MaxConcurrent"] = concurrent
    if replicas:
        job["TotalCompletions"] = count
    return {"ReplicatedJob": job}, True


def changed_values(parsed: Parsed, flags: dict[str, str], current: Document) -> Document:
    """A document with what flags change in it."""
    return {**current, **{field: parsed.value(flag) for flag, field in flags.items() if parsed.changed(flag)}}


def changed_update_config(parsed: Parsed, prefix: str, current: Document | None) -> Document | None:
    """The API's UpdateConfig with what the flags of a prefix (`update`, `rollback`) change; None when they change nothing."""
    flags = {f"{prefix}-{flag}": field for flag, field in UPDATE_FLAGS.items()}
    if not any(parsed.changed(flag) for flag in flags):
        return current
    config = changed_values(parsed, flags, current or UPDATE_DEFAULTS)
    return {name: value for name, value in config.items() if value or name in ("Parallelism", "MaxFailureRatio")}


def attachment(session: Session, choice: NetworkChoice) -> Document:
    """One --network as the API's NetworkAttachmentConfig: the daemon knows networks of a swarm by id. Raises CommandFailure."""
    found = session.engine.json("GET", f"/networks/{percent_encode(choice.target)}", {"scope": "swarm"})
    return {"Target": found["Id"], **_some(Aliases=choice.aliases, DriverOpts=choice.driver_options)}


def file_references(session: Session, kind: str, wanted: list[Document]) -> list[Document]:
    """--secret or --config as the API's references: each name looked up. Raises CommandFailure for one that is not there."""
    if not wanted:
        return []
    targets: set[str] = set()
    for entry in wanted:
        if entry["target"] in targets:
            raise CommandFailure(f"duplicate {kind} target for {entry['name']} not allowed")
        targets.add(entry["target"])
    known = _identities(session, kind, [entry["name"] for entry in wanted])
    word = kind.capitalize()
    references = []
    for entry in wanted:
        if entry["name"] not in known:
            raise CommandFailure(f"{kind} not found: {entry['name']}")
        file = {"Name": entry["target"], "UID": entry["uid"], "GID": entry["gid"], "Mode": entry["mode"]}
        references.append({"File": file, f"{word}ID": known[entry["name"]], f"{word}Name": entry["name"]})
    return references


def _identities(session: Session, kind: str, names: list[str]) -> dict[str, str]:
    entries = session.engine.json("GET", f"/{kind}s", filters_query({"name": sorted(set(names))})) or []
    return {entry["Spec"]["Name"]: entry["ID"] for entry in entries}


def attach_configs(session: Session, container: Document, wanted: list[Document]) -> None:
    """Puts the configs into a container's spec: the files, and the one that holds its credential spec. Raises CommandFailure."""
    configs = file_references(session, "config", wanted)
    spec = (container.get("Privileges") or {}).get("CredentialSpec") or {}
    name = spec.get("Config")
    if name:
        known = _identities(session, "config", [name])
        if name in known:  # else it is an id already
            spec["Config"] = known[name]
            configs.append({"Runtime": {}, "ConfigID": known[name], "ConfigName": name})
        else:
            raise CommandFailure(f"config not found: {name}")
    if configs:
        container["Configs"] = [*container.get("Configs", []), *configs]


def registry_headers(session: Session, image: str) -> dict[str, str]:
    """The login for an image's registry, for the nodes that will pull it."""
    from carrack.cli.images.names import parse_any
    from carrack.cli.logins import encode_login, header_for

    try:
        name = parse_any(image)
    except ValueError:
        name = None
    return {"X-Registry-Auth": header_for(session.config, name.server) if name else encode_login({})}


def pin_digest(session: Session, spec: Document, *, headers: dict[str, str]) -> str:
    """Asks the registry, through the daemon, which image the name means now, and which platforms it has.

    The spec is changed; what is returned is a warning when the registry did not say.
    """
    from carrack.errors import CarrackError

    container = spec["TaskTemplate"]["ContainerSpec"]
    image = str(container["Image"])
    if "@" in image:
        return ""
    try:
        answer = session.engine.json("GET", f"/distribution/{percent_encode(image, keep='/:@')}/json", headers=headers)
    except CarrackError:
        return (
            f"image {image} could not be accessed on a registry to record\n"
            f"its digest. Each node will access {image} independently,\n"
            "possibly leading to different nodes running different\nversions of the image.\n"
        )
    container["Image"] = f"{image}@{answer['Descriptor']['digest']}"
    platforms = [
        {name: value for name, value in (("Architecture", entry.get("architecture")), ("OS", entry.get("os"))) if value}
        for entry in answer.get("Platforms") or ()
    ]
    if platforms:
        spec["TaskTemplate"].setdefault("Placement", {})["Platforms"] = platforms
    return ""

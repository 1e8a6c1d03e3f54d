"""A stack's file as what the API takes: networks, secrets, configs and services, all named and labelled for the stack."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text, read_file
from carrack.cli.swarm.services.spec import effective_capabilities
from carrack.cli.values import read_bytes, read_decimal, read_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

LABEL = "com.docker.stack.namespace"
IMAGE_LABEL = "com.docker.stack.image"
UNSUPPORTED = (
    "build",
    "cgroupns_mode",
    "cgroup_parent",
    "devices",
    "domainname",
    "external_links",
    "ipc",
    "links",
    "mac_address",
    "network_mode",
    "pid",
    "privileged",
    "restart",
    "security_opt",
    "shm_size",
    "userns_mode",
)
DEPRECATED = {
    "container_name": "Setting the container name is not supported.",
    "expose": "Exposing ports is unnecessary - services on the same network can access each other's containers on any port.",
}


def some(**values: Any) -> Document:
    """The values that are not empty."""
    return {name: value for name, value in values.items() if value not in ("", 0, None, False, [], {})}


class Stack:
    """One file read for one stack."""

    def __init__(self, name: str, document: Document) -> None:
        self.name = name
        self._document = document
        self.services: Document = document.get("services") or {}

    def scoped(self, name: str) -> str:
        """A name as it is called in the swarm."""
        return f"{self.name}_{name}"

    def labels(self, given: dict[str, str] | None = None) -> dict[str, str]:
        """Labels, the stack's own among them."""
        return {**(given or {}), LABEL: self.name}

    def notes(self) -> str:
        """What the file says in vain; empty when nothing."""
        vain = sorted({key for service in self.services.values() for key in UNSUPPORTED if key in service})
        old = sorted({key for service in self.services.values() for key in DEPRECATED if key in service})
        text = f"Ignoring unsupported options: {', '.join(vain)}\n\n" if vain else ""
        if old:
            text += "Ignoring deprecated options:\n\n" + "".join([f"{key}: {DEPRECATED[key]}\n\n" for key in old])
        return text

    # -- networks

    def _used_networks(self) -> list[str]:
        used: set[str] = set()
        for service in self.services.values():
            used.update(service.get("networks") or ("default",))
        return sorted(used)

    def network_name(self, key: str) -> str:
        """What a network of the file is called in the swarm."""
        entry = (self._document.get("networks") or {}).get(key) or {}
        return str(entry.get("name") or (key if entry.get("external") else self.scoped(key)))

    def external_networks(self) -> list[str]:
        """Networks that must be there already."""
        declared = self._document.get("networks") or {}
        return [self.network_name(key) for key in self._used_networks() if (declared.get(key) or {}).get("external")]

    def networks(self) -> list[tuple[str, Document]]:
        """(name, creation request) of each network to make, in order of name."""
        declared = self._document.get("networks") or {}
        made: list[tuple[str, Document]] = []
        for key in self._used_networks():
            entry = declared.get(key) or {}
            if entry.get("external"):
                continue
            ipam = entry.get("ipam")
            request = {
                "Driver": entry.get("driver") or "overlay",
                "Scope": "",
                "IPAM": None,
                "Internal": bool(entry.get("internal")),
                "Attachable": bool(entry.get("attachable")),
                "Ingress": False,
                "ConfigOnly": False,
                "ConfigFrom": None,
                "Options": entry.get("driver_opts"),
                "Labels": self.labels(entry.get("labels")),
            }
            if ipam:
                pools = [some(Subnet=pool.get("subnet"), Gateway=pool.get("gateway")) for pool in ipam.get("config") or ()]
                request["IPAM"] = {"Driver": ipam.get("driver") or "", "Options": None, "Config": pools or None}
            made.append((self.network_name(key), {**request, "Name": self.network_name(key)}))
        return sorted(made, key=lambda pair: pair[0])

    # -- secrets and configs

    def file_name(self, kind: str, key: str) -> str:
        """What a secret or config of the file is called in the swarm. Raises CommandFailure for one that the file lacks."""
        declared = self._document.get(f"{kind}s") or {}
        if key not in declared:
            raise CommandFailure(f'undefined {kind} "{key}"')
        entry = declared[key]
        return str(entry.get("name") or self.scoped(key))

    def files(self, kind: str) -> list[Document]:
        """The specs of secrets or configs to make. Raises CommandFailure for a file that cannot be read."""
        from binascii import b2a_base64

        specs: list[Document] = []
        for key, entry in sorted((self._document.get(f"{kind}s") or {}).items()):
            if entry.get("external"):
                continue
            spec: Document = {"Name": entry.get("name") or self.scoped(key), "Labels": self.labels(entry.get("labels"))}
            if entry.get("driver"):
                spec["Driver"] = {"Name": entry["driver"], **some(Options=entry.get("driver_opts"))}
            else:
                try:
                    spec["Data"] = b2a_base64(read_file(str(entry.get("file") or "")), newline=False).decode()
                except OSError as error:
                    raise CommandFailure(os_error_text(error)) from None
            if entry.get("template_driver"):
                spec["Templating"] = {"Name": entry["template_driver"]}
            specs.append(spec)
        return specs

    # -- services

    def service(self, key: str, identities: dict[str, dict[str, str]]) -> Document:
        """The ServiceSpec of one service; `identities` are the ids of secrets and configs by kind and name."""
        service = self.services[key]
        deploy = service.get("deploy") or {}
        container = self._container(key, service, identities)
        task: Document = {"ContainerSpec": container, "Resources": _resources(deploy.get("resources") or {})}
        policy = _restart_policy(service.get("restart") or "", deploy.get("restart_policy"))
        if policy:
            task["RestartPolicy"] = policy
        placement = deploy.get("placement") or {}
        preferences = [{"Spread": {"SpreadDescriptor": entry["spread"]}} for entry in placement.get("preferences") or ()]
        task["Placement"] = some(
            Constraints=placement.get("constraints"), Preferences=preferences, MaxReplicas=placement.get("max_replicas_per_node")
        )
        task["Networks"] = self._attachments(key, service)
        if service.get("logging"):
            task["LogDriver"] = {"Name": service["logging"].get("driver") or "", **some(Options=service["logging"].get("options"))}
        task["ForceUpdate"] = 0
        spec: Document = {
            "Name": self.scoped(key),
            "Labels": {**self.labels(deploy.get("labels")), IMAGE_LABEL: str(service.get("image") or "")},
            "TaskTemplate": task,
            "Mode": _mode(deploy),
        }
        for field, name in (("update_config", "UpdateConfig"), ("rollback_config", "RollbackConfig")):
            if deploy.get(field):
                spec[name] = _update_config(deploy[field])
        ports = [
            some(
                Protocol=port.get("protocol"),
                TargetPort=port.get("target"),
                PublishedPort=port.get("published"),
                PublishMode=port.get("mode"),
            )
            for port in service.get("ports") or ()
        ]
        ports.sort(key=lambda port: int(port.get("PublishedPort") or 0))
        spec["EndpointSpec"] = some(Mode=str(deploy.get("endpoint_mode") or "").lower(), Ports=ports)
        return spec

    def _attachments(self, key: str, service: Document) -> list[Document]:
        entries = service.get("networks") or {"default": None}
        declared = self._document.get("networks") or {}
        attachments = []
        for network, options in entries.items():
            if network != "default" and network not in declared:
                raise CommandFailure(f'undefined network "{network}"')
            aliases = [*((options or {}).get("aliases") or ()), key]
            target = self.network_name(network)
            attachment: Document = {"Target": target}
            if target not in ("host", "bridge", "none"):
                attachment["Aliases"] = aliases
            attachments.append({**attachment, **some(DriverOpts=(options or {}).get("driver_opts"))})
        return sorted(attachments, key=lambda entry: str(entry["Target"]))

    def _container(self, key: str, service: Document, identities: dict[str, dict[str, str]]) -> Document:
        from carrack.cli.swarm.services.spec import image_reference

        if not service.get("image"):
            raise CommandFailure(f"invalid image reference for service {key}: no image specified")
        added, dropped = effective_capabilities(service.get("cap_add") or [], service.get("cap_drop") or [])
        credential = service.get("credential_spec")
        privileges = {
            "CredentialSpec": None
            if not credential
            else {
                "Config": credential.get("config") or "",
                "File": credential.get("file") or "",
                "Registry": credential.get("registry") or "",
            },
            "SELinuxContext": None,
            "NoNewPrivileges": False,
        }
        environment = sorted((service.get("environment") or {}).items())
        container: Document = {
            "Image": image_reference(service["image"]),
            "Labels": self.labels(service.get("labels")),
            **some(
                Command=service.get("entrypoint"),
                Args=service.get("command"),
                Hostname=service.get("hostname"),
                Env=[name if value is None else f"{name}={value}" for name, value in environment],
                Dir=service.get("working_dir"),
                User=service.get("user"),
            ),
            "Privileges": privileges,
            **({"Init": service["init"]} if service.get("init") is not None else {}),
            **some(
                StopSignal=service.get("stop_signal"),
                TTY=service.get("tty"),
                OpenStdin=service.get("stdin_open"),
                ReadOnly=service.get("read_only"),
                Mounts=[self._mount(volume) for volume in service.get("volumes") or ()] + _tmpfs(service.get("tmpfs") or ()),
                StopGracePeriod=read_duration(service["stop_grace_period"]) if service.get("stop_grace_period") else 0,
                Healthcheck=_healthcheck(service.get("healthcheck") or {}),
                Hosts=[_host_line(text) for text in service.get("extra_hosts") or ()],
                DNSConfig=some(Nameservers=service.get("dns"), Search=service.get("dns_search")),
                Secrets=self._references("secret", service, identities),
                Configs=self._references("config", service, identities),
                Isolation=service.get("isolation"),
                Sysctls=service.get("sysctls"),
                CapabilityAdd=added,
                CapabilityDrop=dropped,
                Ulimits=_ulimits(service.get("ulimits") or {}),
                OomScoreAdj=service.get("oom_score_adj"),
            ),
        }
        return container

    def _references(self, kind: str, service: Document, identities: dict[str, dict[str, str]]) -> list[Document]:
        word = kind.capitalize()
        references = []
        for entry in service.get(f"{kind}s") or ():
            name = self.file_name(kind, entry["source"])
            if name not in identities[kind]:
                raise CommandFailure(f"{kind} not found: {name}")
            file = {
                "Name": entry.get("target") or entry["source"],
                "UID": entry.get("uid") or "0",
                "GID": entry.get("gid") or "0",
                "Mode": entry["mode"] if entry.get("mode") is not None else 0o444,
            }
            references.append({"File": file, f"{word}ID": identities[kind][name], f"{word}Name": name})
        return sorted(references, key=lambda reference: str(reference[f"{word}Name"]))

    def _mount(self, volume: Document) -> Document:
        kind = volume.get("type") or "volume"
        mount: Document = some(
            Type=kind,
            Source=volume.get("source"),
            Target=volume.get("target"),
            ReadOnly=volume.get("read_only"),
            Consistency=volume.get("consistency"),
        )
        if kind == "bind":
            return {**mount, **some(BindOptions=some(Propagation=(volume.get("bind") or {}).get("propagation")))}
        if kind == "tmpfs":
            size = (volume.get("tmpfs") or {}).get("size")
            return {**mount, **some(TmpfsOptions=some(SizeBytes=size))}
        if kind != "volume" or not volume.get("source"):
            return mount
        key = volume["source"]
        declared = self._document.get("volumes") or {}
        if key not in declared:
            raise CommandFailure(f'undefined volume "{key}"')
        entry = declared[key] or {}
        options: Document = some(
            NoCopy=(volume.get("volume") or {}).get("nocopy"), Subpath=(volume.get("volume") or {}).get("subpath")
        )
        if entry.get("external"):
            mount["Source"] = entry["name"]
        else:
            mount["Source"] = entry.get("name") or self.scoped(key)
            options["Labels"] = self.labels(entry.get("labels"))
            if entry.get("driver") or entry.get("driver_opts"):
                options["DriverConfig"] = some(Name=entry.get("driver"), Options=entry.get("driver_opts"))
        return {**mount, **some(VolumeOptions=options)}


def _host_line(text: str) -> str:
    name, _, address = text.partition(":") if "=" not in text.partition(":")[0] else text.partition("=")
    return f"{address} {name}"


def _tmpfs(targets: Any) -> list[Document]:
    return [{"Type": "tmpfs", "Target": target} for target in targets]


def _ulimits(limits: Document) -> list[Document]:
    found = []
    for name in sorted(limits):
        limit = limits[name]
        soft, hard = (limit["soft"], limit["hard"]) if isinstance(limit, dict) else (limit, limit)
        found.append({"Name": name, "Hard": hard, "Soft": soft})
    return found


def _healthcheck(health: Document) -> Document:
    if health.get("disable"):
        if health.get("test"):
            raise CommandFailure("test and disable can't be set at the same time")
        return {"Test": ["NONE"]}
    found: Document = some(Test=health.get("test"))
    for field, name in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ):
        if health.get(field):
            found[name] = read_duration(health[field])
    return {**found, **some(Retries=health.get("retries"))}


def _resources(resources: Document) -> Document:
    found: Document = {}
    for part, name in (("limits", "Limits"), ("reservations", "Reservations")):
        limits = resources.get(part)
        if limits is None:
            continue
        generic = [
            {
                "DiscreteResourceSpec": {
                    "Kind": entry["discrete_resource_spec"]["kind"],
                    "Value": entry["discrete_resource_spec"]["value"],
                }
            }
            for entry in limits.get("generic_resources") or ()
        ]
        try:
            cpus = read_decimal(limits["cpus"]) if limits.get("cpus") else 0
        except ValueError as error:
            raise CommandFailure(str(error)) from None
        memory = read_bytes(limits["memory"]) if limits.get("memory") else 0
        found[name] = some(NanoCPUs=cpus, MemoryBytes=memory, Pids=limits.get("pids"), GenericResources=generic)
    return found


def _restart_policy(restart: str, policy: Document | None) -> Document:
    if policy:
        found: Document = some(Condition=policy.get("condition"))
        for field, name in (("delay", "Delay"), ("window", "Window")):
            if policy.get(field):
                found[name] = read_duration(policy[field])
        if policy.get("max_attempts") is not None:
            found["MaxAttempts"] = policy["max_attempts"]
        return found
    name, _, count = restart.partition(":")
    if name in ("always", "unless-stopped"):
        return {"Condition": "any"}
    if name == "on-failure":
        return {"Condition": "on-failure", **({"MaxAttempts": int(count)} if count.isdigit() else {})}
    return {}


def _update_config(config: Document) -> Document:
    found: Document = {"Parallelism": 1 if config.get("parallelism") is None else config["parallelism"]}
    for field, name in (("delay", "Delay"), ("monitor", "Monitor")):
        if config.get(field):
            found[name] = read_duration(config[field])
    return {
        **found,
        **some(FailureAction=config.get("failure_action"), Order=config.get("order")),
        "MaxFailureRatio": config.get("max_failure_ratio") or 0,
    }


def _mode(deploy: Document) -> Document:
    mode, replicas = deploy.get("mode") or "replicated", deploy.get("replicas")
    if mode == "global":
        if replicas is not None:
            raise CommandFailure("replicas can only be used with replicated or replicated-job mode")
        return {"Global": {}}
    if mode == "global-job":
        if replicas is not None:
            raise CommandFailure("replicas can only be used with replicated or replicated-job mode")
        return {"GlobalJob": {}}
    if mode == "replicated":
        return {"Replicated": {} if replicas is None else {"Replicas": replicas}}
    if mode == "replicated-job":
        return {"ReplicatedJob": {} if replicas is None else {"MaxConcurrent": replicas, "TotalCompletions": replicas}}
    raise CommandFailure(f"Unknown mode: {mode}")

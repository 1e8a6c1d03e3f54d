"""What a Compose file of version 3 may say, as a table, and the check against it. Texts are those of Docker's command.

A rule is the name of a type, a tuple of rules of which one must hold, a list (`[rule]`: a list of such), or a dict: an object with
these keys. `"*"` is any other key of an object, `"x-"` those that begin so.
"""

from __future__ import annotations

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Rule = Any

KINDS = ("services", "networks", "volumes", "secrets", "configs")
"""What a file declares, each a table by name."""
RESOURCES = KINDS[1:]
"""All but the services, which use them."""

TEXT, NUMBER, WHOLE, TRUTH, NOTHING, ANY = "string", "number", "integer", "boolean", "null", "any"
TEXTS: Rule = [TEXT]
COMMAND: Rule = (TEXT, TEXTS)
TEXT_OR_LIST: Rule = (TEXT, TEXTS)
PAIRS: Rule = ({"*": (TEXT, NUMBER, NOTHING)}, TEXTS)
EXTERNAL: Rule = (TRUTH, {"name": TEXT})

_UPDATE = {
    "parallelism": WHOLE,
    "delay": "duration",
    "failure_action": TEXT,
    "monitor": "duration",
    "max_failure_ratio": NUMBER,
    "order": TEXT,
}
_GENERIC = [{"discrete_resource_spec": {"kind": TEXT, "value": NUMBER}}]
DEPLOY: Rule = {
    "mode": TEXT,
    "endpoint_mode": TEXT,
    "replicas": WHOLE,
    "labels": PAIRS,
    "rollback_config": _UPDATE,
    "update_config": _UPDATE,
    "resources": {
        "limits": {"cpus": TEXT, "memory": TEXT, "pids": WHOLE},
        "reservations": {"cpus": TEXT, "memory": TEXT, "generic_resources": _GENERIC},
    },
    "restart_policy": {"condition": TEXT, "delay": "duration", "max_attempts": WHOLE, "window": "duration"},
    "placement": {"constraints": TEXTS, "preferences": [{"spread": TEXT}], "max_replicas_per_node": WHOLE},
}
_FILE_REFERENCE = (TEXT, {"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": NUMBER})
_VOLUME = {
    "type": TEXT,
    "source": TEXT,
    "target": TEXT,
    "read_only": TRUTH,
    "consistency": TEXT,
    "bind": {"propagation": TEXT},
    "volume": {"nocopy": TRUTH, "subpath": TEXT},
    "image": {"subpath": TEXT},
    "tmpfs": {"size": WHOLE},
    "cluster": {},
}
SERVICE: Rule = {
    "deploy": (DEPLOY, NOTHING),
    "build": (TEXT, ANY),
    "cap_add": TEXTS,
    "cap_drop": TEXTS,
    "cgroup_parent": TEXT,
    "cgroupns_mode": TEXT,
    "command": COMMAND,
    "configs": [_FILE_REFERENCE],
    "container_name": TEXT,
    "credential_spec": {"config": TEXT, "file": TEXT, "registry": TEXT},
    "depends_on": TEXTS,
    "devices": TEXTS,
    "dns": TEXT_OR_LIST,
    "dns_search": TEXT_OR_LIST,
    "domainname": TEXT,
    "entrypoint": COMMAND,
    "env_file": TEXT_OR_LIST,
    "environment": PAIRS,
    "expose": [(TEXT, NUMBER)],
    "external_links": TEXTS,
    "extra_hosts": PAIRS,
    "healthcheck": {
        "disable": TRUTH,
        "interval": "duration",
        "retries": NUMBER,
        "test": COMMAND,
        "timeout": "duration",
        "start_period": "duration",
        "start_interval": "duration",
    },
    "hostname": TEXT,
    "image": TEXT,
    "init": TRUTH,
    "ipc": TEXT,
    "isolation": TEXT,
    "labels": PAIRS,
    "links": TEXTS,
    "logging": {"driver": TEXT, "options": {"*": (TEXT, NUMBER, NOTHING)}},
    "mac_address": TEXT,
    "network_mode": TEXT,
    "networks": (
        TEXTS,
        {"*": ({"aliases": TEXTS, "driver_opts": {"*": (TEXT, NUMBER)}, "ipv4_address": TEXT, "ipv6_address": TEXT}, NOTHING)},
    ),
    "oom_score_adj": WHOLE,
    "pid": (TEXT, NOTHING),
    "ports": [("port", {"mode": TEXT, "target": WHOLE, "published": WHOLE, "protocol": TEXT})],
    "privileged": TRUTH,
    "read_only": TRUTH,
    "restart": TEXT,
    "secrets": [_FILE_REFERENCE],
    "security_opt": TEXTS,
    "shm_size": (NUMBER, TEXT),
    "stdin_open": TRUTH,
    "stop_grace_period": "duration",
    "stop_signal": TEXT,
    "sysctls": PAIRS,
    "tmpfs": TEXT_OR_LIST,
    "tty": TRUTH,
    "ulimits": {"*": (WHOLE, {"hard": WHOLE, "soft": WHOLE})},
    "user": TEXT,
    "userns_mode": TEXT,
    "volumes": [(TEXT, _VOLUME)],
    "working_dir": TEXT,
    "x-": ANY,
}
_OPTIONS = {"*": (TEXT, NUMBER)}
_FILE_OBJECT = {"name": TEXT, "file": TEXT, "external": EXTERNAL, "labels": PAIRS, "template_driver": TEXT, "x-": ANY}
_REST = {
    "networks": {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": _OPTIONS,
        "ipam": {"driver": TEXT, "config": [{"subnet": TEXT, "gateway": TEXT}]},
        "external": EXTERNAL,
        "internal": TRUTH,
        "attachable": TRUTH,
        "labels": PAIRS,
        "x-": ANY,
    },
    "volumes": {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": _OPTIONS,
        "external": EXTERNAL,
        "labels": PAIRS,
        "x-cluster-spec": ANY,
        "x-": ANY,
    },
    "secrets": {**_FILE_OBJECT, "driver": TEXT, "driver_opts": _OPTIONS},
    "configs": _FILE_OBJECT,
}
ROOT: Rule = {
    "version": TEXT,
    "services": {"*": SERVICE},
    **{kind: {"*": (rule, NOTHING)} for kind, rule in _REST.items()},
    "x-": ANY,
}


def check(document: Any) -> None:
    """Checks a whole file. Raises CommandFailure with the first thing that is wrong."""
    problem = _problem(document, ROOT, "")
    if problem:
        raise CommandFailure(problem)


def _problem(value: Any, rule: Rule, path: str) -> str:
    if isinstance(rule, tuple):
        fitting = [one for one in rule if _fits(value, one)]
        return _problem(value, fitting[0], path) if fitting else f"{path} must be a {_choices(rule)}"
    if not _fits(value, rule):
        return f"{path} must be a {_name(rule)}"
    if isinstance(rule, list):
        return next((found for index, item in enumerate(value) if (found := _problem(item, rule[0], f"{path}.{index}"))), "")
    if isinstance(rule, dict):
        return _object_problem(value, rule, path)
    if rule == "duration":
        return "" if _is_duration(value) else f"{path} Does not match format 'duration'"
    if rule == "port":
        return "" if _is_port(value) else f"{path} Does not match format 'ports'"
    return ""


def _fits(value: Any, rule: Rule) -> bool:
    """Whether a value is of a rule's type."""
    if isinstance(rule, tuple):
        return any(_fits(value, one) for one in rule)
    kind = _kind_of(value)
    if rule == ANY:
        return True
    if rule == NUMBER:
        return kind in (NUMBER, WHOLE)
    if rule == "port":
        return kind in (TEXT, WHOLE)
    return kind == _name(rule)


def _object_problem(value: dict[str, Any], rule: dict[str, Rule], path: str) -> str:
    for key, inner in value.items():
        place = f"{path}.{key}".lstrip(".")
        known = rule.get(key, rule.get("x-") if key.startswith("x-") else None)
        if known is None and (path.count(".") > 0 or _is_name(key)):
            known = rule.get("*")
        if known is None:
            return f"{path or '(root)'} Additional property {key} is not allowed"
        found = _problem(inner, known, place)
        if found:
            return found
    if set(rule) == {"hard", "soft"}:
        return next((f"{path} {name} is required" for name in ("hard", "soft") if name not in value), "")
    return ""


def _is_name(key: str) -> bool:
    """Whether something at the top of the file may be called so."""
    return bool(key) and all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in key)


def _kind_of(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return TRUTH
    for kind, name in ((dict, "mapping"), (list, "list"), (str, TEXT), (int, WHOLE), (float, NUMBER)):
        if isinstance(value, kind):
            return name
    return "unknown"


def _name(rule: Rule) -> str:
    if isinstance(rule, dict):
        return "mapping"
    if isinstance(rule, list):
        return "list"
    return TEXT if rule in ("duration", "port") else str(rule)


def _choices(rules: tuple[Rule, ...]) -> str:
    names = [_name(rule) for rule in rules]
    if "mapping" in names or "list" in names:  # Docker's text names the first, and null
        return f"{names[0]} or null" if NOTHING in names else names[0]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _is_duration(text: str) -> bool:
    from carrack.cli.values import read_duration

    try:
        read_duration(text)
    except ValueError:
        return False
    return True


def _is_port(value: Any) -> bool:
    from carrack.cli.containers.ports import read_published

    try:
        read_published(str(value))
    except ValueError:
        return False
    return True

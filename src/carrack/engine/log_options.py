"""Log drivers as a container asks for them: `--log-driver` and `--log-opt` into the shim's LogPlan. Pure."""

from __future__ import annotations

import re

from carrack.engine.config import LogConfig
from carrack.engine.container import Container
from carrack.errors import InvalidParameter
from carrack.shim.messages import LogPlan

DRIVERS = ("local", "json-file", "none")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_OPTIONS = {
    "local": ("max-size", "max-file", "compress", "mode", "max-buffer-size"),
    "json-file": (
        "max-size",
        "max-file",
        "compress",
        "mode",
        "max-buffer-size",
        "labels",
        "labels-regex",
        "env",
        "env-regex",
        "tag",
    ),
    "none": ("mode", "max-buffer-size"),
}
_RING_BYTES = 1 << 20
"""Docker's default for max-buffer-size."""
_PLACE = re.compile(r"\{\{\s*(?:\.(\w+))?\s*\}\}|\{\{")
_LONGEST_PATTERN = 1000
_TAG_FIELDS = ("ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName", "Command", "Hostname")
LOCAL_SIZE_BYTES, LOCAL_FILES = 20 << 20, 5


def check(config: LogConfig) -> None:
    """Raises InvalidParameter in Docker's words for a driver or an option that is not known, or has no meaning."""
    _read(config)


def plan(container: Container) -> LogPlan:
    """Where and how a container's output is kept."""
    return _read(container.host_config.log_config, container)


def path_for(container: Container) -> str:
    """The file the driver writes; empty for `none`."""
    driver = container.host_config.log_config.type
    if driver == "none":
        return ""
    if driver == "json-file":
        return f"{container.directory}/logs/{container.id}-json.log"
    return f"{container.directory}/logs/container.log"


def parse_size(text: str) -> int:
    """Bytes of ``10m``, ``1.5g``, ``4096``; -1 for no limit. Raises InvalidParameter."""
    if text == "-1":
        return -1
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def _read(config: LogConfig, container: Container | None = None) -> LogPlan:
    labels: dict[str, str] = {}
    env: list[str] | tuple[str, ...] = ()
    path = ""
    if container is not None:
        labels, env, path = container.config.labels or {}, container.config.env or (), container.log_path
    driver, options = config.type or "local", config.config or {}
    if driver not in DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    for name in options:
        if name not in _OPTIONS[driver]:
            raise InvalidParameter(f"unknown log opt '{name}' for {driver} log driver")
    ring_bytes = _ring_bytes(options)
    is_local = driver == "local"
    size = parse_size(options["max-size"]) if "max-size" in options else (LOCAL_SIZE_BYTES if is_local else 0)
    files = _count(options.get("max-file", str(LOCAL_FILES if is_local else 1)))
    if "max-size" in options and size == 0:
        raise InvalidParameter("max-size must be a positive number")
    compress = _flag(options.get("compress", "true" if is_local else "false"), "compress")
    attributes = _attributes(options, labels, env)
    if tag := _tag(options.get("tag", ""), container):
        attributes["tag"] = tag
    return LogPlan(
        driver=driver,
        path=path,
        max_size_bytes=max(size, 0),
        max_files=files,
        compress=compress,
        attributes=attributes,
        non_blocking_buffer_bytes=ring_bytes,
    )


def _ring_bytes(options: dict[str, str]) -> int:
    """The size of the ring of mode=non-blocking; 0: none. Raises InvalidParameter."""
    mode = options.get("mode", "blocking")
    if mode not in ("blocking", "non-blocking"):
        raise InvalidParameter(f"logger: unknown mode '{mode}'")
    if mode == "blocking":
        if "max-buffer-size" in options:
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        return 0
    size = parse_size(options["max-buffer-size"]) if "max-buffer-size" in options else _RING_BYTES
    if size <= 0:
        raise InvalidParameter(f"logger: max-buffer-size must be a positive size: '{options['max-buffer-size']}'")
    return size


def _attributes(options: dict[str, str], labels: dict[str, str], env: list[str] | tuple[str, ...]) -> dict[str, str]:
    """The labels and variables that each record bears: those named, and those whose name a pattern finds."""
    values = dict(variable.partition("=")[::2] for variable in env)
    return _chosen(options, "labels", labels) | _chosen(options, "env", values)


def _chosen(options: dict[str, str], option: str, values: dict[str, str]) -> dict[str, str]:
    named = options.get(option, "").split(",")
    found = {name: values[name] for name in named if name in values}
    text = options.get(f"{option}-regex", "")
    if text:
        pattern = _pattern(text)
        found |= {name: value for name, value in values.items() if pattern.search(name)}
    return found


def _pattern(text: str) -> re.Pattern[str]:
    if len(text) > _LONGEST_PATTERN:
        raise InvalidParameter("log opt: a regular expression is too long")
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{text}`") from None


def _tag(template: str, container: Container | None) -> str:
    """`--log-opt tag`: Docker's fields in a template. Raises InvalidParameter for what is none of them."""
    image = container.image_id.removeprefix("sha256:") if container is not None else ""
    fields = {"DaemonName": "docker"}
    if container is not None:
        fields |= {
            "ID": container.id[:12],
            "FullID": container.id,
            "Name": container.name,
            "ImageID": image[:12],
            "ImageFullID": image,
            "ImageName": container.image_reference,
            "Command": " ".join([container.path, *container.arguments]),
            "Hostname": container.config.hostname,
        }

    def value(place: re.Match[str]) -> str:
        if place[1] not in _TAG_FIELDS:
            raise InvalidParameter(f"log opt tag: only fields such as {{{{.ID}}}} and {{{{.Name}}}} are known: '{template}'")
        return fields.get(place[1], "")

    return _PLACE.sub(value, template)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InvalidParameter(f"max-file must be a positive number: '{text}'")
    return int(text)


def _flag(text: str, name: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidParameter(f"invalid value for log opt '{name}': '{text}'")
    return text.lower() in ("true", "1", "t")

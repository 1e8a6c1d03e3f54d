"""Log drivers as a container asks for them: `--log-driver` and `--log-opt` into the shim's LogPlan. Pure, but for the
look-up of a syslog's name before a start."""

from __future__ import annotations

import os
import re
import socket

from msgspec.structs import replace

from carrack.engine.config import LogConfig
from carrack.engine.container import Container
from carrack.errors import InvalidParameter
from carrack.shim.messages import LogPlan, PassOn

DRIVERS = ("local", "json-file", "none", "syslog", "journald")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_PASSED = (
    *("tag", "labels", "labels-regex", "env", "env-regex", "mode", "max-buffer-size"),
    *("cache-max-size", "cache-max-file", "cache-compress"),
)
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
    "syslog": (*_PASSED, "syslog-address", "syslog-facility", "syslog-format"),
    "journald": _PASSED,
}
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
_SYSLOG_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_SYSLOG_PORT = "514"
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
    """Where and how a container's output is kept, for who reads it."""
    return _read(container.host_config.log_config, container)


def plan_for_writing(container: Container) -> LogPlan:
    """The same with the addresses of those it is passed on to. May block for a name server. Raises InvalidParameter."""
    return _read(container.host_config.log_config, container, resolved=True)


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


def _read(config: LogConfig, container: Container | None = None, *, resolved: bool = False) -> LogPlan:
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
    if driver in ("syslog", "journald"):
        return _passed_on(driver, options, container, ring_bytes, resolved=resolved)
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


def _passed_on(driver: str, options: dict[str, str], container: Container | None, ring_bytes: int, *, resolved: bool) -> LogPlan:
    """The plan of a driver that passes lines on: they are kept as by `local` too, as Docker's "dual logging" does."""
    kept = {name.removeprefix("cache-"): value for name, value in options.items() if name.startswith("cache-")}
    plan = _read(LogConfig("local", kept), container)
    tag = _tag(options.get("tag", "") or "{{.ID}}", container)
    attributes: dict[str, str] = {}
    if container is not None:
        attributes = _attributes(options, container.config.labels or {}, container.config.env or ())
    on = (
        _to_syslog(options, tag, resolved=resolved)
        if driver == "syslog"
        else PassOn("journald", fields=_journal_fields(tag, attributes, container))
    )
    return replace(plan, non_blocking_buffer_bytes=ring_bytes, pass_on=on)


def _to_syslog(options: dict[str, str], tag: str, *, resolved: bool) -> PassOn:
    form = options.get("syslog-format", "")
    if form not in _SYSLOG_FORMATS:
        raise InvalidParameter("Invalid syslog format")
    facility = options.get("syslog-facility", "daemon")
    if facility in _FACILITIES and facility:
        number = _FACILITIES.index(facility)
    elif facility.isdecimal() and int(facility) < len(_FACILITIES):
        number = int(facility)
    else:
        raise InvalidParameter("invalid syslog facility")
    address = _address(options.get("syslog-address", ""), resolved=resolved)
    return PassOn("syslog", address, number, form, os.uname().nodename, os.getpid(), tag)


def _address(text: str, *, resolved: bool) -> str:
    """Where a syslog is; if `resolved`, a name in it replaced by its address, for a shim looks up none. Raises InvalidParameter."""
    scheme, separator, place = text.partition("://")
    if not text or (scheme in ("unix", "unixgram") and place.startswith("/")):
        return text
    if scheme == "tcp+tls":
        raise InvalidParameter("syslog-address: tcp+tls is not offered; a local syslog can pass on by TLS")
    if not separator or scheme not in ("udp", "tcp") or not place:
        raise InvalidParameter(f"syslog-address should be in form proto://address, got {text}")
    host, port = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", place), _SYSLOG_PORT
    if host is None:
        raise InvalidParameter(f"syslog-address should be in form proto://address, got {text}")
    port = host[2] or port
    if not resolved:
        return text
    try:
        found = socket.getaddrinfo(host[1].strip("[]") or "localhost", int(port), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise InvalidParameter(f"syslog-address {text}: {error.strerror}") from None
    return f"{scheme}://{found[0][4][0]}:{port}"


def _journal_fields(tag: str, attributes: dict[str, str], container: Container | None) -> dict[str, str]:
    if container is None:
        return {}
    own = {_journal_name(name): value for name, value in attributes.items() if _journal_name(name)}
    return own | {
        "CONTAINER_ID": container.id[:12],
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": container.image_reference,
        "SYSLOG_IDENTIFIER": tag,
    }


def _journal_name(name: str) -> str:
    """A label's name as the journal takes it: capitals, digits, and no underscore in front."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()).lstrip("_")


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

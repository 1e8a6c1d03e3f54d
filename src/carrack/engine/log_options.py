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
_NOT_YET = ("labels-regex", "env-regex", "tag")
LOCAL_SIZE_BYTES, LOCAL_FILES = 20 << 20, 5


def check(config: LogConfig) -> None:
    """Raises InvalidParameter in Docker's words for a driver or an option that is not known, or has no meaning."""
    _read(config, {}, ())


def plan(container: Container) -> LogPlan:
    """Where and how a container's output is kept."""
    return _read(container.host_config.log_config, container.config.labels or {}, container.config.env or (), container.log_path)


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


def _read(config: LogConfig, labels: dict[str, str], env: list[str] | tuple[str, ...], path: str = "") -> LogPlan:
    driver, options = config.type or "local", config.config or {}
    if driver not in DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{driver}' is registered")
    for name in options:
        if name not in _OPTIONS[driver]:
            raise InvalidParameter(f"unknown log opt '{name}' for {driver} log driver")
        if name in _NOT_YET:
            raise InvalidParameter(f"log opt '{name}' is not supported by this version of Carrack")
    _check_mode(options)
    is_local = driver == "local"
    size = parse_size(options["max-size"]) if "max-size" in options else (LOCAL_SIZE_BYTES if is_local else 0)
    files = _count(options.get("max-file", str(LOCAL_FILES if is_local else 1)))
    if "max-size" in options and size == 0:
        raise InvalidParameter("max-size must be a positive number")
    if files > 1 and size <= 0 and not is_local:
        raise InvalidParameter("max-file cannot be set without max-size")
    compress = _flag(options.get("compress", "true" if is_local else "false"), "compress")
    return LogPlan(
        driver=driver,
        path=path,
        max_size_bytes=max(size, 0),
        max_files=files,
        compress=compress,
        attributes=_attributes(options, labels, env),
    )


def _check_mode(options: dict[str, str]) -> None:
    mode = options.get("mode", "blocking")
    if mode not in ("blocking", "non-blocking"):
        raise InvalidParameter(f"logger: unknown mode '{mode}'")
    if mode == "non-blocking":
        raise InvalidParameter("log opt 'mode=non-blocking' is not supported by this version of Carrack")
    if "max-buffer-size" in options:
        raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")


def _attributes(options: dict[str, str], labels: dict[str, str], env: list[str] | tuple[str, ...]) -> dict[str, str]:
    found = {name: labels[name] for name in options.get("labels", "").split(",") if name in labels}
    values = dict(variable.partition("=")[::2] for variable in env)
    return found | {name: values[name] for name in options.get("env", "").split(",") if name in values}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InvalidParameter(f"max-file must be a positive number: '{text}'")
    return int(text)


def _flag(text: str, name: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidParameter(f"invalid value for log opt '{name}': '{text}'")
    return text.lower() in ("true", "1", "t")

"""What instructions leave in an image's configuration: ENV, LABEL, CMD and the others that touch no file. Pure.

Each function gives a new configuration. Values have their variables filled in. Source: Dockerfile reference.
"""

from __future__ import annotations

import posixpath
import signal
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from carrack.build.dockerfile.failure import Fault
from carrack.build.dockerfile.instruction import (
    Cmd,
    CommandLine,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from carrack.build.dockerfile.quantity import exposed_ports
from carrack.oci import image_config
from carrack.oci.image_config import ExecutionConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAST_SIGNAL = 64


def applied(config: ExecutionConfig, instruction: Instruction, *, cmd_said: bool = False) -> ExecutionConfig:
    """The configuration after an instruction; one that leaves nothing there gives it back. Raises Fault.

    `cmd_said`: this stage has had a CMD, so an ENTRYPOINT keeps it; one of the base image it clears.
    """
    match instruction:
        case Env():
            return replace(config, env=with_environment(config.env or (), {pair.name: pair.value for pair in instruction.pairs}))
        case Label():
            return replace(config, labels={**(config.labels or {}), **{pair.name: pair.value for pair in instruction.pairs}})
        case Cmd():
            return replace(config, cmd=command(config, instruction.command), args_escaped=True)
        case Entrypoint():
            kept = config.cmd if cmd_said else None
            return replace(config, entrypoint=command(config, instruction.command), cmd=kept)
        case Shell():
            return replace(config, shell=list(instruction.words))
        case User():
            return replace(config, user=instruction.user)
        case Workdir():
            return replace(config, working_dir=working_directory(config, instruction.path))
        case Volume():
            return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in instruction.paths}})
        case Expose():
            ports: dict[str, dict[str, str]] = {port: {} for word in instruction.ports for port in exposed_ports(word)}
            return replace(config, exposed_ports={**(config.exposed_ports or {}), **ports})
        case StopSignal():
            return replace(config, stop_signal=_signal(instruction.signal))
        case Healthcheck():
            return replace(config, healthcheck=_healthcheck(instruction))
        case Onbuild():
            return replace(config, on_build=[*(config.on_build or ()), instruction.expression])
        case _:
            return config


def command(config: ExecutionConfig, line: CommandLine) -> list[str]:
    """A command in exec form as it is, in shell form behind the shell's words."""
    return [*(config.shell or DEFAULT_SHELL), *line.words] if line.shell else list(line.words)


def working_directory(config: ExecutionConfig, path: str) -> str:
    """Where WORKDIR leads."""
    joined = posixpath.join("/", config.working_dir or "/", path)
    return "/" + posixpath.normpath(joined).lstrip("/")


def environment_of(config: ExecutionConfig) -> dict[str, str]:
    """The variables that a configuration sets."""
    return dict(entry.partition("=")[::2] for entry in config.env or ())


def with_environment(entries: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """`NAME=value` entries with some set: one that is there keeps its place."""
    known = dict(entry.partition("=")[::2] for entry in entries)
    known.update(values)
    return [f"{name}={value}" for name, value in known.items()]


def _signal(text: str) -> str:
    """A signal's name or number as written. Raises Fault for one that does not exist."""
    name = text.upper()
    if name.isdigit() and 0 < int(name) <= _LAST_SIGNAL:
        return text
    name = name.removeprefix("SIG")
    if f"SIG{name}" in signal.Signals.__members__ or name.partition("+")[0] in ("RTMIN", "RTMAX"):
        return text
    if name.partition("-")[0] in ("RTMIN", "RTMAX"):
        return text
    raise Fault(f"invalid signal: {text}", text)


def _healthcheck(check: Healthcheck) -> image_config.Healthcheck:
    return image_config.Healthcheck(
        test=list(check.test),
        interval=check.interval,
        timeout=check.timeout,
        start_period=check.start_period,
        start_interval=check.start_interval,
        retries=check.retries,
    )

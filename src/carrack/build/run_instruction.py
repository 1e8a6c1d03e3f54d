"""What one RUN says: its program and scripts, its mounts, and whether it may have what it asks for. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from carrack.build.configuration import DEFAULT_SHELL
from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import Fault
from carrack.build.dockerfile.heredoc import parse_heredoc
from carrack.build.dockerfile.instruction import Mount, Run
from carrack.build.dockerfile.mounts import read_mount
from carrack.build.plan import Surroundings
from carrack.oci.image_config import ExecutionConfig

_SCRIPTS = "/dev/pipes/"
_SECRETS = "/run/secrets/"
_AGENT = "/run/buildkit/ssh_agent.{}"


def command_of(run: Run, execution: ExecutionConfig) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The program of a RUN, and the scripts it needs. A lone heredoc is a script: of its own interpreter, or of the shell."""
    line = run.command
    if not line.shell:
        return line.words, ()
    text = line.words[0] if line.words else ""
    if line.heredocs:
        alone = parse_heredoc(text)
        if alone is not None:
            content = line.heredocs[0].text
            if content.startswith("#!"):
                path = f"{_SCRIPTS}{line.heredocs[0].name}"
                return (path,), ((path, content),)
            text = content
        else:
            text += "".join(f"\n{each.content}{each.name}" for each in line.heredocs)
    return (*(execution.shell or DEFAULT_SHELL), text), ()


def shown_flags(run: Run) -> Sequence[str]:
    """The flags as a step's name shows them, each with a blank behind it."""
    flags = [f"--mount={text} " for text in run.mounts]
    flags += [f"--network={run.network} "] if run.network != "default" else []
    return flags + ([f"--security={run.security} "] if run.security != "sandbox" else [])


def check_rights(run: Run, surroundings: Surroundings) -> None:
    """Raises Fault for a flag that asks for an entitlement which the build was not given."""
    allowed = surroundings.allowed
    if run.security == "insecure" and "security.insecure" not in allowed:
        raise Fault("security.insecure is not allowed", "--security")
    for device in run.devices:
        if not allowed & {"device", f"device={device.name}"}:
            raise Fault("device is not allowed", "--device")
    if run.network == "host" and "network.host" not in allowed and surroundings.network != "host":
        raise Fault("network.host is not allowed", "--network")


def mount_of(text: str, expand: Expansion, working_dir: str, number: int) -> Mount:
    """A `--mount` with its target, id and sharing filled in; `number` is its place among the RUN's mounts. Raises Fault."""
    mount = read_mount(text, expand.word)
    target = mount.target
    if mount.type == "secret":
        name = mount.id or posixpath.basename(mount.source or mount.target)
        target = target or ("" if mount.env is not None else _SECRETS + name)
        mount = replace(mount, id=name, env=name if mount.env == "" else mount.env)
    elif mount.type == "ssh":
        mount = replace(mount, id=mount.id or "default")
        target = target or _AGENT.format(number)
    elif mount.type == "cache" and not mount.id:
        mount = replace(mount, id=posixpath.normpath(target))
    if not target and not (mount.type == "secret" and mount.env is not None):
        raise Fault(f"invalid mount target {target!r}: a {mount.type} mount needs a target", text)
    if target:
        target = posixpath.normpath(posixpath.join("/", working_dir, target))
        if target == "/" and mount.type != "bind":
            raise Fault('invalid mount target "/"', text)
    return replace(mount, target=target, sharing=mount.sharing or ("shared" if mount.type == "cache" else ""))

"""Which seccomp filter a container gets: none, Docker's default for its capabilities, or a profile of the user's.

A profile of the user's is in Docker's own format (profiles/seccomp): the runtime-spec's, with `archMap`, and rules that hold
only with certain capabilities or architectures (`includes`, `excludes`).
"""

from __future__ import annotations

import os

import msgspec

from carrack.engine import specification
from carrack.engine.config import HostConfig
from carrack.errors import InvalidParameter
from carrack.oci.runtime_spec import Seccomp, SeccompArg, SeccompRule
from carrack.runtime import seccomp, seccomp_default

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}


class _Condition(msgspec.Struct, rename={"minimum_kernel": "minKernel"}, frozen=True):
    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    minimum_kernel: str = ""


class _Rule(msgspec.Struct, rename="camel", frozen=True):
    action: str
    names: tuple[str, ...] = ()
    name: str = ""
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None


class _Architecture(msgspec.Struct, rename="camel", frozen=True):
    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class _Profile(msgspec.Struct, rename="camel", frozen=True):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[_Architecture, ...] | None = None
    flags: tuple[str, ...] | None = None
    syscalls: tuple[_Rule, ...] | None = None


def bytes_for(host: HostConfig) -> bytes:
    """The compiled filter; empty for none. Blocking the first time for each profile (about 10 ms). Raises InvalidParameter."""
    profile = document_for(host)
    return seccomp.compile(profile) if profile is not None else b""


def document_for(host: HostConfig) -> Seccomp | None:
    """The profile itself; None for none. Raises InvalidParameter."""
    chosen = specification.security(host.security_opt).seccomp
    if chosen == "unconfined" or (host.privileged and not chosen):
        return None
    names = specification.capability_names(host)
    return parse(chosen, names) if chosen else seccomp_default.profile(names, os.uname().machine)


def parse(text: str, capabilities: tuple[str, ...]) -> Seccomp:
    """A profile in Docker's format, made concrete for this machine and these capabilities. Raises InvalidParameter."""
    try:
        document = msgspec.json.decode(text, type=_Profile)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    if document.architectures and document.arch_map:
        raise InvalidParameter(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        )
    architectures = tuple(document.architectures or ())
    here = f"SCMP_ARCH_{os.uname().machine.upper()}"
    for entry in document.arch_map or ():
        if entry.architecture == here:
            architectures = (entry.architecture, *(entry.sub_architectures or ()))
    rules = []
    for rule in document.syscalls or ():
        if rule.name and rule.names:
            raise InvalidParameter("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
        if _holds(rule.includes, capabilities) and not _excluded(rule.excludes, capabilities):
            names = rule.names or (rule.name,)
            rules.append(SeccompRule(names, rule.action, rule.errno_ret, tuple(rule.args or ())))
    return Seccomp(
        document.default_action, document.default_errno_ret, architectures, tuple(document.flags or ()), syscalls=tuple(rules)
    )


def _holds(condition: _Condition | None, capabilities: tuple[str, ...]) -> bool:
    if condition is None:
        return True
    if condition.arches and _MACHINES.get(os.uname().machine, os.uname().machine) not in condition.arches:
        return False
    if condition.minimum_kernel and _kernel(os.uname().release) < _kernel(condition.minimum_kernel):
        return False
    return all(name in capabilities for name in condition.caps)


def _excluded(condition: _Condition | None, capabilities: tuple[str, ...]) -> bool:
    if condition is None:
        return False
    if _MACHINES.get(os.uname().machine, os.uname().machine) in condition.arches:
        return True
    if condition.minimum_kernel and _kernel(os.uname().release) >= _kernel(condition.minimum_kernel):
        return True
    return any(name in capabilities for name in condition.caps)


def _kernel(text: str) -> tuple[int, int]:
    numbers = text.split(".")
    try:
        return int(numbers[0]), int(numbers[1].split("-")[0])
    except (ValueError, IndexError):
        raise InvalidParameter(f"invalid kernel version in seccomp profile: {text!r}") from None

"""Capability names and sets: what Docker gives by default, what this kernel knows, how names become masks. See capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from carrack.errors import InvalidParameter
from carrack.kernel import process
from carrack.oci import runtime_spec

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Indexed by the kernel's number."""

NUMBERS = {name: number for number, name in enumerate(NAMES)}

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What a container has in Docker when nothing is said."""


def available() -> tuple[str, ...]:
    """ALL, as far as this process may hand it on: what its bounding set holds, in the kernel's order."""
    return tuple(name for number, name in enumerate(NAMES) if process.bounding_has(number))


def normalise(name: str) -> str:
    """``net_admin``, ``NET_ADMIN`` or ``CAP_NET_ADMIN`` → ``CAP_NET_ADMIN``; ``all`` → ``ALL``. Raises InvalidParameter."""
    upper = name.strip().upper()
    if upper in ("ALL", "CAP_ALL"):
        return "ALL"
    full = upper if upper.startswith("CAP_") else "CAP_" + upper
    if full not in NUMBERS:
        raise InvalidParameter(f'unknown capability: "{full}"')
    return full


def chosen(add: Iterable[str], drop: Iterable[str], *, default: tuple[str, ...] = DEFAULT) -> tuple[str, ...]:
    """Docker's rule for --cap-add and --cap-drop: ALL on either side first, then the named ones. Raises InvalidParameter."""
    added = {normalise(name) for name in add}
    dropped = {normalise(name) for name in drop}
    if "ALL" in added:
        result = [name for name in NAMES if name not in dropped]
    elif "ALL" in dropped:
        result = [name for name in NAMES if name in added]
    else:
        result = [name for name in default if name not in dropped]
        result += [name for name in NAMES if name in added and name not in result]
    return tuple(result)


class CapabilityMasks(NamedTuple):
    """The five sets as bit masks."""

    bounding: int = 0
    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    ambient: int = 0


def masks(sets: runtime_spec.Capabilities | None) -> tuple[CapabilityMasks | None, tuple[str, ...]]:
    """A spec's sets as masks, and the names this code does not know (runc warns about them and goes on)."""
    if sets is None:
        return None, ()
    unknown: list[str] = []
    values = [_mask(names, unknown) for names in (sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient)]
    return CapabilityMasks(*values), tuple(dict.fromkeys(unknown))


def _mask(names: Iterable[str], unknown: list[str]) -> int:
    result = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is None:
            unknown.append(name)
        else:
            result |= 1 << number
    return result


def named(mask: int) -> tuple[str, ...]:
    """The names in a mask, in the kernel's order."""
    return tuple(name for number, name in enumerate(NAMES) if mask >> number & 1)

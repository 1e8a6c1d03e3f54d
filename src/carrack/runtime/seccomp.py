"""runtime-spec `seccomp` → the bytes that init loads: four bytes of flags, then classic BPF.

Rules are compiled by libseccomp (10 ms) and kept by content. Before its code stands a prelude of ours: calls the profile allows
and this libseccomp is too old to know are let through by number, and calls newer than everything the profile names get ENOSYS
instead of EPERM, so that C libraries fall back as they do on an older kernel.
"""

from __future__ import annotations

import errno
import struct

import msgspec

from carrack.errors import InvalidParameter
from carrack.kernel import seccomp
from carrack.oci.runtime_spec import Seccomp, SeccompRule

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": seccomp.ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": seccomp.ALLOW,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}

ARCHITECTURES = (
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
)

NEW_LISTENER = 8
"""SECCOMP_FILTER_FLAG_NEW_LISTENER: set by compile, not by a profile."""

# Calls of Linux 6.5 and later, numbered alike on every architecture; older libseccomp releases do not know them.
_RECENT = {
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
_RECENT_X86_64 = {"uretprobe": 335, "uprobe": 336}

_AUDIT_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
_UNKNOWN = -1

_compiled: dict[bytes, bytes] = {}


def compile(profile: Seccomp) -> bytes:
    """The profile as bytes for `load`; from memory when its like was compiled before. Raises InvalidParameter."""
    key = msgspec.json.encode(profile)
    found = _compiled.get(key)
    if found is None:
        found = _compiled[key] = _compile(profile)
    return found


def _notifies(profile: Seccomp) -> bool:
    """Whether some other process decides about calls. Raises InvalidParameter when nobody could be asked, or answer."""
    rules = [rule for rule in profile.syscalls if rule.action == "SCMP_ACT_NOTIFY"]
    if profile.default_action == "SCMP_ACT_NOTIFY":
        raise InvalidParameter("SCMP_ACT_NOTIFY cannot be used as default action")
    if any("write" in rule.names for rule in rules):
        raise InvalidParameter("SCMP_ACT_NOTIFY cannot be used for the write syscall")
    if rules and not profile.listener_path:
        raise InvalidParameter("seccomp listenerPath must be set if SCMP_ACT_NOTIFY is used")
    if profile.listener_metadata and not profile.listener_path:
        raise InvalidParameter("seccomp listenerPath must be set if listenerMetadata is set")
    return bool(rules) or bool(profile.listener_path)


def load(compiled: bytes) -> int:
    """Put the bytes of `compile` in force for this process. Returns the listener's descriptor, when the profile has one, else 0."""
    return seccomp.load(compiled[4:], struct.unpack_from("<I", compiled)[0])


def _compile(profile: Seccomp) -> bytes:
    flags = 0
    for name in profile.flags:
        if name not in FLAGS:
            raise InvalidParameter(f"seccomp flag {name!r} is not known")
        flags |= FLAGS[name]
    if _notifies(profile):
        flags |= NEW_LISTENER
    architectures = _architectures(profile)
    default = _action(profile.default_action, profile.default_errno_ret)
    try:
        with seccomp.Filter(default) as made:
            for number in architectures:
                made.add_architecture(number)
            for rule in profile.syscalls:
                _add(made, rule, default)
            body = made.export()
    except OSError as error:
        raise InvalidParameter(f"unable to compile the seccomp profile: {error.filename}: {error.strerror}") from error
    return struct.pack("<I", flags) + prelude(profile, architectures) + body


def _architectures(profile: Seccomp) -> list[int]:
    numbers = [seccomp.native_architecture()]
    for name in profile.architectures:
        if not name.startswith("SCMP_ARCH_"):
            raise InvalidParameter(f"seccomp architecture {name!r} is not known")
        number = seccomp.architecture(name.removeprefix("SCMP_ARCH_").lower())
        if number and number not in numbers:
            numbers.append(number)
    return numbers


def _action(name: str, errno_ret: int | None) -> int:
    if name not in ACTIONS:
        raise InvalidParameter(f"seccomp action {name!r} is not known")
    if name in _WITH_ERRNO:
        return ACTIONS[name] | ((errno.EPERM if errno_ret is None else errno_ret) & 0xFFFF)
    return ACTIONS[name]


def _add(made: seccomp.Filter, rule: SeccompRule, default: int) -> None:
    action = _action(rule.action, rule.errno_ret)
    if action == default:
        return
    comparisons = []
    for each in rule.args:
        if each.op not in OPERATORS:
            raise InvalidParameter(f"seccomp operator {each.op!r} is not known")
        comparisons.append((each.index, OPERATORS[each.op], each.value, each.value_two))
    # conditions on one and the same argument cannot be joined in a rule: each becomes a rule of its own
    several = len({each[0] for each in comparisons}) < len(comparisons)
    for name in rule.names:
        number = seccomp.number_of(name)
        if number == _UNKNOWN:
            continue
        if several:
            for comparison in comparisons:
                made.add(action, number, (comparison,))
        else:
            made.add(action, number, comparisons)


# ── the prelude ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15
_JUMP_GREATER = 0x25
_JUMP_GREATER_EQUAL = 0x35
_RETURN = 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE = 0, 4


def prelude(profile: Seccomp, architectures: list[int]) -> bytes:
    """What runs before libseccomp's code; empty for a profile that permits by default."""
    if profile.default_action in _PERMISSIVE or profile.default_errno_ret == errno.ENOSYS:
        return b""
    code: list[bytes] = []
    for architecture in architectures:
        if not _is_x32(architecture):
            code += _for_architecture(profile, architecture)
    return b"".join(code)


def _is_x32(architecture: int) -> bool:
    """x32 shares its AUDIT_ARCH with x86_64; libseccomp gives it a number of its own, which no call ever carries."""
    return architecture == 0x4000003E


def _for_architecture(profile: Seccomp, architecture: int) -> list[bytes]:
    decided = _decided_by_number(profile, architecture)
    newest = max([*_numbers(profile, architecture), *decided], default=0)
    inner = [_statement(_LOAD, _OFFSET_NUMBER)]
    tail = 2 * len(decided) + 2
    if architecture == _AUDIT_X86_64:
        inner.append(_jump(_JUMP_GREATER_EQUAL, _X32_BIT, tail, 0))
    for number, action in decided.items():
        inner += [_jump(_JUMP_EQUAL, number, 0, 1), _statement(_RETURN, action)]
    inner += [_jump(_JUMP_GREATER, newest, 0, 1), _statement(_RETURN, seccomp.ERRNO | errno.ENOSYS)]
    return [_statement(_LOAD, _OFFSET_ARCHITECTURE), _jump(_JUMP_EQUAL, architecture, 0, len(inner)), *inner]


def _numbers(profile: Seccomp, architecture: int) -> list[int]:
    return [number for rule in profile.syscalls for name in rule.names if (number := seccomp.number_of(name, architecture)) >= 0]


def _decided_by_number(profile: Seccomp, architecture: int) -> dict[int, int]:
    """Unconditional rules for calls that this libseccomp does not know: number → action."""
    recent = {**_RECENT, **(_RECENT_X86_64 if architecture == _AUDIT_X86_64 else {})}
    decided: dict[int, int] = {}
    for rule in profile.syscalls:
        if rule.args:
            continue
        for name in rule.names:
            if name in recent and seccomp.number_of(name) == _UNKNOWN:
                decided[recent[name]] = _action(rule.action, rule.errno_ret)
    return decided


def _statement(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)

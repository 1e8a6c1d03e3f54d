"""Who the program runs as: credentials, capabilities, limits, filters, put on in the order the kernel demands.

`put_on` gives up everything that is not the program's but what `finish` still needs; `finish` does the rest.
See capabilities(7), credentials(7), seccomp(2).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import resource
import signal
from typing import NamedTuple

from carrack.kernel import capabilities as kernel_capabilities
from carrack.kernel import process
from carrack.oci.runtime_spec import Process, Rlimit
from carrack.runtime import seccomp
from carrack.runtime.capabilities import CapabilityMasks, masks, named
from carrack.runtime.failure import InitFailed, words

_DEFAULT_UMASK = 0o022
# The C module beneath `signal`: the latter makes an enum member of every number it sees, which is half a millisecond here.
_CHANGEABLE_SIGNALS = tuple(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_INFINITY = 0xFFFFFFFFFFFFFFFF


class Identity(NamedTuple):
    """What a process becomes. `uid` and `gid` -1: unknown until the container's own files were read."""

    capabilities: CapabilityMasks | None
    no_new_privileges: bool
    umask: int
    rlimits: tuple[tuple[int, int, int], ...]
    seccomp: bytes = b""
    die_with_parent: bool = False


_bounding = -1


def held_capabilities() -> int:
    """What this process can hand on at most: its bounding set. Read once; a zygote does it before it forks."""
    global _bounding
    if _bounding < 0:
        _bounding = sum(1 << number for number in range(64) if process.bounding_has(number))
    return _bounding


def identity(wanted: Process, *, seccomp_filter: bytes, die_with_parent: bool, warnings: list[str]) -> Identity:
    """The identity a spec's process asks for, less what this machine cannot give, each loss a warning. Raises InitFailed."""
    sets, unknown = masks(wanted.capabilities)
    if unknown:
        warnings.append(f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]")
    if sets is not None:
        held = held_capabilities()
        missing = (sets.bounding | sets.effective | sets.permitted | sets.ambient) & ~held
        if missing:
            warnings.append(f"ignoring unknown or unavailable capabilities: [{' '.join(named(missing))}]")
            sets = CapabilityMasks(*(each & held for each in sets))
    return Identity(
        sets,
        wanted.no_new_privileges,
        _DEFAULT_UMASK if wanted.user.umask is None else wanted.user.umask,
        tuple(_limit(each) for each in wanted.rlimits),
        seccomp_filter,
        die_with_parent,
    )


def _limit(wanted: Rlimit) -> tuple[int, int, int]:
    number = getattr(resource, wanted.type, None)
    if number is None or not wanted.type.startswith("RLIMIT_"):
        raise InitFailed(f"invalid rlimit type: {wanted.type}")
    if wanted.soft > wanted.hard:
        raise InitFailed(f"error setting rlimit type {wanted.type}: soft limit exceeds the hard limit")
    return number, _signed(wanted.soft), _signed(wanted.hard)


def _signed(value: int) -> int:
    return resource.RLIM_INFINITY if value >= _INFINITY >> 1 or value < 0 else value


def reachable_limits(limits: tuple[tuple[int, int, int], ...], warnings: list[str]) -> tuple[tuple[int, int, int], ...]:
    """Lower what only CAP_SYS_RESOURCE could raise to the present hard limit, with a warning for each."""
    if held_capabilities() >> 24 & 1:
        return limits
    result = []
    for number, soft, hard in limits:
        ceiling = resource.getrlimit(number)[1]
        if ceiling != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > ceiling):
            warnings.append(f"ulimit {_name(number)} lowered to the hard limit {ceiling} of this machine (no CAP_SYS_RESOURCE)")
            hard = ceiling
            soft = hard if soft == resource.RLIM_INFINITY or soft > hard else soft
        result.append((number, soft, hard))
    return tuple(result)


def split_limits(
    limits: tuple[tuple[int, int, int], ...],
) -> tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int], ...]]:
    """(those to set now, those to set after the last fork): a low limit on processes would forbid that fork itself."""
    present = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    later = tuple(
        each
        for each in limits
        if each[0] == resource.RLIMIT_NPROC
        and (present == resource.RLIM_INFINITY or (each[2] != resource.RLIM_INFINITY and each[2] <= present))
    )
    return tuple(each for each in limits if each not in later), later


def _name(number: int) -> str:
    return next(
        (name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_") and getattr(resource, name) == number), ""
    )


def put_on(who: Identity, uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Change user and groups, narrow the bounding set. Afterwards permitted capabilities are still those of before."""
    if who.capabilities is not None:
        held = held_capabilities()
        for number in range(64):
            bit = 1 << number
            if held & bit and not who.capabilities.bounding & bit:
                process.drop_from_bounding(number)
    os.umask(who.umask)
    if uid:
        process.keep_capabilities(True)
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise InitFailed(f"unable to setup user: {words(error)}") from None
    if uid:
        process.keep_capabilities(False)
        _, permitted, _ = kernel_capabilities.get()
        kernel_capabilities.set(permitted, permitted, 0)
    if who.die_with_parent:
        # a change of credentials takes the request back, so it comes after
        process.set_parent_death_signal(signal.SIGKILL)


def finish(who: Identity, uid: int) -> int:
    """Limits, filter and the final capability sets. What follows is the word to go, by read and write, and execve.

    Returns the seccomp listener's descriptor when the filter has one, else 0.
    """
    listener = 0
    for number, soft, hard in who.rlimits:
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            raise InitFailed(f"error setting rlimit type {number}: {error}") from None
    if who.no_new_privileges:
        process.set_no_new_privileges()
    if who.seccomp and not who.no_new_privileges:
        listener = seccomp.load(who.seccomp)  # needs CAP_SYS_ADMIN, so before the sets shrink
    if who.capabilities is not None:
        sets = who.capabilities
        kernel_capabilities.set(sets.effective, sets.permitted, sets.inheritable)
        process.clear_ambient()
        for number in range(64):
            if sets.ambient >> number & 1:
                process.raise_ambient(number)
    elif uid:
        kernel_capabilities.set(0, 0, 0)
    if who.seccomp and who.no_new_privileges:
        listener = seccomp.load(who.seccomp)
    return listener


def default_signals() -> None:
    """Undo what the interpreter and the shim ask for about signals: an ignored one would stay ignored after exec."""
    for number in _CHANGEABLE_SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())

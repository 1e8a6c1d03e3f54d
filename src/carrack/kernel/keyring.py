"""The session keyring (keyctl(2)): a container gets one of its own, so that it sees no keys of the host's session."""

from __future__ import annotations

from carrack.kernel.libc import Number, c_char_p, c_int, c_ulong, check, declare

_KEYCTL_JOIN_SESSION_KEYRING = 1

_keyctl = declare(Number.keyctl, c_int, c_char_p, c_ulong, c_ulong, c_ulong)


def join_session(name: str) -> int:
    """Make a new session keyring of that name and join it; returns its serial number."""
    return check(_keyctl(_KEYCTL_JOIN_SESSION_KEYRING, name.encode(), 0, 0, 0), "keyctl join session")

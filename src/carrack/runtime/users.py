"""Who a process is: `name`, `uid`, `name:group`, `uid:gid` looked up in a container's own /etc/passwd and /etc/group.

Docker's rules and texts. Pure: the files come in as bytes, parsed by hand and within bounds (no NSS, no iconv: law 1). Numbers are
strict decimals of 31 bits, so that no overflow becomes root (CVE-2024-40635).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from carrack.errors import InvalidParameter

LARGEST_ID = (1 << 31) - 1
LARGEST_FILE = 16 << 20
"""More than this of a passwd or group file is not read."""
_LONGEST_LINE = 1 << 20
_MOST_GROUPS = 65536


class Account(NamedTuple):
    """Who a process is to be, in numbers of the container."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _User(NamedTuple):
    name: bytes
    uid: int
    gid: int
    home: bytes


class _Group(NamedTuple):
    name: bytes
    gid: int
    members: bytes


def parse_id(text: str | bytes) -> int | None:
    """A decimal user or group number; None when the text is not one. Raises InvalidParameter when it is out of range."""
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    digits = raw[1:] if raw[:1] in (b"-", b"+") else raw
    if not digits or not digits.isdigit():
        return None
    if raw[:1] == b"-" or len(digits) > 20 or int(digits) > LARGEST_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{LARGEST_ID}")
    return int(digits)


def resolve(wish: str, passwd: bytes, group: bytes, *, default_uid: int = 0, default_gid: int = 0) -> Account:
    """The account that `wish` means; an empty one means the default uid.

    Raises InvalidParameter (``unable to find user NAME: no matching entries in passwd file``, and so on).
    """
    user_part, colon, rest = wish.partition(":")
    group_part = rest.partition(":")[0]  # Docker reads no further
    uid = parse_id(user_part)
    user = _find_user(passwd, user_part.encode(errors="surrogateescape"), uid, default_uid)
    if user is not None:
        name, number, gid, home = user.name, user.uid, user.gid, user.home.decode(errors="surrogateescape")
    elif user_part and uid is None:
        raise InvalidParameter(f"unable to find user {user_part}: no matching entries in passwd file")
    else:
        name, number, gid, home = b"", default_uid if uid is None else uid, default_gid, ""
    if colon and group_part:
        return Account(number, _find_gid(group, group_part), (), home or "/")
    return Account(number, gid, _supplementary(group, name) if name else (), home or "/")


def home_of(uid: int, passwd: bytes) -> str:
    """The home directory of a number; ``/`` when the file does not know it."""
    user = _find_user(passwd, b"", uid, uid)
    return (user.home.decode(errors="surrogateescape") if user else "") or "/"


def resolve_group(wish: str, group: bytes) -> int:
    """A group's number by name or number, as for --group-add."""
    return _find_gid(group, wish)


def _find_user(passwd: bytes, name: bytes, uid: int | None, default_uid: int) -> _User | None:
    for user in _users(passwd):
        if name:
            if user.name == name or (uid is not None and user.uid == uid):
                return user
        elif user.uid == (default_uid if uid is None else uid):
            return user
    return None


def _find_gid(text: bytes, wish: str) -> int:
    number = parse_id(wish)
    name = wish.encode(errors="surrogateescape")
    for group in _groups(text):
        if group.name == name or (number is not None and group.gid == number):
            return group.gid
    if number is None:
        raise InvalidParameter(f"unable to find group {wish}: no matching entries in group file")
    return number


def _supplementary(text: bytes, name: bytes) -> tuple[int, ...]:
    found: list[int] = []
    for group in _groups(text):
        if name in group.members.split(b",") and group.gid not in found:
            found.append(group.gid)
            if len(found) == _MOST_GROUPS:
                break
    return tuple(found)


def _lines(text: bytes) -> Iterator[list[bytes]]:
    for line in text[:LARGEST_FILE].split(b"\n") if len(text) > LARGEST_FILE else text.split(b"\n"):
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#") and len(stripped) <= _LONGEST_LINE:
            yield stripped.split(b":")


def _number(text: bytes) -> int | None:
    # a file's own nonsense is skipped rather than refused: a broken line must not keep the container from starting
    if text.isdigit() and len(text) <= 10 and int(text) <= LARGEST_ID:
        return int(text)
    return None


def _users(text: bytes) -> Iterator[_User]:
    for fields in _lines(text):
        fields += [b""] * (7 - len(fields))
        uid, gid = _number(fields[2]), _number(fields[3])
        if fields[0] and uid is not None:
            yield _User(fields[0], uid, gid or 0, fields[5])


def _groups(text: bytes) -> Iterator[_Group]:
    for fields in _lines(text):
        gid = _number(fields[2]) if len(fields) > 2 else None
        if fields[0] and gid is not None:
            yield _Group(fields[0], gid, fields[3] if len(fields) > 3 else b"")

"""runtime-spec mount options → what the mount calls want. Pure. The words are those of mount(8) and of runc."""

from __future__ import annotations

from typing import NamedTuple

from carrack.errors import InvalidParameter
from carrack.kernel import mount


class MountOptions(NamedTuple):
    """Options of one mount, sorted by who acts on them."""

    attributes: int = 0
    """MOUNT_ATTR_* to set on the mount."""
    cleared: int = 0
    """MOUNT_ATTR_* to clear (for a bind: the source may have them)."""
    recursive_attributes: int = 0
    recursive_cleared: int = 0
    propagations: tuple[tuple[int, bool], ...] = ()
    """(MS_SHARED, …; recursive), in order."""
    data: tuple[str, ...] = ()
    """For the file system itself, flags (``ro``, ``sync``) included."""
    bind: bool = False
    recursive: bool = False
    idmap: bool = False
    """Owners are shifted into the container's user namespace."""
    copy_up: bool = False
    """tmpcopyup: a tmpfs begins with what the image has at its place."""
    bounded: bool = False
    """Of an overlay: a quota of its upper layer's file system binds root too (`BOUNDED`)."""
    subpath: str = ""
    """Of a bind: what is shown lies below the source, and no link on the way leads out of it (`SUBPATH`)."""


BOUNDED = "x-carrack.bounded"
SUBPATH = "x-carrack.subpath="
"""Words of our own, never given to a file system."""


_ATTRIBUTES = {
    "ro": (mount.ATTR_RDONLY, True),
    "rw": (mount.ATTR_RDONLY, False),
    "nosuid": (mount.ATTR_NOSUID, True),
    "suid": (mount.ATTR_NOSUID, False),
    "nodev": (mount.ATTR_NODEV, True),
    "dev": (mount.ATTR_NODEV, False),
    "noexec": (mount.ATTR_NOEXEC, True),
    "exec": (mount.ATTR_NOEXEC, False),
    "nodiratime": (mount.ATTR_NODIRATIME, True),
    "diratime": (mount.ATTR_NODIRATIME, False),
    "nosymfollow": (mount.ATTR_NOSYMFOLLOW, True),
    "symfollow": (mount.ATTR_NOSYMFOLLOW, False),
}

# access times are one field of several bits: setting a mode clears the others
_ACCESS_TIMES = {
    "noatime": mount.ATTR_NOATIME,
    "strictatime": mount.ATTR_STRICTATIME,
    "relatime": mount.ATTR_RELATIME,
    "atime": mount.ATTR_RELATIME,
    "norelatime": mount.ATTR_STRICTATIME,
    "nostrictatime": mount.ATTR_RELATIME,
}

_PROPAGATIONS = {
    "shared": mount.MS_SHARED,
    "slave": mount.MS_SLAVE,
    "private": mount.MS_PRIVATE,
    "unbindable": mount.MS_UNBINDABLE,
}

_FILE_SYSTEM_FLAGS = frozenset(
    ("ro", "rw", "sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "iversion", "noiversion", "silent", "loud")
)
_IGNORED = frozenset(("defaults", "remount", "user", "nouser", "auto", "noauto", "_netdev", "acl", "noacl"))
IDMAP = "idmap"
"""The word of a mount whose owners are shifted."""
_IDMAP = frozenset(("idmap", "ridmap"))

KNOWN = frozenset(
    (
        "bind",
        "rbind",
        "tmpcopyup",
        *_ATTRIBUTES,
        *_ACCESS_TIMES,
        *("r" + name for name in (*_ATTRIBUTES, *_ACCESS_TIMES)),
        *_PROPAGATIONS,
        *("r" + name for name in _PROPAGATIONS),
        *_FILE_SYSTEM_FLAGS,
    )
)


def parse(options: tuple[str, ...], file_system: str) -> MountOptions:
    """Sort the options of a mount of that type. Raises InvalidParameter on a bind with data."""
    add = clear = recursive_add = recursive_clear = 0
    propagations: list[tuple[int, bool]] = []
    data: list[str] = []
    bind = recursive = copy_up = idmap = bounded = False
    subpath = ""
    for option in options:
        if option in ("bind", "rbind"):
            bind, recursive = True, recursive or option == "rbind"
        elif option in _ATTRIBUTES or option in _ACCESS_TIMES:
            add, clear = _with(option, add, clear)
            if option in _FILE_SYSTEM_FLAGS:
                data.append(option)
        elif option in _PROPAGATIONS:
            propagations.append((_PROPAGATIONS[option], False))
        elif option[:1] == "r" and option[1:] in _PROPAGATIONS:
            propagations.append((_PROPAGATIONS[option[1:]], True))
        elif option[:1] == "r" and (option[1:] in _ATTRIBUTES or option[1:] in _ACCESS_TIMES):
            recursive_add, recursive_clear = _with(option[1:], recursive_add, recursive_clear)
        elif option == "tmpcopyup":
            copy_up = True
        elif option == BOUNDED:
            bounded = True
        elif option.startswith(SUBPATH):
            subpath = option.removeprefix(SUBPATH)
        elif option in _IDMAP:
            idmap = True
        elif option not in _IGNORED and option:
            data.append(option)
    bind = bind or file_system == "bind"
    if bind:
        data = [option for option in data if option not in _FILE_SYSTEM_FLAGS]
    return MountOptions(
        attributes=add,
        cleared=clear,
        recursive_attributes=recursive_add,
        recursive_cleared=recursive_clear,
        propagations=tuple(propagations),
        data=tuple(data),
        bind=bind,
        recursive=recursive,
        idmap=idmap,
        copy_up=copy_up,
        bounded=bounded,
        subpath=subpath,
    )


def _with(option: str, add: int, clear: int) -> tuple[int, int]:
    if option in _ACCESS_TIMES:
        return add & ~mount.ATTR_ATIME | _ACCESS_TIMES[option], clear | mount.ATTR_ATIME
    bit, wanted = _ATTRIBUTES[option]
    if wanted:
        return add | bit, clear & ~bit
    return add & ~bit, clear | bit


def propagation(word: str) -> tuple[int, bool]:
    """``rslave`` → (MS_SLAVE, True). Raises InvalidParameter."""
    recursive = word[:1] == "r" and word[1:] in _PROPAGATIONS
    name = word[1:] if recursive else word
    if name not in _PROPAGATIONS:
        raise InvalidParameter(f"rootfsPropagation={word} is not supported")
    return _PROPAGATIONS[name], recursive

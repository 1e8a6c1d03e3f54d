"""Where the things a container mounts come from: `-v`, `--mount`, `--tmpfs` and image volumes, resolved into MountPoints.

Only parsing and the order of precedence live here (pure, but for the question whether a host path exists); volumes are made by
whoever calls. Texts are Docker's.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable

from carrack.engine.config import ContainerConfig, HostConfig, MountRequest
from carrack.engine.container import MountPoint
from carrack.errors import InvalidParameter

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_TMPFS_FLAGS = frozenset(  # tmpfs(5) and the flags of mount(8)
    "ro rw exec noexec suid nosuid dev nodev sync async dirsync noatime nodiratime relatime norelatime strictatime "
    "nostrictatime".split()
)


def resolve(
    config: ContainerConfig, host: HostConfig, inherited: list[MountPoint], exists: Callable[[str], bool] = os.path.exists
) -> list[MountPoint]:
    """Every mount the container asks for, in the order that Docker gives them. Anonymous volumes have no name yet.

    `inherited` are the mounts of `--volumes-from`. Raises InvalidParameter.
    """
    points: dict[str, MountPoint] = {point.destination: point for point in inherited}
    explicit: set[str] = set()

    def add(point: MountPoint) -> None:
        if point.destination in explicit:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
        explicit.add(point.destination)
        points[point.destination] = point

    for text in host.binds or []:
        point = parse_bind(text)
        if point.type == "volume":
            point.driver = host.volume_driver or point.driver
        add(point)
    temporary = [_tmpfs(_clean(destination, ""), options) for destination, options in (host.tmpfs or {}).items()]
    for point in temporary:
        if point.destination in explicit:
            raise InvalidParameter(f"Duplicate mount point: {point.destination}")
    for request in host.mounts or []:
        add(_from_request(request, exists))
    points |= {point.destination: point for point in temporary}  # covers what --mount asks for at the same place
    for destination in config.volumes or {}:
        target = _clean("/" + destination.lstrip("/"), "volume")  # `VOLUME data` means the root's
        if target not in points:
            points[target] = MountPoint(
                "volume", "", target, driver=host.volume_driver or "local", anonymous=True, copy_up=True, mode=""
            )
    return list(points.values())


def parse_bind(text: str) -> MountPoint:
    """One `-v`: ``[source:]destination[:mode]``. Raises InvalidParameter."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0] or (len(parts) == 2 and valid_mode(parts[1])):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source, target, mode = ("", parts[0], "") if len(parts) == 1 else (*parts, "")[:3]
    if not valid_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    words = mode.split(",")
    kind = "bind" if source.startswith("/") else "volume"
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    try:
        if kind == "volume" and propagation:
            raise _invalid(kind, "field BindOptions must not be specified")
        if kind == "bind" and "nocopy" in words:
            raise _invalid(kind, "field VolumeOptions must not be specified")
        if not target:
            raise _invalid(kind, "field Target must not be empty")
        target = _clean(target, kind)
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid volume specification: '{text}': {error.message}") from None
    writable = "ro" not in words
    if kind == "bind":
        return MountPoint(
            kind, posixpath.normpath(source), target, mode=mode, writable=writable, propagation=propagation or "rprivate"
        )
    if source and _VOLUME_NAME.fullmatch(source) is None:
        raise _no_volume_name(source)
    copy_up, mode = "nocopy" not in words, mode or ("z" if source else "")
    return MountPoint(
        kind, "", target, name=source, driver="local", mode=mode, writable=writable, anonymous=not source, copy_up=copy_up
    )


def _no_volume_name(name: str) -> InvalidParameter:
    return InvalidParameter(
        f'create {name}: "{name}" includes invalid characters for a local volume name, only '
        '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
    )


def valid_mode(mode: str) -> bool:
    """Whether a `-v` may end in this: nothing, or words of which no two say the same thing."""
    words = mode.split(",") if mode else []
    return all(word in _MODES for word in words) and len({_MODES[word] for word in words}) == len(words)


_MODES = {
    word: number
    for number, words in enumerate((("ro", "rw"), ("z", "Z"), PROPAGATIONS, ("nocopy",), ("consistent", "cached", "delegated")))
    for word in words
}


def _from_request(request: MountRequest, exists: Callable[[str], bool]) -> MountPoint:
    for kind, options in (
        ("bind", request.bind_options),
        ("volume", request.volume_options),
        ("image", request.image_options),
        ("tmpfs", request.tmpfs_options),
    ):
        if options is not None and request.type != kind:
            raise _invalid(request.type, f"field {kind.capitalize()}Options must not be specified")
    if not request.target:
        raise InvalidParameter(f'invalid mount config for type "{request.type}": field Target must not be empty')
    target = _clean(request.target, request.type)
    if request.type == "bind":
        return _bind(request, target, exists)
    if request.type == "volume":
        return _volume(request, target)
    if request.type == "tmpfs":
        if request.source:
            raise _invalid("tmpfs", "field Source must not be specified")
        words = ["ro"] if request.read_only else []
        if request.tmpfs_options is not None:
            if request.tmpfs_options.size_bytes:
                words.append(f"size={request.tmpfs_options.size_bytes}")
            if request.tmpfs_options.mode:
                words.append(f"mode={request.tmpfs_options.mode:o}")
            words.extend("=".join(option) for option in request.tmpfs_options.options or [])
        return _tmpfs(target, ",".join(words), writable=not request.read_only)
    if request.type == "image":
        return _image(request, target)
    raise InvalidParameter(f'invalid mount config for type "{request.type}": mount type unknown')


def _bind(request: MountRequest, target: str, exists: Callable[[str], bool]) -> MountPoint:
    options = request.bind_options
    if not request.source:
        raise _invalid("bind", "field Source must not be empty")
    if not request.source.startswith("/"):
        raise _invalid("bind", f"invalid mount path: '{request.source}' mount path must be absolute")
    propagation = options.propagation if options is not None else ""
    if propagation and propagation not in PROPAGATIONS:
        raise _invalid("bind", f"invalid propagation mode: {propagation}")
    creates = options is not None and options.create_mountpoint
    if not creates and not exists(request.source):
        raise _invalid("bind", f"bind source path does not exist: {request.source}")
    words: list[str] = ["create"] if creates else []
    if options is not None:
        words += ["bind"] if options.non_recursive else []
        if options.read_only_non_recursive and options.read_only_force_recursive:
            raise _invalid("bind", "ReadOnlyForceRecursive and ReadOnlyNonRecursive conflict")
        if (options.read_only_non_recursive or options.read_only_force_recursive) and not request.read_only:
            raise _invalid("bind", "recursive read-only options need ReadOnly")
        words += ["ro-non-recursive"] if options.read_only_non_recursive else []
        words += ["rro"] if options.read_only_force_recursive else []
    return MountPoint(
        "bind",
        posixpath.normpath(request.source),
        target,
        writable=not request.read_only,
        propagation=propagation or "rprivate",
        options=tuple(words),
    )


def _volume(request: MountRequest, target: str) -> MountPoint:
    options = request.volume_options
    if request.source and _VOLUME_NAME.fullmatch(request.source) is None:
        raise _no_volume_name(request.source)
    subpath = options.subpath if options is not None else ""
    if subpath and (posixpath.isabs(subpath) or ".." in subpath.split("/")):
        raise _invalid("volume", f"subpath must be a relative path within the volume: {subpath!r}")
    driver = options.driver_config.name if options is not None and options.driver_config is not None else ""
    return MountPoint(
        "volume",
        "",
        target,
        name=request.source,
        driver=driver or "local",
        mode="z",
        writable=not request.read_only,
        anonymous=not request.source,
        copy_up=not (options is not None and options.no_copy) and not subpath,
        options=(f"subpath={subpath}",) if subpath else (),
    )


def _image(request: MountRequest, target: str) -> MountPoint:
    """An image's files, which are read-only."""
    if not request.source:
        raise _invalid("image", "field Source must not be empty")
    subpath = request.image_options.subpath if request.image_options is not None else ""
    if subpath and (posixpath.isabs(subpath) or ".." in subpath.split("/")):
        raise _invalid("image", f"subpath must be a relative path within the image: {subpath!r}")
    options = (f"subpath={subpath}",) if subpath else ()
    return MountPoint("image", request.source, target, writable=False, options=options)


def _tmpfs(target: str, options: str, *, writable: bool = True) -> MountPoint:
    words = tuple(word for word in options.split(",") if word)
    for word in words:
        key = word.partition("=")[0]
        if word not in _TMPFS_FLAGS and not (
            key in ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol") and "=" in word
        ):
            raise InvalidParameter(f"invalid tmpfs option {word!r}")
    return MountPoint("tmpfs", "", target, writable=writable and "ro" not in words, options=words)


def _clean(target: str, type_name: str) -> str:
    if not target.startswith("/"):
        raise _invalid(type_name, f"invalid mount path: '{target}' mount path must be absolute")
    cleaned = posixpath.normpath(target)
    if cleaned in ("/", "//"):
        raise _invalid(type_name, "invalid specification: destination can't be '/'")
    return cleaned


def _invalid(type_name: str, why: str) -> InvalidParameter:
    """`type_name` empty: no `--mount`."""
    return InvalidParameter(f'invalid mount config for type "{type_name}": {why}' if type_name else why)

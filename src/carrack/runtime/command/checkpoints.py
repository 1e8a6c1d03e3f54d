"""checkpoint, restore: runc's commands around CRIU, as podman calls them."""

from __future__ import annotations

import os

from carrack.errors import Conflict, NotFound
from carrack.kernel import process
from carrack.oci.mount import Mount
from carrack.runtime import cgroups, criu
from carrack.runtime.command import console, lifecycle
from carrack.runtime.command.arguments import Arguments, Flag, UsageError, flag
from carrack.runtime.command.store import Container, Store, write_pid
from carrack.runtime.create import Stdio
from carrack.runtime.criu import rpc
from carrack.runtime.criu.dump import dump
from carrack.runtime.criu.restore import Restoration, Wish

_SWITCHES = {
    "tcp-established": rpc.TCP_ESTABLISHED,
    "ext-unix-sk": rpc.EXT_UNIX_SK,
    "shell-job": rpc.SHELL_JOB,
    "link-remap": rpc.LINK_REMAP,
    "tcp-skip-in-flight": rpc.TCP_SKIP_IN_FLIGHT,
    "auto-dedup": rpc.AUTO_DEDUP,
}
_MODES = ("", "ignore", "soft", "full", "strict")
"""Accepted, and all the same: a restored container is in the cgroup that its config.json names, with the limits of that."""
_SHARED: tuple[Flag, ...] = (
    flag("image-path"),
    flag("work-path"),
    flag("manage-cgroups-mode"),
    flag("file-locks", value=False),
    *(flag(name, value=False) for name in _SWITCHES),
)
CHECKPOINT_FLAGS: tuple[Flag, ...] = (*_SHARED, flag("leave-running", value=False))
RESTORE_FLAGS: tuple[Flag, ...] = (
    *_SHARED,
    flag("bundle b"),
    flag("config f"),
    flag("console-socket"),
    flag("detach d", value=False),
    flag("pid-file"),
    flag("no-subreaper", value=False),
    flag("no-pivot", value=False),
)


def checkpoint(store: Store, arguments: Arguments) -> int:
    """`checkpoint`: write a running container out, and forget it unless it is left running."""
    container = store.get(lifecycle.only(arguments))
    status = container.status()
    if status != "running":
        raise Conflict(f"Container cannot be checkpointed in {status} state")
    images = _images(arguments)
    os.makedirs(images, mode=0o700, exist_ok=True)
    known = container.record.descriptors
    dump(
        _program(),
        container.record.pid,
        images,
        tuple(each if each.startswith("pipe:") else "" for each in known),
        leave_running=arguments.on("leave-running"),
        log_directory=_work(arguments) or images,
        switches=_switches(arguments),
    )
    if not arguments.on("leave-running"):
        lifecycle.discard(container)
    return 0


def restore(store: Store, arguments: Arguments) -> int:
    """`restore`: make a container whose processes go on from a checkpoint; without --detach, stay until it ends."""
    identifier = lifecycle.only(arguments)
    images, work = _images(arguments), _work(arguments)
    spec, bundle = lifecycle.load(arguments)
    detached = arguments.on("detach")
    if not detached and not arguments.on("no-subreaper"):
        process.become_subreaper()
    path = lifecycle.cgroup_path(spec, identifier)
    root = os.path.abspath(spec.root.path) if spec.root else ""
    directory = store.reserve(identifier)
    made: Restoration | None = None
    complete = False
    try:
        lifecycle.look_at_cgroup(path)
        made = Restoration(
            lifecycle.absolute(spec, bundle),
            Wish(_program(), images, directory, identifier, work or images, bundle, switches=_switches(arguments)),
            rootfs=(Mount("bind", root, "", ("rbind",)),),
            cgroup=cgroups.plan(path, spec.linux.resources if spec.linux else None),
            stdio=Stdio(0, 1, 2),
        )
        made.go()
        container = Container(directory, lifecycle.record(identifier, made, spec, bundle, root, path))
        if made.console_fd >= 0 and arguments.text("console-socket"):
            console.hand_over(arguments.text("console-socket"), made.console_fd)
        store.save(container)
        if arguments.text("pid-file"):
            write_pid(arguments.text("pid-file"), made.pid)
        complete = True
    finally:
        if not complete:
            if made is not None:
                made.abandon()
            Container(directory, lifecycle.nothing()).forget()
    if detached:
        return 0
    code = console.attend(made)
    lifecycle.discard(container)
    return code


def _images(arguments: Arguments) -> str:
    mode = arguments.text("manage-cgroups-mode")
    if mode not in _MODES:
        raise UsageError("invalid manage-cgroups-mode value")
    return os.path.abspath(arguments.text("image-path") or "checkpoint")


def _work(arguments: Arguments) -> str:
    work = arguments.text("work-path")
    if not work:
        return ""
    os.makedirs(work, mode=0o700, exist_ok=True)
    return os.path.abspath(work)


def _switches(arguments: Arguments) -> tuple[int, ...]:
    return tuple(number for name, number in _SWITCHES.items() if arguments.on(name))


def _program() -> str:
    path = criu.find()
    if not path:
        raise NotFound(criu.MISSING)
    return path

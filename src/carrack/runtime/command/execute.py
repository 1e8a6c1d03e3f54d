"""`exec`: one more process in a running container."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.oci.runtime_spec import Capabilities, Process, Seccomp, User
from carrack.runtime import listener, seccomp
from carrack.runtime.command import console
from carrack.runtime.command.arguments import Arguments, UsageError, flag
from carrack.runtime.command.lifecycle import hook_state
from carrack.runtime.command.log import log
from carrack.runtime.command.store import Container, Store, write_pid
from carrack.runtime.create import Stdio, enter

EXEC_FLAGS = (
    flag("console-socket"),
    flag("cwd"),
    flag("env e", many=True),
    flag("tty t", value=False),
    flag("user u"),
    flag("additional-gids g", many=True),
    flag("process p"),
    flag("detach d", value=False),
    flag("pid-file"),
    flag("process-label"),
    flag("apparmor"),
    flag("no-new-privs", value=False),
    flag("cap c", many=True),
    flag("preserve-fds"),
    flag("cgroup"),
    flag("ignore-paused", value=False),
)


def execute(store: Store, arguments: Arguments) -> int:
    """Run the process; without --detach, stay until it ends and take its exit code."""
    if not arguments.positional:
        raise UsageError("container id cannot be empty")
    container = store.get(arguments.positional[0])
    status = container.status()
    if status == "stopped":
        raise Conflict("cannot exec in a stopped container")
    if status == "paused" and not arguments.on("ignore-paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    if arguments.has("cgroup"):
        raise InvalidParameter("exec --cgroup is not supported")
    wanted = _process(container, arguments)
    log("debug", f"exec {' '.join(wanted.args)} in {container.record.id}, init {container.record.pid}")
    detached = arguments.on("detach")
    _check_terminal(wanted, arguments, detached)
    return _enter(container, wanted, arguments, detached)


def _enter(container: Container, wanted: Process, arguments: Arguments, detached: bool) -> int:
    linux = container.record.spec.linux
    profile: Seccomp | None = linux.seccomp if linux else None
    pidfd = os.pidfd_open(container.record.pid)
    try:
        entered = enter(
            pidfd,
            wanted,
            cgroup=container.cgroup(),
            stdio=Stdio(0, 1, 2),
            console=wanted.terminal,
            seccomp_filter=seccomp.compile(profile) if profile else b"",
            user_namespace=linux is not None and any(each.type == "user" for each in linux.namespaces),
            preserve_fds=arguments.number("preserve-fds", 0) or 0,
            agent=_agent(container, profile),
        )
    finally:
        os.close(pidfd)
    if arguments.text("pid-file"):
        write_pid(arguments.text("pid-file"), entered.pid)
    if detached:
        if entered.console_fd >= 0:
            console.hand_over(arguments.text("console-socket"), entered.console_fd)
        return 0
    return console.attend_process(entered.pidfd, entered.console_fd)


def _agent(container: Container, profile: Seccomp | None) -> Callable[[int, int], None] | None:
    if profile is None or not profile.listener_path:
        return None
    state = hook_state(container, "running")
    return lambda listener_fd, pid: listener.hand_over(profile, listener_fd, pid, state)


def _check_terminal(wanted: Process, arguments: Arguments, detached: bool) -> None:
    socket = arguments.text("console-socket")
    if detached and wanted.terminal and not socket:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket")
    if socket and not (detached and wanted.terminal):
        raise UsageError("cannot use console socket if runc will not detach or allocate tty")


def _process(container: Container, arguments: Arguments) -> Process:
    """The process of --process, or the container's own with what the flags change."""
    own = container.record.spec.process or Process()
    if arguments.text("process"):
        try:
            with open(arguments.text("process"), "rb") as file:
                return msgspec.json.decode(file.read(), type=Process)
        except FileNotFoundError:
            raise NotFound(f"open {arguments.text('process')}: no such file or directory") from None
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"{arguments.text('process')}: {error}") from None
    command = tuple(arguments.positional[1:])
    if not command:
        raise UsageError("process args cannot be empty")
    return Process(
        args=command,
        cwd=arguments.text("cwd") or own.cwd,
        env=(*own.env, *arguments.texts("env")),
        terminal=arguments.on("tty"),
        user=_user(own.user, arguments),
        capabilities=_capabilities(own.capabilities, arguments.texts("cap")),
        rlimits=own.rlimits,
        no_new_privileges=arguments.on("no-new-privs") if arguments.has("no-new-privs") else own.no_new_privileges,
        apparmor_profile=arguments.text("apparmor") or own.apparmor_profile,
        selinux_label=arguments.text("process-label") or own.selinux_label,
        oom_score_adj=own.oom_score_adj,
    )


def _capabilities(own: Capabilities | None, added: tuple[str, ...]) -> Capabilities | None:
    """--cap adds to every set but the inheritable one, and to the ambient one only what could be inherited there."""
    if not added:
        return own
    sets = own or Capabilities()

    def more(names: tuple[str, ...]) -> tuple[str, ...]:
        return (*names, *(name for name in added if name not in names))

    return Capabilities(more(sets.bounding), more(sets.effective), sets.inheritable, more(sets.permitted), sets.ambient)


def _user(own: User, arguments: Arguments) -> User:
    extra = tuple(_number(each, "additional gids") for each in arguments.texts("additional-gids"))
    if not arguments.text("user"):
        return msgspec.structs.replace(own, additional_gids=(*own.additional_gids, *extra))
    uid, colon, gid = arguments.text("user").partition(":")
    return User(
        uid=_number(uid, "uid"),
        gid=_number(gid, "gid") if colon else own.gid,
        umask=own.umask,
        additional_gids=(*own.additional_gids, *extra),
    )


def _number(text: str, what: str) -> int:
    if not text.isdigit() or int(text) >= 1 << 32:
        raise InvalidParameter(f"parsing {text} as int for {what} failed: invalid syntax")
    return int(text)

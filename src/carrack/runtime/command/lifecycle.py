"""create, start, run, kill, delete: a container's life as the runtime-spec tells it."""

from __future__ import annotations

import os
import re
import signal
import time

import msgspec

from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.kernel import process
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import RuntimeSpec, SpecMount
from carrack.runtime import cgroups, hooks
from carrack.runtime.cgroups.layout import own_paths
from carrack.runtime.command import console
from carrack.runtime.command.arguments import Arguments, Flag, UsageError, flag
from carrack.runtime.command.log import debugging, log, warn
from carrack.runtime.command.store import Container, Record, Store, hold_gate, now, process_stat, release_gate, write_pid
from carrack.runtime.create import Creation, Stdio, create
from carrack.runtime.criu.restore import Restoration
from carrack.runtime.failure import InitFailed

CREATE_FLAGS = (
    flag("bundle b"),
    flag("config f"),
    flag("console-socket"),
    flag("pid-file"),
    flag("no-pivot", value=False),
    flag("no-new-keyring", value=False),
    flag("preserve-fds"),
)
RUN_FLAGS: tuple[Flag, ...] = (
    *CREATE_FLAGS,
    flag("detach d", value=False),
    flag("keep", value=False),
    flag("no-subreaper", value=False),
)
DELETE_FLAGS = (flag("force f", value=False), flag("regex r", value=False))
KILL_FLAGS = (flag("all a", value=False),)

_KILL_SECONDS = 10.0


def one_identifier(arguments: Arguments) -> str:
    """The container's id among the arguments. Raises UsageError."""
    if not arguments.positional or not arguments.positional[0]:
        raise UsageError("container id cannot be empty")
    return arguments.positional[0]


# ── create, start, run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def create_container(store: Store, arguments: Arguments) -> int:
    """`create`: make everything up to the program, and leave init waiting."""
    identifier = only(arguments)
    spec, bundle = load(arguments)
    _check_terminal(spec, arguments, detached=True)
    _, creation = _make(store, identifier, spec, bundle, arguments)
    creation.detach()
    return 0


def start(store: Store, arguments: Arguments) -> int:
    """`start`: let a created container's program run."""
    _start(store.get(only(arguments)))
    return 0


def _start(container: Container) -> None:
    status = container.status()
    if status == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if status != "created":
        raise Conflict("cannot start an already running container")
    release_gate(container.gate)
    _poststart(container)


def _poststart(container: Container) -> None:
    wanted = container.record.spec.hooks
    if wanted and wanted.poststart:
        try:
            hooks.run(wanted.poststart, hook_state(container, "running"), "poststart")
        except InitFailed:
            _terminate(container)
            raise


def run(store: Store, arguments: Arguments) -> int:
    """`run`: create and start; without --detach, stay until it ends and take its exit code."""
    identifier = only(arguments)
    spec, bundle = load(arguments)
    detached = arguments.on("detach")
    _check_terminal(spec, arguments, detached=detached)
    if not detached and not arguments.on("no-subreaper"):
        process.become_subreaper()
    container, creation = _make(store, identifier, spec, bundle, arguments)
    try:
        _start(container)
    except (Conflict, InitFailed):
        discard(container)
        raise
    if detached:
        creation.detach()
        return 0
    code = console.attend(creation)
    if not arguments.on("keep"):
        discard(container)
    return code


def only(arguments: Arguments) -> str:
    """The container's id, and nothing besides. Raises UsageError."""
    identifier = one_identifier(arguments)
    if len(arguments.positional) > 1:
        raise UsageError('"carrack-oci" requires exactly 1 argument')
    return identifier


def load(arguments: Arguments) -> tuple[RuntimeSpec, str]:
    """config.json of the bundle, its paths made absolute; the bundle becomes the working directory."""
    for name in ("pid-file", "console-socket"):
        if arguments.text(name):
            arguments.add(name, os.path.abspath(arguments.text(name)))
    bundle = os.path.abspath(arguments.text("bundle", "."))
    try:
        os.chdir(bundle)
    except OSError as error:
        raise NotFound(f"chdir {bundle}: {(error.strerror or '').lower()}") from None
    path = arguments.text("config", "config.json")
    try:
        with open(path, "rb") as file:
            spec = msgspec.json.decode(file.read(), type=RuntimeSpec)
    except FileNotFoundError:
        raise NotFound(f"JSON specification file {path} not found") from None
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"{path}: {error}") from None
    _check(spec)
    return spec, bundle


def _check(spec: RuntimeSpec) -> None:
    if spec.root is None:
        raise InvalidParameter("root must be specified in the config")
    if spec.process is None:
        raise InvalidParameter("process property must not be empty")
    if not spec.process.cwd:
        raise InvalidParameter("Cwd property must not be empty")
    if not spec.process.cwd.startswith("/"):
        raise InvalidParameter("Cwd must be an absolute path")
    if not spec.process.args:
        raise InvalidParameter("args must not be empty")
    if not os.path.isdir(spec.root.path):
        raise NotFound(f"invalid rootfs: {os.path.abspath(spec.root.path)} is no directory")


def _check_terminal(spec: RuntimeSpec, arguments: Arguments, *, detached: bool) -> None:
    terminal = spec.process is not None and spec.process.terminal
    socket = arguments.text("console-socket")
    if detached and terminal and not socket:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket")
    if (not detached or not terminal) and socket:
        raise UsageError("cannot use console socket if runc will not detach or allocate tty")


def _make(store: Store, identifier: str, spec: RuntimeSpec, bundle: str, arguments: Arguments) -> tuple[Container, Creation]:
    path = cgroup_path(spec, identifier)
    directory = store.reserve(identifier)
    made: Creation | None = None
    complete = False
    try:
        look_at_cgroup(path)
        wanted = cgroups.plan(path, spec.linux.resources if spec.linux else None)
        gate = hold_gate(directory)
        root = os.path.abspath(spec.root.path) if spec.root else ""
        made = create(
            absolute(spec, bundle),
            rootfs=(Mount("bind", root, "", ("rbind",)),),
            cgroup=wanted,
            stdio=Stdio(0, 1, 2),
            container_id=identifier,
            bundle=bundle,
            die_with_parent=False,
            pivot=not arguments.on("no-pivot"),
            new_keyring=not arguments.on("no-new-keyring"),
            gate_fd=gate,
            preserve_fds=_preserved(arguments),
            root_path=root,
            trace=debugging(),
        )
        os.close(gate)
        made.ready()
        for warning in made.warnings:
            warn(warning)
        for step, microseconds in made.trace:
            log("debug", f"{step}: {microseconds} us")
        container = Container(directory, record(identifier, made, spec, bundle, root, path))
        if made.console_fd >= 0 and arguments.text("console-socket"):
            console.hand_over(arguments.text("console-socket"), made.console_fd)
        store.save(container)
        if arguments.text("pid-file"):
            write_pid(arguments.text("pid-file"), made.pid)
        os.close(made.rootfs_fd)
        made.rootfs_fd = -1
        complete = True
        return container, made
    finally:
        if not complete:
            if made is not None:
                made.abandon()
            Container(directory, nothing()).forget()


def nothing() -> Record:
    return Record("", 0, 0, "", "", "", "", RuntimeSpec())


def look_at_cgroup(path: str) -> None:
    """Refuse a frozen cgroup (Conflict), warn of one in which something runs."""
    try:
        frozen = cgroups.open(path).frozen()
    except OSError:
        return
    if frozen:
        raise Conflict("container's cgroup unexpectedly frozen")
    inside = cgroups.open(path).processes()
    if inside:
        warn(f"container's cgroup is not empty: {len(inside)} process(es) found")


def record(identifier: str, made: Creation | Restoration, spec: RuntimeSpec, bundle: str, root: str, path: str) -> Record:
    """What the store is to remember of a container that was made."""
    _, started = process_stat(made.pid)
    terminal = spec.process is not None and spec.process.terminal
    descriptors = () if terminal else tuple(os.readlink(f"/proc/self/fd/{place}") for place in range(3))
    return Record(identifier, made.pid, started, bundle, root, path, now(), spec, spec.oci_version, terminal, descriptors)


def _preserved(arguments: Arguments) -> int:
    listen = os.environ.get("LISTEN_FDS", "")
    return (arguments.number("preserve-fds", 0) or 0) + (int(listen) if listen.isdigit() else 0)


def absolute(spec: RuntimeSpec, bundle: str) -> RuntimeSpec:
    """Sources of binds are relative to the bundle; LISTEN_FDS travels on (systemd's socket activation)."""
    mounts = tuple(_absolute_mount(each, bundle) for each in spec.mounts)
    process_ = spec.process
    if process_ is not None and os.environ.get("LISTEN_FDS"):
        extra = (f"LISTEN_FDS={os.environ['LISTEN_FDS']}", "LISTEN_PID=1")
        process_ = msgspec.structs.replace(process_, env=(*process_.env, *extra))
    return msgspec.structs.replace(spec, mounts=mounts, process=process_)


def _absolute_mount(wanted: SpecMount, bundle: str) -> SpecMount:
    is_bind = wanted.type == "bind" or "bind" in wanted.options or "rbind" in wanted.options
    if not is_bind or wanted.source.startswith("/"):
        return wanted
    return msgspec.structs.replace(wanted, source=os.path.join(bundle, wanted.source))


def cgroup_path(spec: RuntimeSpec, identifier: str) -> str:
    """`linux.cgroupsPath`, or one made of the identifier."""
    wanted = spec.linux.cgroups_path if spec.linux else ""
    return os.path.normpath("/" + (wanted or identifier))


def hook_state(container: Container, status: str) -> hooks.State:
    """What hooks read on their standard input (runtime-spec `runtime.md`, State)."""
    record = container.record
    pid = record.pid if status != "stopped" else 0
    return hooks.State(record.oci_version, record.id, status, pid, record.bundle, record.spec.annotations)


# ── kill, delete ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def kill(store: Store, arguments: Arguments) -> int:
    """`kill`: a signal to init, or with --all to everything in the cgroup."""
    container = store.get(one_identifier(arguments))
    number = signal_number(arguments.positional[1] if len(arguments.positional) > 1 else "SIGTERM")
    everyone = arguments.on("all")
    if container.status() == "stopped":
        if everyone or not container.owns_pid_namespace():
            _signal_all(container, number)
            return 0
        raise Conflict("container not running")
    if everyone:
        _signal_all(container, number)
    else:
        os.kill(container.record.pid, number)
    if number == signal.SIGKILL and container.cgroup().frozen():
        container.cgroup().thaw()
    return 0


def _signal_all(container: Container, number: int) -> None:
    if number == signal.SIGKILL:
        container.cgroup().kill()
        return
    for pid in container.cgroup().processes():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def signal_number(word: str) -> int:
    """``9``, ``KILL``, ``SIGKILL``, ``RTMIN+3``. Raises InvalidParameter."""
    if word.isdigit():
        if 0 <= int(word) <= 64:
            return int(word)
        raise InvalidParameter(f"unknown signal {word!r}")
    name = word.upper()
    name = name if name.startswith("SIG") else "SIG" + name
    stem, plus, offset = name.partition("+")
    found = getattr(signal, stem, None)
    if not isinstance(found, signal.Signals) or (plus and not offset.isdigit()):
        raise InvalidParameter(f'unknown signal "{word}"')
    return int(found) + (int(offset) if plus else 0)


def delete(store: Store, arguments: Arguments) -> int:
    """`delete`: forget a container that has ended; --force ends it first, and minds no absence."""
    force = arguments.on("force")
    if arguments.on("regex"):
        pattern = re.compile(one_identifier(arguments))
        for each in store.list():
            if pattern.search(each.record.id):
                _delete(each, force)
        return 0
    try:
        container = store.get(only(arguments))
    except NotFound:
        if force:
            _remove_leftovers(store, arguments.positional[0])
            return 0
        raise
    _delete(container, force)
    return 0


def _delete(container: Container, force: bool) -> None:
    status = container.status()
    if status not in ("stopped", "created") and not force:
        raise Conflict(f"cannot delete container {container.record.id} that is not stopped: {status}")
    _terminate(container)
    discard(container)


def _remove_leftovers(store: Store, identifier: str) -> None:
    """A directory without a state: what a create that was killed left."""
    directory = os.path.join(store.root, identifier)
    if os.path.isdir(directory) and not os.path.exists(os.path.join(directory, "state.json")):
        Container(directory, nothing()).forget()


def _terminate(container: Container) -> None:
    """SIGKILL init, and wait until it is gone."""
    if container.status() == "stopped":
        return
    cgroup = container.cgroup()
    try:
        os.kill(container.record.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    if cgroup.frozen():
        cgroup.thaw()
    _thaw_elsewhere(container)
    deadline = time.monotonic() + _KILL_SECONDS
    while container.status() != "stopped":
        if time.monotonic() > deadline:
            raise Conflict("container init still running")
        time.sleep(0.002)


def _thaw_elsewhere(container: Container) -> None:
    """Someone may have moved init into another frozen cgroup, where SIGKILL waits for the thaw (version 1)."""
    try:
        with open(f"/proc/{container.record.pid}/cgroup", encoding="utf-8") as lines:
            path = own_paths(lines.read()).get("freezer", "")
    except FileNotFoundError:
        return
    if path and path not in ("/", container.record.cgroup):
        other = cgroups.open(path)
        if other.frozen():
            other.thaw()


def discard(container: Container) -> None:
    """Remove the cgroup and what is left in it, run the poststop hooks, forget the state."""
    cgroup = container.cgroup()
    cgroup.kill()
    cgroup.remove()
    wanted = container.record.spec.hooks
    container.forget()
    if wanted and wanted.poststop:
        try:
            hooks.run(wanted.poststop, hook_state(container, "stopped"), "poststop")
        except InitFailed as error:
            warn(error.cause)

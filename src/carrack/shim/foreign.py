"""A container made by another OCI runtime, crun or runc or what the administrator names: `create`, `start`, `delete` on a bundle.

    maker ── unshare(mount) ── root and held binds attached ── posix_spawn `RUNTIME create` ──▶ init, which the shim inherits

The root is mounted in the maker's own mount namespace, which the runtime copies; with both gone only the container's is left, so no
mount stays behind (law 6). Init is reparented to the shim, a subreaper for this, and watched, signalled and reaped like our own;
execs join its namespaces as ever. The runtime's state lies in the bundle, so that removing one directory forgets it.
"""

from __future__ import annotations

import _socket
import os
import posixpath
import select
import signal
import stat
import time
from collections.abc import Callable

import msgspec

from carrack.archive.removal import remove_tree
from carrack.errors import CarrackError, SystemFailure
from carrack.kernel import mount, paths, process
from carrack.oci.runtime_spec import Process, Root, RuntimeSpec, User
from carrack.runtime import cgroups, rootfs, staging, users
from carrack.runtime.cgroups import Cgroup
from carrack.runtime.creation import kill_and_reap, remove_cgroup
from carrack.runtime.failure import StartFailed, exit_code_of
from carrack.runtime.program import Stdio, read_user_file
from carrack.runtime.staging import Staging
from carrack.shim.messages import ForeignRuntime, StartOrder

_CREATE_SECONDS = 60.0
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONSOLE_SOCKET = "tty"  # short, as the path of a socket must be
_LOG = "log.json"


class ForeignCreation:
    """The same to the maker as `runtime.creation.Creation`: created, and waiting for `go`."""

    def __init__(self, order: StartOrder, runtime: ForeignRuntime, stdio: Stdio | None) -> None:
        """Raises StartFailed with everything undone. Leaves the caller in a mount namespace of its own."""
        self.cgroup: Cgroup = cgroups.open(order.cgroup)
        self.pid, self.pidfd = 0, -1
        self.network_namespace_fd = self.rootfs_fd = self.console_fd = -1
        self.warnings: list[str] = []
        self.trace: list[tuple[str, int]] = []
        self._order = order
        self._runtime = runtime
        self._staging: Staging | None = None
        self._last = time.monotonic_ns()
        try:
            self._make(stdio)
        except CarrackError as error:
            self.abandon()
            raise _failed(error.message) from None
        except OSError as error:
            self.abandon()
            raise _failed(f"{error.filename or runtime.path}: {error.strerror or error}") from error
        except StartFailed:
            self.abandon()
            raise

    def ready(self, before_answer: Callable[[int], None] = lambda _: None) -> None:
        """Nothing: `create` has returned when everything is there."""

    def go(self) -> None:
        """Let init execute the program. Raises StartFailed, everything undone."""
        try:
            self._call("start", self._order.container_id)
        except StartFailed:
            self.abandon()
            raise
        self._mark("start")

    def abandon(self) -> None:
        """Kill init, take everything back. Safe to call twice."""
        if self.pidfd >= 0:
            kill_and_reap(self.pidfd)
        if self._staging is not None:
            self._staging.clear()
        forget(self._runtime, self._order.container_id)
        _reap_all()  # or what is dead holds the cgroup
        for fd in (self.pidfd, self.rootfs_fd, self.network_namespace_fd, self.console_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.rootfs_fd = self.network_namespace_fd = self.console_fd = -1
        remove_cgroup(self.cgroup)

    # ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make(self, stdio: Stdio | None) -> None:
        order, bundle = self._order, self._runtime.bundle
        forget(self._runtime, order.container_id)  # what an earlier run's lost shim has left
        os.makedirs(f"{bundle}/rootfs", mode=0o711)
        users_fd = staging.users_of(order.spec)
        root_fd, self.rootfs_fd = rootfs.take_root(order.rootfs, user_namespace_fd=users_fd)
        spec = msgspec.structs.replace(order.spec, process=_looked_up(order.spec.process or Process(), root_fd))
        process.become_subreaper()  # an init that fails is ours to reap; one that lives goes on to the shim when we end
        self._staging = staged = Staging(bundle)
        _hide_unified(staged)
        staged.put(root_fd, staged.root)
        spec = staged.hold_binds(spec, users_fd)
        with open(f"{bundle}/config.json", "wb") as file:
            file.write(msgspec.json.encode(document(spec)))
        self._mark("bundle")
        self._create(spec, stdio)
        self._mark("create")

    def _create(self, spec: RuntimeSpec, stdio: Stdio | None) -> None:
        bundle, container_id = self._runtime.bundle, self._order.container_id
        words = ["create", "--bundle", bundle, "--pid-file", f"{bundle}/pid"]
        if stdio is None:
            listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            try:
                listening.bind(f"{bundle}/{_CONSOLE_SOCKET}")
                listening.listen(1)
                self._call(*words, "--console-socket", f"{bundle}/{_CONSOLE_SOCKET}", container_id)
                self.console_fd = _receive_console(listening)
            finally:
                listening.close()
        else:
            self._call(*words, container_id, stdio=stdio)
        with open(f"{bundle}/pid", encoding="ascii") as file:
            self.pid = int(file.read())
        self.pidfd = os.pidfd_open(self.pid)
        namespaces = spec.linux.namespaces if spec.linux else ()
        if any(each.type == "network" for each in namespaces):
            self.network_namespace_fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _call(self, *words: str, stdio: Stdio | None = None) -> None:
        code = call(self._runtime, *words, stdio=stdio)
        if code != 0:
            raise _failed(_last_words(self._runtime.bundle) or f"{self._runtime.path} {words[0]} ended with status {code}")

    def _mark(self, step: str) -> None:
        now = time.monotonic_ns()
        self.trace.append((f"{posixpath.basename(self._runtime.path)} {step}", (now - self._last) // 1000))
        self._last = now


def _hide_unified(staged: Staging) -> None:
    """crun refuses a machine of cgroup v1 where the v2 hierarchy beside it has controllers: it is shown an empty directory, and
    what it writes there goes with this namespace."""
    layout = cgroups.detect()
    if layout.version == 1 and layout.unified:
        staging.stop_propagation(layout.unified)
        staged.put(mount.new_file_system("tmpfs", source="tmpfs"), layout.unified)


def _reap_all() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def call(runtime: ForeignRuntime, *words: str, stdio: Stdio | None = None) -> int:
    """Run the runtime's program to its end; its exit status, 127 when it cannot be executed."""
    program = [runtime.path, *runtime.arguments, "--root", f"{runtime.bundle}/state", "--log", f"{runtime.bundle}/{_LOG}"]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) if stdio is None else _own_null()
    chosen = [fd if fd >= 0 else null for fd in stdio] if stdio is not None else [null, null, null]
    name, _, value = _PATH.partition("=")
    try:
        pid = os.posix_spawn(
            runtime.path,
            [*program, "--log-format", "json", *words],
            {name: value},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(chosen)],
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD),
            setsigmask=(),
        )
    except OSError:
        return 127
    finally:
        os.close(null)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _own_null() -> int:
    """A null device of its own: crun gives the program's standard streams to its user, and the host's would be among them."""
    tree_fd = mount.new_file_system("tmpfs", source="tmpfs")
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=tree_fd)
        os.chmod("null", 0o666, dir_fd=tree_fd)
        return os.open("null", os.O_RDWR | os.O_CLOEXEC, dir_fd=tree_fd)
    finally:
        os.close(tree_fd)


def forget(runtime: ForeignRuntime, container_id: str) -> None:
    """`delete` a container whose init is dead or shall be, and remove its bundle. Idempotent."""
    if os.path.isdir(f"{runtime.bundle}/state/{container_id}"):
        call(runtime, "delete", "--force", container_id)
    try:
        bundle_fd = os.open(runtime.bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(bundle_fd, "state")
        for name in os.listdir(bundle_fd):
            _remove_empty(bundle_fd, name)  # never what is mounted there
        os.rmdir(runtime.bundle)
    except (OSError, SystemFailure):
        pass  # the daemon looks again at its start
    finally:
        os.close(bundle_fd)


def _remove_empty(directory_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=directory_fd)


def document(spec: RuntimeSpec) -> object:
    """`config.json` with what other runtimes insist on and our own encoding leaves out when it is the default."""
    root = Root(path="rootfs", readonly=spec.root is not None and spec.root.readonly)
    written = msgspec.to_builtins(msgspec.structs.replace(spec, root=root))
    process_document = written["process"]
    process_document.setdefault("cwd", "/")
    wanted = spec.process.user if spec.process else User()
    process_document["user"] = {"uid": wanted.uid, "gid": wanted.gid, "additionalGids": list(wanted.additional_gids)}
    if wanted.umask is not None:
        process_document["user"]["umask"] = wanted.umask
    written["ociVersion"] = "1.0.2"  # nothing newer is in it, and older runtimes look
    return written


def _looked_up(wanted: Process, root_fd: int) -> Process:
    """Names of users and groups, and HOME, which a config.json has no words for, by the container's own files."""
    passwd, group = _file(root_fd, "etc/passwd"), _file(root_fd, "etc/group")
    user = wanted.user
    if user.username:
        found = users.resolve(user.username, passwd, group)
        wished = (*user.additional_gids, *(users.resolve_group(name, group) for name in user.additional_groups))
        uid, gid, home = found.uid, found.gid, found.home
        groups = tuple(dict.fromkeys((gid, *found.groups, *wished)))
    else:
        uid, gid, groups, home = user.uid, user.gid, user.additional_gids, users.home_of(user.uid, passwd)
    environment = wanted.env
    if not any(variable.startswith("HOME=") and variable != "HOME=" for variable in environment):
        environment = (*(variable for variable in environment if variable != "HOME="), f"HOME={home}")
    who = User(uid=uid, gid=gid, umask=user.umask, additional_gids=groups)
    return msgspec.structs.replace(wanted, user=who, env=environment)


def _file(root_fd: int, path: str) -> bytes:
    """A file of the container, no link leading out; empty when it is missing or no ordinary file."""
    try:
        fd = paths.open_in(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    return read_user_file(fd)


def _receive_console(listening: _socket.socket) -> int:
    """The pty's master, which the runtime has sent. Raises StartFailed."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    if not poll.poll(_CREATE_SECONDS * 1000):
        raise _failed("the runtime has sent no console")
    fd, _ = listening._accept()  # type: ignore[attr-defined]  # what socket.accept is made of
    sender = _socket.socket(fileno=fd)
    _, ancillary, _, _ = sender.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    sender.close()
    for level, kind, content in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            return int.from_bytes(content[:4], "little")
    raise _failed("the runtime has sent no console")


class _Line(msgspec.Struct):
    msg: str = ""
    level: str = ""


def _last_words(bundle: str) -> str:
    """The error that the runtime logged last."""
    try:
        with open(f"{bundle}/{_LOG}", "rb") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return ""
    found = ""
    for line in lines:
        try:
            entry = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError:
            continue
        found = entry.msg if entry.level in ("error", "fatal") or not found else found
    return found


def _failed(cause: str) -> StartFailed:
    for errno_text in ("No such file or directory", "Permission denied", "Not a directory", "Is a directory"):
        cause = cause.replace(errno_text, errno_text.lower())  # crun has libc's words; Docker's client looks for Go's
    text = f"failed to create task for container: failed to create shim task: OCI runtime create failed: {cause}: unknown"
    code = exit_code_of(cause)
    return StartFailed(text, cause=cause, exit_code=code, kind="InvalidParameter" if code != 128 else "SystemFailure")

"""The maker: the first hand of a starting shim, which makes the container.

    starting ──Created──▶ waiting for Go ──Started──▶ the container is parked with its sleeper
        │                       │             └──with clients attached──▶ the maker goes on as a shim awake
        └──StartFailed─────────┴──Abandon, or the daemon dies──▶ all is undone

It holds the daemon's conversation until the program runs. Making a container runs most of the runtime, and the memory that this
writes goes with the maker, as do the order's secrets: later hands never read them. Where clients are attached a shim is needed
awake at once; a fork of its own would cost a short `docker run` a tenth of its time.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import time
from typing import NoReturn

import msgspec

from carrack.errors import CarrackError, SystemFailure
from carrack.kernel import process as kernel_process
from carrack.kernel import title
from carrack.kernel.loop import Loop
from carrack.runtime import cgroups, hooks
from carrack.runtime.create import Creation, StartFailed, Stdio, create
from carrack.runtime.creation import remove_cgroup
from carrack.runtime.criu.restore import Restoration, Wish
from carrack.runtime.failure import InitFailed
from carrack.shim import exit_record, foreign, handover, listener, messages, open_files, tenancy, wire
from carrack.shim.aside import AsideCompressor
from carrack.shim.foreign import ForeignCreation
from carrack.shim.guests import Guests
from carrack.shim.handover import PARKED, Berth, Container, Running
from carrack.shim.logs.opening import open_log
from carrack.shim.messages import Checkpoint, Message, StartOrder
from carrack.shim.pipes import Pipes, make_pipes
from carrack.shim.shim import Shim
from carrack.shim.shim_order import ShimOrder, shim_orders

TAKEN_BACK = "the start was taken back"
TITLE = "carrack-shim "
TITLE_BYTES = 96
"""So many are told to the sleeper: enough for TITLE with the id of a container, and to cover the title that the zygote has left."""
DEATH_SECONDS = 10.0
RUNS = b"!"
"""The container's program runs: told to the sleeper, once the container is parked or in this hand."""
INHERITS = b"+"
"""Before the title: the shim is to adopt the processes that lose their parent, and to answer."""


class TakenBack(Exception):
    """The daemon has abandoned the start."""


class DaemonGone(TakenBack):
    """It has died, or closed the conversation."""


def work(orderer_fd: int, sleeper_fd: int, berth: Berth, title_address: int) -> NoReturn:
    """The maker's whole life; its order waits at `orderer_fd`. The sleeper is told its title, and that the program runs.

    Exit status 0: the daemon and every client have been told of a start that failed, or the container has been seen to its end.
    """
    code = 1
    try:
        kernel_process.close_all_but((0, 1, 2, orderer_fd, sleeper_fd, *berth.descriptors))
        order_fd, fds = _receive(orderer_fd)
        order = wire.read_sealed(order_fd)
        if not isinstance(order, StartOrder):
            raise SystemFailure(f"not an order to start a container: {type(order).__name__}")
        open_files.restore_limit()
        born_to_sleeper = _introduce(order, sleeper_fd, berth)
        container = _serve(order, order_fd, fds, berth)
        if container is None:
            code = 0
        elif born_to_sleeper and container.attached and not container.early:
            title.show(title_address, _title_of(order))
            del order  # with its secrets
            code = _go_on(container, sleeper_fd, berth)
        else:
            handover.park(berth, container)
            os.write(sleeper_fd, RUNS)
            handover.withdraw(berth)
            code = PARKED
    except (ConnectionError, EOFError):  # who ordered it has gone, or the sleeper
        pass
    except CarrackError as error:
        os.write(2, f"carrack: {error.message}\n".encode())
    except Exception as error:  # the process's root: say it, and end  # noqa: BLE001
        os.write(2, f"carrack: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _receive(orderer_fd: int) -> tuple[int, list[int]]:
    """The order, sealed, and the descriptors that came with it. Raises SystemFailure; EOFError when no order comes."""
    orderer = _socket.socket(fileno=orderer_fd)
    if not listener.is_from_root(orderer):
        raise SystemFailure("an order to start a container comes from another user than root")
    payload, fds = wire.unpack(*wire.receive_packet(orderer))
    orderer.close()
    if not wire.is_sealed(payload, fds):
        raise SystemFailure("an order to start a container is not sealed")
    return fds[0], fds[1:]


def _go_on(container: Container, sleeper_fd: int, berth: Berth) -> int:
    """Be the shim awake of the container just made. Returns the exit status."""
    die_with_sleeper(berth)
    os.write(sleeper_fd, RUNS)
    os.close(sleeper_fd)
    handover.withdraw(berth)
    open_files.raise_limit()
    order = wire.decode_sealed(container.order_fd, shim_orders)
    return Shim(order, container, berth).run()


def die_with_sleeper(berth: Berth) -> None:
    """A hand whose sleeper has gone has no container: init has been killed."""
    kernel_process.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != berth.sleeper_pid:
        os._exit(1)


def _introduce(order: StartOrder, sleeper_fd: int, berth: Berth) -> bool:
    """Tell the sleeper its title. Where init will not be its child from birth (False), wait until it is to inherit orphans."""
    namespaces = order.spec.linux.namespaces if order.spec.linux else ()
    born_to_sleeper = order.runtime is None and not any(each.type == "user" and each.path for each in namespaces)
    if not born_to_sleeper:
        os.write(sleeper_fd, INHERITS)
        handover.await_reaping(berth)
    os.write(sleeper_fd, _title_of(order))
    return born_to_sleeper


def _title_of(order: StartOrder) -> bytes:
    return title.fitted(TITLE_BYTES, TITLE + order.container_id)


def _after_start(order: StartOrder, pid: int) -> None:
    """The hooks for a container whose program runs; that one fails is told, and no more: it is too late to take the start back."""
    if order.runtime is None and order.spec.hooks is not None and order.spec.hooks.poststart:
        state = hooks.State(
            order.spec.oci_version,
            order.container_id,
            "running",
            pid,
            f"{order.state_directory}/bundle",
            order.spec.annotations,
        )
        try:
            hooks.run(order.spec.hooks.poststart, state, "poststart")
        except InitFailed as error:
            os.write(2, f"carrack: {order.container_id}: {error.cause}\n".encode())


def bury(order_fd: int, fds: list[int]) -> None:
    """In the sleeper, whose maker was killed: undo what it may have made, and tell."""
    order = wire.decode_sealed(order_fd, shim_orders)
    remove_cgroup(cgroups.open(order.cgroup))
    if order.runtime is not None:
        foreign.forget(order.runtime, order.container_id)
    listener.remove(order.socket_path)
    _tell_failure(order, fds, _failed("the process that makes the container died", SystemFailure.__name__))


def _serve(order: StartOrder, order_fd: int, fds: list[int], berth: Berth) -> Container | None:
    """The container that runs now; None: it does not, and everyone has been told."""
    if order.version > messages.VERSION:
        reason = f"the zygote speaks protocol version {messages.VERSION}, the order {order.version}"
        _tell_failure(order, fds, StartFailed(reason, cause=reason, exit_code=128, kind="Unavailable"))
        return None
    making = _Making(order, order_fd, fds[0], berth.sleeper_pid)
    try:
        handover.deposit(berth, order_fd, fds)
        return making.make(fds)
    except TakenBack as taken_back:
        making.undo()
        alone = isinstance(taken_back, DaemonGone)
        _send_away(order, fds, messages.Exited(128, time.time_ns(), error=TAKEN_BACK), alone=alone)
    except StartFailed as failed:
        making.undo()
        _tell_failure(order, fds, failed)
    except CarrackError as error:
        making.undo()
        _tell_failure(order, fds, _failed(error.message, type(error).__name__))
    except OSError as error:
        making.undo()
        _tell_failure(order, fds, _failed(f"failed to create task for container: {error}", SystemFailure.__name__))
    except Exception as error:  # the process's root: say it, and end  # noqa: BLE001
        making.undo()
        _tell_failure(order, fds, _failed(f"{type(error).__name__}: {error}", SystemFailure.__name__))
    return None


class _Making:
    """One start under way: what exists so far, and how to take it back."""

    def __init__(self, order: StartOrder, order_fd: int, conversation_fd: int, sleeper_pid: int) -> None:
        self._order = order
        self._order_fd = order_fd
        self._sleeper_pid = sleeper_pid
        self._daemon = _socket.socket(fileno=os.dup(conversation_fd))
        self._early: list[tuple[bytes, list[int]]] = []
        self._told_to_go = False
        self._creation: Creation | ForeignCreation | Restoration | None = None
        self._init_fd = -1
        self._pipes: Pipes | None = None
        self._tenancy_fd = -1
        self._listening: _socket.socket | None = None

    def make(self, fds: list[int]) -> Container:
        """Everything up to Started. Raises TakenBack, StartFailed, CarrackError or OSError: call `undo` then."""
        order = self._order
        self._tenancy_fd = tenancy.take(order.state_directory)
        exit_record.remove(order.state_directory)
        self._creation = creation = self._create()
        self._init_fd = os.dup(creation.pidfd)
        self._listening = listener.bind(order.socket_path)
        open_log(order.log, AsideCompressor(Loop()))  # the shim opens it for itself: here a log that cannot be stops the start
        self._tell(
            messages.Created(creation.pid, tuple(creation.warnings)),
            [fd for fd in (creation.pidfd, creation.network_namespace_fd) if fd >= 0],
        )
        told = len(creation.warnings)
        try:
            creation.ready(self._listen_until)
        except StartFailed:
            self._wait_for_go()  # the daemon is told when it asks
            raise
        memory_fd = creation.cgroup.watch_out_of_memory()
        self._wait_for_go()
        if os.getppid() != self._sleeper_pid:  # init dies with it from here on; before, it may not yet have asked to
            raise SystemFailure("the container's supervisor died")
        creation.go()
        _after_start(order, creation.pid)
        started_at = time.time_ns()
        trace = tuple(creation.trace) if order.trace else ()
        pipes = self._pipes.inodes() if self._pipes is not None else ()
        self._tell(messages.Started(started_at, tuple(creation.warnings[told:]), trace, pipes))
        return self._container(creation, started_at, memory_fd, self._listening, fds)

    def undo(self) -> None:
        """Kill init and take everything back; reaping init is its parent's, the shim's. Call it once."""
        if self._creation is not None:
            self._creation.abandon()
            _until_dead(self._init_fd)
            remove_cgroup(cgroups.open(self._order.cgroup))  # not to be had while init was there; ours until the tenancy ends
        if self._listening is not None:
            self._listening.close()
            listener.remove(self._order.socket_path)
        if self._tenancy_fd >= 0:
            os.close(self._tenancy_fd)
        for _, fds in self._early:
            wire.close_all(fds)

    def _create(self) -> Creation | ForeignCreation | Restoration:
        order = self._order
        spec = order.spec
        console = spec.process is not None and spec.process.terminal
        self._pipes = pipes = None if console else make_pipes(stdin=order.open_stdin)
        if pipes:
            self._give_pipes(pipes)
        stdio = pipes.stdio if pipes else None
        creation: Creation | ForeignCreation | Restoration
        if order.checkpoint is not None:
            creation = self._restore(order.checkpoint, stdio)
        elif order.runtime is not None:
            creation = ForeignCreation(order, order.runtime, stdio)
        else:
            creation = self._create_here(stdio, console)
        if pipes:
            pipes.close_process_ends()
        return creation

    def _give_pipes(self, pipes: Pipes) -> None:
        """In a user namespace /dev/stdout can be opened anew only when it belongs to somebody there."""
        linux = self._order.spec.linux
        if linux is None or not linux.uid_mappings:
            return
        uid = next((each.host_id for each in linux.uid_mappings if each.container_id == 0), 0)
        gid = next((each.host_id for each in linux.gid_mappings if each.container_id == 0), 0)
        for fd in pipes.stdio:
            if fd >= 0:
                os.fchown(fd, uid, gid)

    def _bundle(self) -> str:
        """Where hooks find config.json and the root, as they do below other runtimes; empty when there are none."""
        order = self._order
        if order.spec.hooks is None:
            return ""
        bundle = f"{order.state_directory}/bundle"
        os.makedirs(f"{bundle}/rootfs", mode=0o711, exist_ok=True)
        with open(f"{bundle}/config.json", "wb") as file:
            file.write(msgspec.json.encode(foreign.document(order.spec)))
        return bundle

    def _create_here(self, stdio: Stdio | None, console: bool) -> Creation:
        order, spec, bundle = self._order, self._order.spec, self._bundle()
        return create(
            spec,
            rootfs=order.rootfs,
            cgroup=cgroups.plan(order.cgroup, spec.linux.resources if spec.linux else None),
            stdio=stdio,
            console=console,
            seccomp_filter=order.seccomp,
            container_id=order.container_id,
            sibling=True,
            bundle=bundle,
            root_path=f"{bundle}/rootfs" if bundle else "/",
            trace=order.trace,
        )

    def _restore(self, checkpoint: Checkpoint, stdio: Stdio | None) -> Restoration:
        order = self._order
        return Restoration(
            order.spec,
            Wish(
                checkpoint.criu,
                checkpoint.directory,
                order.state_directory,
                order.container_id,
                bundle=self._bundle(),
                sibling=True,
            ),
            rootfs=order.rootfs,
            cgroup=cgroups.plan(order.cgroup, order.spec.linux.resources if order.spec.linux else None),
            stdio=stdio,
        )

    def _container(
        self,
        creation: Creation | ForeignCreation | Restoration,
        started_at: int,
        memory_fd: int,
        listening: _socket.socket,
        fds: list[int],
    ) -> Container:
        pipes, order = self._pipes, self._order
        linux = order.spec.linux
        clients = 1 + order.held_ports
        waiting = clients + len(order.attached)
        running = Running(
            creation.pid,
            started_at,
            console=pipes is None,
            user_namespace=linux is not None and any(each.type == "user" for each in linux.namespaces),
            watches_memory=memory_fd >= 0,
            has_input=pipes is not None and pipes.input_fd >= 0,
            has_network_namespace=creation.network_namespace_fd >= 0,
            held_ports=order.held_ports,
            attached=len(order.attached),
            waiting=tuple(each.condition for each in order.waiting),
            early=tuple((payload, len(beside)) for payload, beside in self._early),
        )
        self._daemon.close()  # a duplicate, as is the next
        os.close(self._init_fd)
        return Container(
            running,
            self._order_fd,
            fds[0],
            listening.detach(),
            creation.pidfd,
            tuple(pipes.outputs) if pipes else (creation.console_fd,),
            memory_fd,
            creation.rootfs_fd,
            self._tenancy_fd,
            pipes.input_fd if pipes else -1,
            creation.network_namespace_fd,
            held_ports=tuple(fds[1:clients]),
            attached=tuple(fds[clients:waiting]),
            waiting=tuple(fds[waiting:]),
            early=tuple(self._early),
        )

    # ── the daemon ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, message: Message, fds: list[int] | None = None) -> None:
        """Nobody to hear it is found out by who listens next."""
        try:
            wire.send(self._daemon, message, fds or ())
        except OSError:
            pass

    def _wait_for_go(self) -> None:
        while not self._told_to_go:
            self._listen()

    def _listen_until(self, answer_fd: int) -> None:
        """Hear the daemon while init is at work, until that has something to say."""
        poll = select.poll()
        poll.register(answer_fd, select.POLLIN)
        poll.register(self._daemon, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._daemon.fileno() in ready:
                self._listen()
            if answer_fd in ready:
                return

    def _listen(self) -> None:
        """One packet. What is neither Go nor Abandon is for the shim."""
        try:
            payload, fds = wire.receive_packet(self._daemon)
        except (OSError, EOFError, SystemFailure):
            raise DaemonGone from None
        if payload == _GO:
            self._told_to_go = True
        elif payload == _ABANDON:
            raise TakenBack
        else:
            self._early.append((payload, fds))


def _until_dead(pidfd: int) -> None:
    """Wait for a process that was killed; whoever is its parent reaps it."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(DEATH_SECONDS * 1000)


_GO = wire.encode(messages.Go())
_ABANDON = wire.encode(messages.Abandon())


def _tell_failure(order: StartOrder | ShimOrder, fds: list[int], failed: StartFailed) -> None:
    """To the daemon, or without one to who waits."""
    daemon = _socket.socket(fileno=os.dup(fds[0]))
    alone = False
    try:
        wire.send(daemon, messages.StartFailed(failed.message, failed.exit_code, failed.kind))
    except OSError:
        alone = True
    daemon.close()
    _send_away(order, fds, messages.Exited(failed.exit_code, time.time_ns(), error=failed.message), alone=alone)


def _send_away(order: StartOrder | ShimOrder, fds: list[int], exited: messages.Exited, *, alone: bool) -> None:
    """Let everyone go. Only without a daemon are those who wait answered: it holds their connections too, and knows more."""
    waiting = fds[1 + order.held_ports + len(order.attached) :] if alone else []
    wire.close_all(fds[: len(fds) - len(waiting)])
    if not waiting:
        return
    loop = Loop()
    guests = Guests(loop, order.log)
    for wait, fd in zip(order.waiting, waiting, strict=True):
        guests.waiters.add(wait.condition, fd)
    guests.on_empty = loop.stop
    guests.waiters.answer_all(exited)
    if not guests.empty:
        loop.run()


def _failed(message: str, kind: str) -> StartFailed:
    return StartFailed(message, cause=message, exit_code=128, kind=kind)

"""A container's shim, awake: the process beside it from its start to the end of its last client.

    asleep (`sleeper.py`) ──an event──▶ running ──init ends──▶ exited ──Forget──▶ left
                          ◀──at rest──────┘

It keeps the container's streams, log, execs and exit status, and answers whichever carrackd is connected. Without one it goes on
alone; init dies with it (law 5). It imports and opens no code (law 1). It is a hand of the container's sleeper: when nothing has
happened for a while it parks the container there and ends, with the 2.5 MB that a shim awake has of its own.
"""

from __future__ import annotations

import _socket
import os
import time
from collections.abc import Callable
from mmap import mmap

from carrack.errors import CarrackError, Conflict, NotFound
from carrack.kernel import process as kernel_process
from carrack.kernel.loop import READ, Loop
from carrack.runtime import cgroups, hooks
from carrack.runtime.create import StartFailed
from carrack.runtime.failure import InitFailed
from carrack.shim import exit_record, foreign, handover, messages, wire
from carrack.shim.aside import AsideCompressor
from carrack.shim.conversation import Conversation
from carrack.shim.execs import DRAIN_SECONDS, ExecSession, Room, shell_code
from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.guests import Guests
from carrack.shim.handover import PARKED, Berth, Container, Running
from carrack.shim.listener import Listener
from carrack.shim.logs.opening import open_log
from carrack.shim.logs.ring import RingLog
from carrack.shim.messages import Message
from carrack.shim.shim_order import ShimOrder
from carrack.shim.streams import BUFFER_BYTES, Streams

SIGKILL = 9
KILL_LOOKS, KILL_LOOK_SECONDS = 10, 0.05
RECORD_SECONDS = 2.0
"""How long those who wait are kept waiting for the daemon to record the exit."""


class Shim:
    """One container. `run` returns when there is nothing left to do, or nothing to do now."""

    def __init__(self, order: ShimOrder, container: Container, berth: Berth) -> None:
        """The container's descriptors are the shim's from now on."""
        self._order = order
        self._container = container
        self._berth = berth
        self._parked = False
        self._ringed = order.log.non_blocking_buffer_bytes > 0 and order.log.driver != "none"
        self._loop = Loop()
        self._buffer = mmap(-1, BUFFER_BYTES)
        self._streams = Streams(self._loop, self._buffer, close_input_with_client=order.stdin_once)
        self._guests = Guests(self._loop, order.log)
        self._execs: dict[str, ExecSession] = {}
        self._cgroup = cgroups.open(order.cgroup)
        self._room = Room(container.pidfd, self._cgroup, order.seccomp, user_namespace=container.running.user_namespace)
        self._out_of_memory_kills = container.running.out_of_memory_kills
        self._started_at = container.running.started_at_nanoseconds
        self._init_ended = False
        self._exited: messages.Exited | None = None
        """How init ended, once its output is complete and everyone may be told."""
        self._released = False
        self._leaving = False
        self._conversation: Conversation | None = None
        if container.conversation_fd >= 0:
            sock = _socket.socket(fileno=container.conversation_fd)
            self._conversation = Conversation(self._loop, sock, self._on_message, self._on_daemon_gone)
        listening = _socket.socket(fileno=container.listener_fd)
        self._listener = Listener(self._loop, order.socket_path, self._on_connection, listening)
        self._begin()

    def run(self) -> int:
        """Returns what the process is to exit with: 0, or PARKED."""
        self._loop.when_idle(self._order.idle_seconds, self._park_if_at_rest)
        self._loop.run()
        return PARKED if self._parked else 0

    def _begin(self) -> None:
        """Take up the streams and everyone who was there before."""
        container, streams = self._container, self._streams
        try:
            plan = self._order.log
            streams.log = log = RingLog(self._loop, plan) if self._ringed else open_log(plan, AsideCompressor(self._loop))
            for stream, content in container.running.unfinished:
                log.take_up(stream, content)
        except (CarrackError, OSError) as error:  # the maker could: a log lost since must not end the container
            _say(f"the log of {self._order.container_id} cannot be opened: {error}")
        streams.on_detached = lambda: self._report(messages.Detached())
        if container.running.console:
            streams.use_terminal(container.outputs[0])
        else:
            streams.use_pipes(container.input_fd, dict(zip(container.outputs, (STDOUT, STDERR), strict=True)))
        for options, fd in zip(self._order.attached, container.attached, strict=False):  # none any more, after the first hand
            try:
                self._guests.attach(streams, options, fd, owns_stream=True)
            except CarrackError as error:
                _say(f"a client of {self._order.container_id} cannot attach: {error.message}")
        for condition, sock_fd in zip(container.running.waiting, container.waiting, strict=True):
            self._guests.waiters.add(condition, sock_fd)
        self._loop.watch(self._berth.reaped[0], READ, self._on_reaped, vital=True)
        if container.out_of_memory_fd >= 0:
            self._loop.watch(container.out_of_memory_fd, READ, self._on_out_of_memory)
        for payload, beside in container.early:
            if self._conversation is not None:
                self._on_message(self._conversation, *wire.open_packet(payload, beside))

    # ── sleep ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _park_if_at_rest(self) -> None:
        """Sleep, unless somebody is there whose state cannot be parked: a client of the streams, an exec, an exit untold."""
        conversation, streams, guests = self._conversation, self._streams, self._guests
        if self._init_ended or self._leaving or self._execs or self._ringed or not (streams.at_rest and guests.only_wait):
            return
        waiting, container = guests.waiters.at_rest, self._container
        known = 2 + len(container.outputs) + (container.out_of_memory_fd >= 0) + len(waiting) + (conversation is not None)
        if self._loop.watched != known or (conversation is not None and conversation.has_unsent):
            return
        unfinished = ((stream, streams.log.held(stream)) for stream in (STDOUT, STDERR))
        running = Running(
            container.running.pid,
            container.running.started_at_nanoseconds,
            console=container.running.console,
            user_namespace=container.running.user_namespace,
            watches_memory=container.out_of_memory_fd >= 0,
            has_input=streams.pipe_fd >= 0,
            has_network_namespace=container.network_namespace_fd >= 0,
            has_conversation=conversation is not None,
            held_ports=len(container.held_ports),
            waiting=tuple(condition for condition, _ in waiting),
            unfinished=tuple((stream, content) for stream, content in unfinished if content),
            out_of_memory_kills=self._out_of_memory_kills,
        )
        parked = container._replace(
            running=running,
            conversation_fd=conversation.fd if conversation is not None else -1,
            input_fd=streams.pipe_fd,
            attached=(),
            waiting=tuple(fd for _, fd in waiting),
            early=(),
        )
        try:
            handover.park(self._berth, parked)
        except OSError as error:  # no room for descriptors on their way: then it stays awake
            _say(f"the shim of {self._order.container_id} cannot sleep: {error.strerror}")
            return
        self._parked = True
        self._loop.stop()

    # ── the daemon ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _report(self, message: Message, fds: list[int] | None = None) -> None:
        if self._conversation is not None:
            self._conversation.send(message, fds or ())

    def _living_fds(self) -> list[int]:
        container = self._container
        if self._init_ended:
            return []
        return [fd for fd in (container.pidfd, container.network_namespace_fd) if fd >= 0]

    def _on_connection(self, sock: _socket.socket) -> None:
        Conversation(self._loop, sock, self._on_message, self._on_daemon_gone)

    def _on_daemon_gone(self, conversation: Conversation) -> None:
        if conversation is not self._conversation:
            return
        self._conversation = None
        if self._exited is not None:
            self._leave_if_alone()
        elif self._order.tied and not self._init_ended:
            self._cgroup.kill()

    def _on_message(self, conversation: Conversation, message: Message, fds: list[int]) -> None:
        if isinstance(message, messages.Inquire):
            self._greet(conversation, message)
        elif conversation is self._conversation and not self._leaving:
            self._obey(message, fds)
            return
        wire.close_all(fds)

    def _greet(self, conversation: Conversation, inquiry: messages.Inquire) -> None:
        """A daemon that connects takes the place of the one before."""
        if inquiry.version > messages.VERSION:
            text = f"the shim of {self._order.container_id} speaks protocol version {messages.VERSION}, not {inquiry.version}"
            conversation.send(messages.Refused(0, "Unavailable", text))
            conversation.close()
            return
        if self._conversation is not None and self._conversation is not conversation:
            self._conversation.close()
        self._conversation = conversation
        status = messages.Status(
            container_id=self._order.container_id,
            pid=0 if self._init_ended else self._container.running.pid,
            started_at_nanoseconds=self._started_at,
            exited=self._exited,
            execs=tuple(each.state for each in self._execs.values()),
        )
        self._execs = {key: each for key, each in self._execs.items() if each.exit_code is None}
        conversation.send(status, self._living_fds())

    def _obey(self, message: Message, fds: list[int]) -> None:
        """One order of the daemon; `fds` are used up."""
        match message:
            case messages.Forget():
                self._forget(message)
            case messages.Attach() if fds:
                self._answer(message.sequence, lambda: self._guests.attach(self._streams, message, fds.pop(0), owns_stream=False))
            case messages.FollowLogs() if fds:
                self._answer(message.sequence, lambda: self._guests.follow(self._streams, message, fds.pop(0)))
            case messages.Wait() if fds:
                self._answer(message.sequence, lambda: self._wait(message, fds.pop(0)))
            case messages.Exec():
                self._exec(message, fds)
            case messages.Signal():
                self._answer(message.sequence, lambda: self._signal(message))
            case messages.Resize():
                self._answer(message.sequence, lambda: self._streams_of(message.exec_id).resize(message.height, message.width))
        wire.close_all(fds)

    def _answer(self, sequence: int, act: Callable[[], None]) -> None:
        """Done, or Refused with the reason."""
        try:
            act()
        except CarrackError as error:
            self._report(messages.Refused(sequence, type(error).__name__, error.message))
        except ProcessLookupError:
            self._report(messages.Refused(sequence, "NotFound", "process already finished"))
        except Exception as error:  # an order's root: whatever it meets must not end the container  # noqa: BLE001
            self._report(messages.Refused(sequence, "SystemFailure", f"{type(error).__name__}: {error}"))
        else:
            self._report(messages.Done(sequence))

    def _wait(self, order: messages.Wait, sock_fd: int) -> None:
        self._guests.waiters.add(order.condition, sock_fd)
        if self._exited is not None and (self._released or self._conversation is None):  # else once the exit is recorded
            self._guests.waiters.answer_exit(self._exited)

    def _streams_of(self, exec_id: str) -> Streams:
        return self._exec_session(exec_id).streams if exec_id else self._streams

    def _exec_session(self, exec_id: str) -> ExecSession:
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound(f"No such exec instance: {exec_id}") from None

    def _signal(self, order: messages.Signal) -> None:
        if order.exec_id:
            self._exec_session(order.exec_id).signal(order.signal)
            return
        if self._init_ended:
            raise ProcessLookupError
        if not order.everyone:
            try:
                kernel_process.send_signal(self._container.pidfd, order.signal)
            except ProcessLookupError:
                pass  # it has ended this moment, and the sleeper is about to say so
        elif order.signal == SIGKILL:
            self._cgroup.kill()
        else:
            for pid in self._cgroup.processes():
                try:
                    os.kill(pid, order.signal)
                except ProcessLookupError:
                    pass

    # ── execs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _exec(self, order: messages.Exec, fds: list[int]) -> None:
        client = self._guests.client(order.attach, fds.pop(0), owns_stream=True) if order.attach and fds else None
        session = ExecSession(self._loop, self._buffer, order, self._exec_ended)
        session.streams.on_detached = lambda: self._report(messages.Detached(order.exec_id))
        try:
            if self._init_ended:
                raise Conflict(f"container {self._order.container_id} is not running")
            session.start(self._room)
        except (StartFailed, CarrackError, OSError) as error:
            failed = error if isinstance(error, StartFailed) else _failed(str(error), _kind_of(error))
            self._report(messages.Refused(order.sequence, failed.kind, failed.message, failed.exit_code))
            if client is not None:
                client.let_go()  # the daemon has the connection too, and writes why once it has recorded it
            return
        self._execs[order.exec_id] = session
        self._report(messages.Done(order.sequence, session.pid))
        if client is not None:
            session.streams.add(client)

    def _exec_ended(self, session: ExecSession) -> None:
        """Tell the daemon before the client sees the end and asks it for the exit code."""
        if self._conversation is not None:
            self._report(messages.ExecExited(session.exec_id, session.exit_code or 0))
            self._execs.pop(session.exec_id, None)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_out_of_memory(self, _: int) -> None:
        os.read(self._container.out_of_memory_fd, 4096)
        self._look_for_kills(KILL_LOOKS)

    def _look_for_kills(self, looks: int) -> None:
        """The event comes before the kernel has chosen and killed a process; so look again, a few times."""
        if self._released:
            return
        kills = self._cgroup.out_of_memory_kills()
        if kills > self._out_of_memory_kills:
            self._out_of_memory_kills = kills
            self._report(messages.OutOfMemory())
        elif looks:
            self._loop.call_later(KILL_LOOK_SECONDS, lambda: self._look_for_kills(looks - 1))

    def _on_reaped(self, _: int) -> None:
        for pid, status in handover.reapings(self._berth):
            if pid == self._container.running.pid:
                self._on_init_end(shell_code(status))  # while vital: a shim that fails here ends, and the daemon learns of it
                self._loop.forget(self._berth.reaped[0])
                return

    def _on_init_end(self, exit_code: int) -> None:
        cgroup = self._cgroup
        self._init_ended = True
        kills = max(self._out_of_memory_kills, cgroup.out_of_memory_kills())
        exited = messages.Exited(exit_code, time.time_ns(), kills > 0, started_at_nanoseconds=self._started_at)
        try:
            exit_record.write(self._order.state_directory, exited)
        except OSError as error:  # a full disk must not keep anyone from hearing it
            exited = messages.Exited(exit_code, exited.finished_at_nanoseconds, kills > 0, str(error), self._started_at)
        cgroup.kill()
        self._streams.on_drained = lambda: self._tell(exited)
        if self._streams.drained:
            self._tell(exited)
        else:
            self._loop.call_later(DRAIN_SECONDS, lambda: self._tell(exited))

    def _tell(self, exited: messages.Exited) -> None:
        """The output is complete: tell the daemon. Who waits is told once it has recorded the exit, so that what they ask it next
        is answered right; or soon, if it does not."""
        if self._exited is not None:
            return
        self._exited = exited
        self._streams.drain_now()
        for session in tuple(self._execs.values()):
            session.end_with_container()
        self._report(exited)
        self._streams.close()
        self._guests.stop_following()
        if self._conversation is None:
            self._leave_if_alone()
        else:
            self._loop.call_later(RECORD_SECONDS, lambda: self._guests.waiters.answer_exit(exited))

    def _leave_if_alone(self) -> None:
        """No daemon: stay only for those who wait for a removal, while a daemon that could tell it can still find us."""
        if self._exited is not None:
            self._guests.waiters.answer_exit(self._exited)
        if self._released or not self._guests.waiters.wait_for_removal:
            self._leave()

    def _forget(self, order: messages.Forget) -> None:
        """The daemon knows of the exit. Who waits for a removal that is yet to come keeps the shim, and nothing else does."""
        if self._exited is None:
            return
        if order.removed:
            self._guests.waiters.answer_all(self._exited)
        else:
            self._guests.waiters.answer_exit(self._exited)
        self._release()
        if self._guests.waiters.wait_for_removal:
            self._report(messages.Done(0))
        else:
            self._leave()

    def _release(self) -> None:
        """Give back what the container had of the machine; the root last, because its unmounting may take long."""
        if self._released:
            return
        self._released = True
        container = self._container
        if container.out_of_memory_fd >= 0:
            self._loop.forget(container.out_of_memory_fd)
        wire.close_all(container.held_ports)
        if self._order.runtime is not None:
            foreign.forget(self._order.runtime, self._order.container_id)
        try:
            self._cgroup.remove()
        except OSError as error:  # a process that does not die keeps it: the next daemon, or fsck, removes what is left
            _say(f"the cgroup of {self._order.container_id} stays: {error.strerror}")
        self._listener.close()
        self._after_the_end()
        fds = (
            container.out_of_memory_fd,
            container.pidfd,
            container.rootfs_fd,
            container.network_namespace_fd,
            container.tenancy_fd,
        )
        wire.close_all([fd for fd in fds if fd >= 0])

    def _after_the_end(self) -> None:
        """The `poststop` hooks, which another runtime runs itself; in a process of their own, for nobody waits for them here."""
        order, spec = self._order, self._order.spec
        if order.runtime is not None or spec.hooks is None or not spec.hooks.poststop or os.fork():
            return
        try:
            kernel_process.close_all_but((0, 1, 2))
            place = f"{order.state_directory}/bundle"
            state = hooks.State(spec.oci_version, order.container_id, "stopped", 0, place, spec.annotations)
            hooks.run(spec.hooks.poststop, state, "poststop")
        except InitFailed as error:
            _say(f"{order.container_id}: {error.cause}")
        finally:
            os._exit(0)

    def _leave(self) -> None:
        """Release everything; the process ends when its last client has got what is theirs."""
        if self._leaving:
            return
        self._leaving = True
        self._streams.close()
        self._guests.waiters.send_away()
        self._release()
        if self._conversation is not None:
            self._conversation.close()
        self._guests.on_empty = self._loop.stop
        if self._guests.empty:
            self._loop.stop()


def _say(text: str) -> None:
    os.write(2, f"carrack: {text}\n".encode())


def _failed(message: str, kind: str) -> StartFailed:
    return StartFailed(message, cause=message, exit_code=128, kind=kind)


def _kind_of(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, CarrackError) else "SystemFailure"

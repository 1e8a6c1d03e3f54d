"""Exec: one more process in a running container. A session is asked for, started once, and remembered for a while after its end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from carrack.engine import names, specification
from carrack.engine.config import ExecConfig
from carrack.engine.container import Container, ExecSession
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.live import Live
from carrack.engine.shims import RefusedExec
from carrack.engine.state import Status
from carrack.engine.streams import MULTIPLEXED, RAW, ExecStartOptions, HandedOn, Session, frame, parse_detach_keys
from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.oci.runtime_spec import Capabilities, ConsoleSize, Process, User
from carrack.runtime import capabilities
from carrack.shim.messages import Attach, Exec, ExecExited, ExecState, Resize

REMEMBERED_SECONDS = 300.0
"""How long inspect can still ask for the exit code of an exec that is over."""

REMEMBERED_AT_ONCE, AT_LEAST_SECONDS = 500, 10.0
"""Of more ended execs than this the oldest are forgotten, but none before its client has had time to ask."""


class Execs:
    """Every exec session of this daemon."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._life = lifecycle
        self._sessions: dict[str, ExecSession] = {}
        self._over: dict[str, float] = {}
        self._ended: dict[str, asyncio.Event] = {}
        lifecycle.on_exec_exited = self._on_exited
        lifecycle.on_detached = self._on_detached
        lifecycle.on_ended.append(self._on_container_ended)

    def get_exec(self, exec_id: str) -> ExecSession:
        """One session. Raises NotFound."""
        found = self._sessions.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        container = self._life.rooms.table.find(found.container_id)
        shim = self._life.live(container).shim if container is not None and found.running else None
        if shim is not None:
            # A client that has just seen the stream's end asks for the exit code: what told of it is in our socket by then.
            shim.take_in()
        return found

    async def create_exec(self, ref: str, config: ExecConfig) -> str:
        """Ask for a process; gives the session's id. Raises NotFound, Conflict (not running), InvalidParameter."""
        container = self._life.rooms.table.get(ref)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        check_running(container)
        try:
            parse_detach_keys(config.detach_keys)
        except InvalidParameter:
            raise InvalidParameter(f"Invalid escape keys ({config.detach_keys}) provided") from None
        for variable in config.env or []:
            if not variable or variable.startswith("=") or "\0" in variable:
                raise InvalidParameter(f"invalid environment variable: {variable}")
        if config.working_dir and not config.working_dir.startswith("/"):
            raise InvalidParameter("working directory must be an absolute path")
        self._forget_old()
        session = ExecSession(names.new_id(), container.id, config)
        self._sessions[session.id] = session
        container.exec_ids.append(session.id)
        self._life.tell(container, f"exec_create: {_told(config.cmd)}", {"execID": session.id})
        return session.id

    async def start_exec(self, exec_id: str, options: ExecStartOptions) -> Session | None:
        """Start a session: detached at once, else when its client's connection comes. Raises Conflict when it was started."""
        session = self.get_exec(exec_id)
        if session.started:
            what = "is already running" if session.running else "has already run"
            raise Conflict(f"Error: Exec command {exec_id} {what}")
        container = self._life.rooms.table.find(session.container_id)
        if container is None:
            raise NotFound(f"No such container: {session.container_id}")
        check_running(container)
        if options.detach:
            await self.run(container, session, options, None)
            return None

        async def take(fd: int, head: bytes, eof: bool) -> None:
            try:
                await self.run(container, session, options, (fd, head, eof))
            except RefusedExec as refused:
                text = f"{refused.message}\r\n".encode()
                _write_all(fd, text if options.tty else frame(1, text))
            finally:
                os.close(fd)

        # Docker frames by what the start says, whatever the exec was made with
        return HandedOn(RAW if options.tty else MULTIPLEXED, take)

    async def run(
        self, container: Container, session: ExecSession, options: ExecStartOptions, client: tuple[int, bytes, bool] | None
    ) -> None:
        """Have the shim run it; returns once the program runs. Raises RefusedExec when it cannot."""
        shim = self._life.running_shim(container, f"container {container.id} is not running")
        config = session.config
        session.started = session.running = True
        self._ended[session.id] = asyncio.Event()
        attach = None
        fds: tuple[int, ...] = ()
        if client is not None:
            fd, head, eof = client
            fds = (fd,)
            attach = Attach(
                stdin=config.attach_stdin,
                stdout=config.attach_stdout,
                stderr=config.attach_stderr,
                detach_keys=parse_detach_keys(config.detach_keys),
                head=head,
                end_of_input=eof,
                framing="raw" if options.tty else "framed",
            )
        self._life.tell(container, f"exec_start: {_told(config.cmd or [''])}", {"execID": session.id})
        process = _process(container, config, options)
        try:
            async with self._life.live(container).doorway.entering():
                check_running(container)
                done = await shim.order(lambda number: Exec(number, session.id, process, attach, config.privileged), fds)
        except RefusedExec as refused:
            self._end(container, session, refused.exit_code, began=False)
            raise
        except BaseException:
            self._end(container, session, 126, began=False)
            raise
        session.pid = done.pid

    async def run_quietly(
        self, container: Container, session: ExecSession, options: ExecStartOptions, client: tuple[int, bytes, bool]
    ) -> None:
        """`run` for the engine's own probes, which nobody created through the API."""
        self._sessions[session.id] = session
        await self.run(container, session, options, client)

    def forget(self, session: ExecSession) -> None:
        """Drop a session that nobody will ask for."""
        self._sessions.pop(session.id, None)
        self._over.pop(session.id, None)
        self._ended.pop(session.id, None)

    async def ended(self, session: ExecSession) -> int:
        """Wait for the end of a started exec; its exit code."""
        event = self._ended.get(session.id)
        if event is not None:
            await event.wait()
        return -1 if session.exit_code is None else session.exit_code

    async def resize_exec(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of an exec's terminal. Raises NotFound, Conflict when it does not run."""
        session = self.get_exec(exec_id)
        container = self._life.rooms.table.find(session.container_id)
        if container is None or not session.running:
            raise Conflict(f"exec process is not running: {exec_id}")
        shim = self._life.running_shim(container, f"container {container.id} is not running")
        await shim.order(lambda number: Resize(number, height, width, exec_id))

    def adopt(self, container: Container, states: tuple[ExecState, ...]) -> None:
        """Take the execs of a container over from an earlier daemon, as far as its shim knows them."""
        for state in states:
            session = ExecSession(state.exec_id, container.id, ExecConfig(), state.running, True, state.exit_code, state.pid)
            self._sessions[state.exec_id] = session
            if state.exec_id not in container.exec_ids:
                container.exec_ids.append(state.exec_id)
            if not state.running:
                self._over[state.exec_id] = time.monotonic()

    def _on_exited(self, container: Container, message: ExecExited) -> None:
        session = self._sessions.get(message.exec_id)
        if session is not None and session.exit_code is None:
            self._end(container, session, message.exit_code)

    def _on_detached(self, container: Container, exec_id: str) -> None:
        if exec_id:
            self._life.tell(container, "exec_detach", {"execID": exec_id})
        else:
            self._life.tell(container, "detach")

    def _on_container_ended(self, container: Container, live: Live) -> None:
        for exec_id in container.exec_ids:
            session = self._sessions.get(exec_id)
            if session is not None and session.running:
                self._end(container, session, 137)
        container.exec_ids = []

    def _end(self, container: Container, session: ExecSession, exit_code: int, *, began: bool = True) -> None:
        session.running, session.exit_code, session.pid = False, exit_code, 0
        self._over[session.id] = time.monotonic()
        if session.id in container.exec_ids:
            container.exec_ids.remove(session.id)
        event = self._ended.pop(session.id, None)
        if event is not None:
            event.set()
        if began:
            self._life.tell(container, "exec_die", {"execID": session.id, "exitCode": str(exit_code)})

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._over:
            exec_id, since = next(iter(self._over.items()))  # the one that ended first
            if now - since <= (AT_LEAST_SECONDS if len(self._over) > REMEMBERED_AT_ONCE else REMEMBERED_SECONDS):
                break
            del self._over[exec_id]
            self._sessions.pop(exec_id, None)
        gone = [s.id for s in self._sessions.values() if not s.started and self._life.rooms.table.find(s.container_id) is None]
        for exec_id in gone:
            del self._sessions[exec_id]


def check_running(container: Container) -> None:
    """Raises Conflict in Docker's words unless a process can be put into the container."""
    if container.state.paused:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if container.state.status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if container.state.status is not Status.RUNNING:
        raise Conflict(f"container {container.id} is not running")


def _told(command: Sequence[str]) -> str:
    """A command as events have it: Docker sets a blank after the program, also where nothing follows."""
    return f"{command[0]} {' '.join(command[1:])}"


def _process(container: Container, config: ExecConfig, options: ExecStartOptions) -> Process:
    base = container.host_config
    wanted = capabilities.available() if config.privileged else specification.capability_names(base)
    variables = {variable.partition("=")[0]: variable for variable in specification.environment(container)}
    if config.tty:
        variables.setdefault("TERM", "TERM=xterm")
    for variable in config.env or []:
        name, equals, _ = variable.partition("=")
        if equals:
            variables[name] = variable
        else:
            variables.pop(name, None)
    size = options.console_size or config.console_size
    return Process(
        args=tuple(config.cmd or ()),
        cwd=config.working_dir or container.config.working_dir or "/",
        env=tuple(variables.values()),
        terminal=config.tty,
        console_size=ConsoleSize(*size) if config.tty and size else None,
        user=User(
            username=config.user or container.config.user or "0", umask=base.umask, additional_groups=tuple(base.group_add or ())
        ),
        capabilities=Capabilities(bounding=wanted, effective=wanted, permitted=wanted),
        rlimits=specification.rlimits(base),
        oom_score_adj=base.oom_score_adj,
        no_new_privileges=specification.security(base.security_opt).no_new_privileges,
        apparmor_profile="" if config.privileged or container.apparmor_profile == "unconfined" else container.apparmor_profile,
    )


def _write_all(fd: int, content: bytes) -> None:
    try:
        os.write(fd, content)
    except OSError:
        pass

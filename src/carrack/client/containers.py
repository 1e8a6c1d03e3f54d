"""Containers as objects: `client.containers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from carrack.client.failure import ApiNotFound
from carrack.client.frames import STDERR, STDOUT, FrameReader
from carrack.client.http import percent_encode
from carrack.client.images import Images
from carrack.client.queries import filters_query, flags_query
from carrack.client.streams import Stream
from carrack.errors import CarrackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from carrack.client.engine import Engine, Hijacked, Response


class ContainerFailed(CarrackError):
    """A command that was run to its end exited with a status other than 0; `output` is what it wrote to stderr."""

    def __init__(self, container: str, status: int, output: bytes) -> None:
        super().__init__(f"container {container[:12]} exited with status {status}: {output[-2000:].decode('utf-8', 'replace')}")
        self.status = status
        self.output = output


class Container:
    """One container. Its document is fetched when asked for, never kept, so that it is never stale."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self._engine = engine
        self.id = identity
        self._path = f"/containers/{percent_encode(identity, keep='/')}"

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"

    # -- how it is

    def inspect(self) -> dict[str, Any]:
        """The container's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"{self._path}/json")
        return document

    @property
    def name(self) -> str:
        """Its name, without the slash of the API."""
        return str(self.inspect()["Name"]).lstrip("/")

    @property
    def status(self) -> str:
        """created, running, paused, restarting, removing, exited or dead."""
        return str(self.inspect()["State"]["Status"])

    def ports(self) -> dict[str, list[tuple[str, int]]]:
        """Where its published ports are on the host: `80/tcp` → [(address, port)]."""
        published = self.inspect()["NetworkSettings"].get("Ports") or {}
        return {port: [(entry["HostIp"], int(entry["HostPort"])) for entry in places or ()] for port, places in published.items()}

    def top(self) -> list[dict[str, str]]:
        """Its processes, each by the titles of ps."""
        answer = self._engine.json("GET", f"{self._path}/top")
        return [dict(zip(answer["Titles"], row, strict=False)) for row in answer["Processes"] or ()]

    def changes(self) -> list[tuple[Literal["changed", "added", "deleted"], str]]:
        """The paths in which it differs from its image."""
        kinds: tuple[Literal["changed"], Literal["added"], Literal["deleted"]] = ("changed", "added", "deleted")
        return [(kinds[entry["Kind"]], entry["Path"]) for entry in self._engine.json("GET", f"{self._path}/changes") or ()]

    def stats(self) -> dict[str, Any]:
        """One reading of what it uses."""
        document: dict[str, Any] = self._engine.json("GET", f"{self._path}/stats", {"stream": "0"})
        return document

    def follow_stats(self) -> Stream[dict[str, Any]]:
        """A reading a second, until the stream is closed or the container removed."""
        response = self._engine.request("GET", f"{self._path}/stats")
        return Stream(response, response.documents())

    # -- its life

    def start(self) -> None:
        """Starts it; nothing happens when it runs."""
        self._engine.order("POST", f"{self._path}/start")

    def stop(self, *, timeout_seconds: int | None = None) -> None:
        """Stops it, by force after the time-out; nothing happens when it does not run."""
        self._engine.order("POST", f"{self._path}/stop", {} if timeout_seconds is None else {"t": str(timeout_seconds)})

    def restart(self, *, timeout_seconds: int | None = None) -> None:
        """Stops and starts it."""
        self._engine.order("POST", f"{self._path}/restart", {} if timeout_seconds is None else {"t": str(timeout_seconds)})

    def kill(self, signal: str = "SIGKILL") -> None:
        """Sends a signal to its first process. Raises Conflict when it does not run."""
        self._engine.order("POST", f"{self._path}/kill", {"signal": signal})

    def pause(self) -> None:
        """Freezes its processes."""
        self._engine.order("POST", f"{self._path}/pause")

    def unpause(self) -> None:
        """Lets them go on."""
        self._engine.order("POST", f"{self._path}/unpause")

    def rename(self, name: str) -> None:
        """Gives it another name. Raises Conflict when that is taken."""
        self._engine.order("POST", f"{self._path}/rename", {"name": name})

    def update(self, **limits: Any) -> None:
        """Changes its limits while it runs: the API's own fields (`Memory=…`, `CpuShares=…`)."""
        self._engine.json("POST", f"{self._path}/update", document=limits)

    def wait(self, condition: Literal["not-running", "next-exit", "removed"] = "not-running") -> int:
        """Its exit status, once it is in the condition."""
        return int(self._engine.json("POST", f"{self._path}/wait", {"condition": condition})["StatusCode"])

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Removes it, and its anonymous volumes if asked. Raises Conflict when it runs and `force` is not given."""
        self._engine.order("DELETE", self._path, flags_query(force=force, v=volumes))

    # -- what it says

    def output(self, *, stdout: bool = True, stderr: bool = True) -> bytes:
        """Everything it has logged so far."""
        response, framed = self._log(follow=False, tail="all", stdout=stdout, stderr=stderr)
        with response:
            return b"".join([piece for _, piece in _pieces(response, framed)])

    def logs(self, *, follow: bool = False, tail: str = "all") -> Stream[bytes]:
        """Its log line by line, stdout and stderr in the order written; with `follow` until it ends."""
        response, framed = self._log(follow=follow, tail=tail, stdout=True, stderr=True)
        return Stream(response, _lines(piece for _, piece in _pieces(response, framed)))

    def _log(self, *, follow: bool, tail: str, stdout: bool, stderr: bool) -> tuple[Response, bool]:
        framed = not self.inspect()["Config"]["Tty"]
        query = {"tail": tail, **flags_query(follow=follow, stdout=stdout, stderr=stderr)}
        return self._engine.request("GET", f"{self._path}/logs", query), framed

    # -- inside it

    def exec(
        self,
        command: Sequence[str],
        *,
        user: str = "",
        workdir: str = "",
        environment: Mapping[str, str] | None = None,
        privileged: bool = False,
        stdin: bytes = b"",
    ) -> tuple[int, bytes, bytes]:
        """Runs a command in it and waits: (exit status, stdout, stderr)."""
        document = {
            "Cmd": list(command),
            "AttachStdin": bool(stdin),
            "AttachStdout": True,
            "AttachStderr": True,
            "User": user,
            "WorkingDir": workdir,
            "Env": [f"{name}={value}" for name, value in (environment or {}).items()] or None,
            "Privileged": privileged,
        }
        identity = self._engine.json("POST", f"{self._path}/exec", document=document)["Id"]
        hijacked = self._engine.hijack(f"/exec/{identity}/start", document={"Detach": False, "Tty": False})
        outputs = _converse(hijacked, stdin)
        status = int(self._engine.json("GET", f"/exec/{identity}/json")["ExitCode"])
        return status, outputs[STDOUT], outputs[STDERR]

    def get_archive(self, path: str) -> Stream[bytes]:
        """A file or folder of it as a tar archive, in pieces. Raises NotFound."""
        response = self._engine.request("GET", f"{self._path}/archive", {"path": path})
        return Stream(response, iter(response.body))

    def put_archive(self, folder: str, archive: bytes | Iterable[bytes]) -> None:
        """Unpacks a tar archive into one of its folders. Raises NotFound."""
        query = {"path": folder}
        request = self._engine.request("PUT", f"{self._path}/archive", query, content=archive, media_type="application/x-tar")
        request.read_all()

    def export(self) -> Stream[bytes]:
        """Its whole file system as a tar archive, in pieces."""
        response = self._engine.request("GET", f"{self._path}/export")
        return Stream(response, iter(response.body))

    def commit(self, repository: str = "", tag: str = "", *, message: str = "") -> str:
        """Makes an image of what it is now; the image's id."""
        query = {name: value for name, value in (("repo", repository), ("tag", tag), ("comment", message)) if value}
        return str(self._engine.json("POST", "/commit", {"container": self.id, **query}, document={})["Id"])


def _pieces(response: Response, framed: bool) -> Iterator[tuple[int, bytes]]:
    reader = FrameReader()
    for data in response.body:
        yield from reader.feed(data) if framed else [(STDOUT, data)]


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting = b""
    for piece in pieces:
        waiting += piece
        *lines, waiting = waiting.split(b"\n")
        yield from [line + b"\n" for line in lines]
    if waiting:
        yield waiting


def _converse(hijacked: Hijacked, stdin: bytes) -> dict[int, bytes]:
    """Sends input and reads output, both at once: neither side may wait for the other. Closes the connection."""
    from select import select

    connection = hijacked.connection
    reader = FrameReader()
    outputs: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    left = memoryview(stdin)
    try:
        if not left:
            connection.half_close()
        while True:
            if not connection.buffered:
                readable, writable, _ = select([connection], [connection] if left else [], [])
                if writable:
                    left = left[connection.send_some(bytes(left[:65536])) :]
                    if not left:
                        connection.half_close()
                if not readable:
                    continue
            data = connection.receive()
            if not data:
                break
            for stream, piece in reader.feed(data):
                outputs.setdefault(stream, []).append(piece)
    finally:
        hijacked.close()
    return {stream: b"".join(pieces) for stream, pieces in outputs.items()}


class Containers:
    """The daemon's containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, everything: bool = False, filters: Mapping[str, Sequence[str]] | None = None) -> list[Container]:
        """The running ones, or everything."""
        query = {**filters_query(filters), **flags_query(all=everything)}
        return [Container(self._engine, entry["Id"]) for entry in self._engine.json("GET", "/containers/json", query)]

    def get(self, name: str) -> Container:
        """One container by name or id. Raises NotFound."""
        found = Container(self._engine, name)
        return Container(self._engine, found.inspect()["Id"])

    def create(
        self,
        image: str,
        command: Sequence[str] | None = None,
        *,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        binds: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        network: str = "",
        user: str = "",
        workdir: str = "",
        entrypoint: Sequence[str] | None = None,
        tty: bool = False,
        open_stdin: bool = False,
        host_config: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> Container:
        """Creates a container, pulling the image when it is missing. `config` and `host_config` are the API's own fields."""
        ports = ports or {}
        document: dict[str, Any] = {
            "Image": image,
            "Cmd": list(command) if command else None,
            "Entrypoint": list(entrypoint) if entrypoint is not None else None,
            "Env": [f"{key}={value}" for key, value in (environment or {}).items()] or None,
            "Labels": dict(labels or {}),
            "ExposedPorts": {port: {} for port in ports},
            "User": user,
            "WorkingDir": workdir,
            "Tty": tty,
            "OpenStdin": open_stdin,
            "StdinOnce": open_stdin,
            **config,
            "HostConfig": {
                "PortBindings": {port: [{"HostIp": "", "HostPort": str(host)}] for port, host in ports.items()},
                "Binds": list(binds) or None,
                **({"NetworkMode": network} if network else {}),
                **(host_config or {}),
            },
        }
        query = {"name": name} if name else {}
        try:
            answer = self._engine.json("POST", "/containers/create", query, document=document)
        except ApiNotFound:
            Images(self._engine).pull(image)
            answer = self._engine.json("POST", "/containers/create", query, document=document)
        return Container(self._engine, answer["Id"])

    @overload
    def run(
        self, image: str, command: Sequence[str] | None = None, *, detach: Literal[True], remove: bool = True, **options: Any
    ) -> Container: ...

    @overload
    def run(
        self,
        image: str,
        command: Sequence[str] | None = None,
        *,
        detach: Literal[False] = False,
        remove: bool = True,
        stdin: bytes = b"",
        **options: Any,
    ) -> bytes: ...

    def run(
        self,
        image: str,
        command: Sequence[str] | None = None,
        *,
        detach: bool = False,
        remove: bool = True,
        stdin: bytes = b"",
        **options: Any,
    ) -> Container | bytes:
        """Runs a container: its stdout as bytes once it has ended, or with `detach` the running Container.

        `stdin` is given to its command. The options are those of `create`. Raises ContainerFailed for a status other than 0.
        """
        if stdin:
            options["open_stdin"] = True
        container = self.create(image, command, **options)
        if detach:
            container.start()
            return container
        try:
            if stdin:
                output, errors = self._feed(container, stdin)
                status = container.wait()
            else:
                container.start()
                status = container.wait()
                output, errors = container.output(stderr=False), b""
            if status:
                raise ContainerFailed(container.id, status, errors or container.output(stdout=False))
        finally:
            if remove:
                container.remove(force=True, volumes=True)
        return output

    def _feed(self, container: Container, stdin: bytes) -> tuple[bytes, bytes]:
        """Starts a container once its streams are attached, and sends it its input: (stdout, stderr)."""
        query = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
        hijacked = self._engine.hijack(f"/containers/{container.id}/attach", query)
        try:
            container.start()
        except CarrackError:
            hijacked.close()
            raise
        outputs = _converse(hijacked, stdin)
        return outputs[STDOUT], outputs[STDERR]

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
        """Removes those that have ended; their ids."""
        report = self._engine.json("POST", "/containers/prune", filters_query(filters))
        return tuple(report.get("ContainersDeleted") or ())

"""The Python client in a few lines: containers, images, networks and volumes as objects.

    from carrack.client import Client

    with Client() as client:
        print(client.containers.run("busybox", ["echo", "hi"]).decode())
        web = client.containers.run("nginx", detach=True, ports={"80/tcp": 8080})
        for line in web.logs(follow=True):
            print(line.decode(), end="")
        web.stop()

It is synchronous and speaks to any Engine API, Carrack's or Docker's. For programs already written against the `docker` package
keep that package: it works on Carrack too. This one has no dependencies and starts in milliseconds.
Failures are `ApiError`s that are also of a kind of `carrack.errors`: `except NotFound`.
"""

from __future__ import annotations

import os

from carrack.client import codec
from carrack.client.endpoint import DEFAULT_HOST, TlsFiles, parse_endpoint
from carrack.client.engine import Engine
from carrack.client.failure import ApiError, ApiNotFound
from carrack.client.frames import STDERR, STDOUT, FrameReader
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Self


class ContainerFailed(CarrackError):
    """A container that was run to its end exited with a status other than 0; `output` is what it wrote to stderr."""

    def __init__(self, container: str, status: int, output: bytes) -> None:
        super().__init__(f"container {container[:12]} exited with status {status}: {output[-2000:].decode('utf-8', 'replace')}")
        self.status = status
        self.output = output


class Client:
    """A daemon. Without an address: CARRACK_HOST, DOCKER_HOST, or Carrack's own socket. Close it, or use it in a `with`."""

    def __init__(self, host: str = "", *, tls: TlsFiles | None = None, version: str = "") -> None:
        address = host or os.environ.get("CARRACK_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self.engine = Engine(parse_endpoint(address, tls=tls), version=version, user_agent="carrack-python")
        self.containers = Containers(self.engine)
        self.images = Images(self.engine)
        self.networks = Networks(self.engine)
        self.volumes = Volumes(self.engine)

    def ping(self) -> dict[str, str]:
        """The daemon's `_ping` headers."""
        return self.engine.ping()

    def version(self) -> dict[str, Any]:
        """The daemon's version document."""
        document: dict[str, Any] = self.engine.json("GET", "/version")
        return document

    def info(self) -> dict[str, Any]:
        """What the daemon says of itself and its host."""
        document: dict[str, Any] = self.engine.json("GET", "/info")
        return document

    def events(
        self, *, since: str = "", until: str = "", filters: Mapping[str, Sequence[str]] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Events as they happen; ends at `until`, else never."""
        query = {name: value for name, value in (("since", since), ("until", until), ("filters", _filters(filters))) if value}
        with self.engine.request("GET", "/events", query) as response:
            yield from response.documents()

    def close(self) -> None:
        """Closes the kept connection."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _filters(filters: Mapping[str, Sequence[str]] | None) -> str:
    return codec.encode({name: list(values) for name, values in filters.items()}) if filters else ""


def _query(filters: Mapping[str, Sequence[str]] | None) -> dict[str, str]:
    return {"filters": _filters(filters)} if filters else {}


class Container:
    """One container. Its document is fetched when asked for, never kept."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self._engine = engine
        self.id = identity
        self._path = f"/containers/{percent_encode(identity, keep='/')}"

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"

    def inspect(self) -> dict[str, Any]:
        """The container's document."""
        document: dict[str, Any] = self._engine.json("GET", f"{self._path}/json")
        return document

    @property
    def status(self) -> str:
        """created, running, paused, restarting, removing, exited or dead."""
        return str(self.inspect()["State"]["Status"])

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
        """Sends a signal to its first process."""
        self._engine.order("POST", f"{self._path}/kill", {"signal": signal})

    def pause(self) -> None:
        """Freezes its processes."""
        self._engine.order("POST", f"{self._path}/pause")

    def unpause(self) -> None:
        """Lets them go on."""
        self._engine.order("POST", f"{self._path}/unpause")

    def wait(self, condition: str = "not-running") -> int:
        """Its exit status, once it is in the condition (not-running, next-exit, removed)."""
        return int(self._engine.json("POST", f"{self._path}/wait", {"condition": condition})["StatusCode"])

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Removes it, and its anonymous volumes if asked."""
        self._engine.order("DELETE", self._path, {name: "1" for name, wanted in (("force", force), ("v", volumes)) if wanted})

    def output(self, *, stdout: bool = True, stderr: bool = True) -> bytes:
        """Everything it has logged so far."""
        return b"".join([piece for _, piece in self._log(follow=False, tail="all", stdout=stdout, stderr=stderr)])

    def logs(self, *, follow: bool = False, tail: str = "all") -> Iterator[bytes]:
        """Its log line by line, stdout and stderr in the order written; with `follow` until it ends."""
        waiting = b""
        for _, piece in self._log(follow=follow, tail=tail, stdout=True, stderr=True):
            waiting += piece
            *lines, waiting = waiting.split(b"\n")
            yield from [line + b"\n" for line in lines]
        if waiting:
            yield waiting

    def _log(self, *, follow: bool, tail: str, stdout: bool, stderr: bool) -> Iterator[tuple[int, bytes]]:
        query = {
            "tail": tail,
            **{name: "1" for name, wanted in (("follow", follow), ("stdout", stdout), ("stderr", stderr)) if wanted},
        }
        framed = not self.inspect()["Config"]["Tty"]
        reader = FrameReader()
        with self._engine.request("GET", f"{self._path}/logs", query) as response:
            for data in response.body:
                yield from reader.feed(data) if framed else [(STDOUT, data)]

    def exec(
        self, command: Sequence[str], *, user: str = "", workdir: str = "", environment: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Runs a command in it and waits: (exit status, stdout, stderr)."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        document = {
            "Cmd": list(command),
            "AttachStdout": True,
            "AttachStderr": True,
            "User": user,
            "WorkingDir": workdir,
            "Env": variables or None,
        }
        identity = self._engine.json("POST", f"{self._path}/exec", document=document)["Id"]
        hijacked = self._engine.hijack(f"/exec/{identity}/start", document={"Detach": False, "Tty": False})
        reader = FrameReader()
        outputs: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        try:
            while data := hijacked.connection.receive():
                for stream, piece in reader.feed(data):
                    outputs.setdefault(stream, []).append(piece)
        finally:
            hijacked.close()
        status = int(self._engine.json("GET", f"/exec/{identity}/json")["ExitCode"])
        return status, b"".join(outputs[STDOUT]), b"".join(outputs[STDERR])


class Containers:
    """The daemon's containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, everything: bool = False, filters: Mapping[str, Sequence[str]] | None = None) -> list[Container]:
        """The running ones, or everything."""
        query = {**_query(filters), **({"all": "1"} if everything else {})}
        return [Container(self._engine, entry["Id"]) for entry in self._engine.json("GET", "/containers/json", query)]

    def get(self, name: str) -> Container:
        """One container by name or id. Raises NotFound."""
        found = Container(self._engine, name)
        found.id = found.inspect()["Id"]
        return found

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
        host_config: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> Container:
        """Creates a container, pulling the image when it is missing. `config` and `host_config` are the API's own fields."""
        ports = ports or {}
        document: dict[str, Any] = {
            "Image": image,
            "Cmd": list(command) if command else None,
            "Env": [f"{key}={value}" for key, value in (environment or {}).items()] or None,
            "Labels": dict(labels or {}),
            "ExposedPorts": {port: {} for port in ports},
            **config,
            "HostConfig": {
                "PortBindings": {port: [{"HostIp": "", "HostPort": str(host)}] for port, host in ports.items()},
                "Binds": list(binds) or None,
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

    def run(
        self, image: str, command: Sequence[str] | None = None, *, detach: bool = False, remove: bool = True, **options: Any
    ) -> Any:
        """Runs a container: its stdout as bytes once it has ended, or with `detach` the running Container.

        Raises ContainerFailed for an exit status other than 0; the options are those of `create`.
        """
        container = self.create(image, command, **options)
        if detach:
            container.start()
            return container
        try:
            container.start()
            status = container.wait()
            output = container.output(stderr=False)
            if status:
                raise ContainerFailed(container.id, status, container.output(stdout=False))
        finally:
            if remove:
                container.remove(force=True, volumes=True)
        return output


class Images:
    """The daemon's images."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """The images' summaries."""
        found: list[dict[str, Any]] = self._engine.json("GET", "/images/json", _query(filters))
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """One image's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"/images/{percent_encode(name, keep='/:@')}/json")
        return document

    def pull(self, name: str, *, platform: str = "") -> None:
        """Pulls an image (`latest` if the name says nothing). Raises ApiError with the registry's reason."""
        repository, tag = _split(name)
        query = {"fromImage": repository, "tag": tag, **({"platform": platform} if platform else {})}
        _watch(self._engine, "/images/create", query)

    def push(self, name: str) -> None:
        """Pushes an image. Raises ApiError with the registry's reason."""
        repository, tag = _split(name)
        _watch(self._engine, f"/images/{percent_encode(repository, keep='/:')}/push", {"tag": tag})

    def tag(self, source: str, target: str) -> None:
        """Gives an image another name."""
        repository, tag = _split(target)
        self._engine.order("POST", f"/images/{percent_encode(source, keep='/:@')}/tag", {"repo": repository, "tag": tag})

    def load(self, archive: bytes) -> None:
        """Loads images from a tar archive."""
        with self._engine.request(
            "POST", "/images/load", {"quiet": "1"}, content=archive, media_type="application/x-tar"
        ) as response:
            _check(response.documents())

    def save(self, *names: str) -> Iterator[bytes]:
        """A tar archive of images, in pieces."""
        with self._engine.request("GET", "/images/get", {"names": list(names)}) as response:
            yield from response.body

    def remove(self, name: str, *, force: bool = False) -> None:
        """Removes a name, and the image with its last one."""
        self._engine.json("DELETE", f"/images/{percent_encode(name, keep='/:@')}", {"force": "1"} if force else {})


def _split(name: str) -> tuple[str, str]:
    """(repository, tag or digest); `latest` when there is neither."""
    repository, at, digest = name.partition("@")
    if at:
        return repository, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def _watch(engine: Engine, path: str, query: Mapping[str, str]) -> None:
    empty_login = "e30="  # base64 of {}: the daemon wants the header even when there is nothing to say
    with engine.request("POST", path, query, headers={"X-Registry-Auth": empty_login}) as response:
        _check(response.documents())


def _check(messages: Iterator[Any]) -> None:
    for message in messages:
        if message.get("error"):
            raise ApiError(500, str((message.get("errorDetail") or {}).get("message") or message["error"]))


class Networks:
    """The daemon's networks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """The networks' documents."""
        found: list[dict[str, Any]] = self._engine.json("GET", "/networks", _query(filters))
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """One network's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"/networks/{percent_encode(name)}")
        return document

    def create(self, name: str, *, driver: str = "bridge", **options: Any) -> str:
        """Creates a network, with the API's own fields as options; its id."""
        return str(self._engine.json("POST", "/networks/create", document={"Name": name, "Driver": driver, **options})["Id"])

    def connect(self, name: str, container: str, **settings: Any) -> None:
        """Connects a container, with the API's EndpointSettings as settings."""
        document = {"Container": container, "EndpointConfig": settings}
        self._engine.order("POST", f"/networks/{percent_encode(name)}/connect", document=document)

    def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        """Disconnects a container."""
        document = {"Container": container, "Force": force}
        self._engine.order("POST", f"/networks/{percent_encode(name)}/disconnect", document=document)

    def remove(self, name: str) -> None:
        """Removes a network."""
        self._engine.order("DELETE", f"/networks/{percent_encode(name)}")


class Volumes:
    """The daemon's volumes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, *, filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
        """The volumes' documents."""
        found: list[dict[str, Any]] = self._engine.json("GET", "/volumes", _query(filters))["Volumes"] or []
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """One volume's document. Raises NotFound."""
        document: dict[str, Any] = self._engine.json("GET", f"/volumes/{percent_encode(name)}")
        return document

    def create(self, name: str = "", *, driver: str = "local", options: Mapping[str, str] | None = None) -> str:
        """Creates a volume; its name."""
        document = {"Driver": driver, "DriverOpts": dict(options or {}), **({"Name": name} if name else {})}
        return str(self._engine.json("POST", "/volumes/create", document=document)["Name"])

    def remove(self, name: str, *, force: bool = False) -> None:
        """Removes a volume."""
        self._engine.order("DELETE", f"/volumes/{percent_encode(name)}", {"force": "1"} if force else {})

"""The objects that requests of a table speak of, made when a target names them: `/containers/{running}/json`."""

import base64
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.rig.engine import Engine
from tests.rig.fuzzing import PROGRAM, Hit, Shot, fire
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed

_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass
class Scene:
    """An engine and what was made on it for one request."""

    engine: Engine
    registry: Registry | None = None
    _made: dict[str, str] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """The text with each `{place}` made and named."""
        return _PLACE.sub(lambda place: self._name(place[1]), text)

    def send(self, method: str, target: str, body: object = None, headers: tuple[str, ...] = (), until: bytes = b"") -> Hit:
        """One request, places filled; a body that is not bytes is sent as JSON."""
        if body is None or isinstance(body, bytes):
            content = body or b""
        else:
            content = self.fill(json.dumps(body, indent=1)).encode()  # indented, so that no object looks like a place
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        sent = (f"Content-Type: {kind}",) if body is not None else ()
        return fire(self.engine.socket, Shot(method, target, self.fill(target), (*sent, *headers), content), until=until)

    def _name(self, place: str) -> str:
        if place not in self._made:
            self._made[place] = _MAKERS[place](self)
        return self._made[place]

    def post(self, path: str, body: object = None) -> str:
        answer = self.engine.api("POST", path, body)
        assert answer.status < 400, answer.body
        return answer.body.decode()

    def container(self, *, start: bool = True, **host: object) -> str:
        body = {"Image": "busybox", "Cmd": ["sh", "-c", PROGRAM], "HostConfig": host, "Tty": False}
        made: str = json.loads(self.post("/containers/create", body))["Id"]
        if start:
            self.post(f"/containers/{made}/start")
        return made


def _paused(scene: Scene) -> str:
    made = scene.container()
    scene.post(f"/containers/{made}/pause")
    return made


def _ended(scene: Scene) -> str:
    made: str = json.loads(scene.post("/containers/create", {"Image": "busybox", "Cmd": ["true"]}))["Id"]
    scene.post(f"/containers/{made}/start")
    scene.post(f"/containers/{made}/wait")
    return made


def _named(scene: Scene) -> str:
    scene.post("/containers/create?name=taken", {"Image": "busybox"})
    return "taken"


def _exec(scene: Scene) -> str:
    running = scene._name("running")
    made: str = json.loads(scene.post(f"/containers/{running}/exec", {"Cmd": ["true"], "AttachStdout": True}))["Id"]
    return made


def _done_exec(scene: Scene) -> str:
    made = _exec(scene)
    scene.post(f"/exec/{made}/start", {"Detach": True})
    return made


def _volume(scene: Scene) -> str:
    made: str = json.loads(scene.post("/volumes/create", {"Name": "data"}))["Name"]
    return made


def _used_volume(scene: Scene) -> str:
    scene.container(start=False, Binds=["held:/held"])
    return "held"


def _network(scene: Scene) -> str:
    made: str = json.loads(scene.post("/networks/create", {"Name": "mine"}))["Id"]
    return made


def _used_network(scene: Scene) -> str:
    network = json.loads(scene.post("/networks/create", {"Name": "busy"}))["Id"]
    scene.container(NetworkMode="busy")
    return str(network)


def _tagged(scene: Scene) -> str:
    scene.post("/images/busybox/tag?repo=another&tag=1")
    return "another:1"


def _pushed(scene: Scene) -> str:
    assert scene.registry is not None
    scene.registry.put("app", "1", Packed([b"\0" * 1024]).gzipped())
    return f"{scene.registry.host}/app:1"


def _to_push(scene: Scene) -> str:
    assert scene.registry is not None
    name = f"{scene.registry.host}/mine"
    scene.post(f"/images/busybox/tag?repo={name}&tag=1")
    return name


def _host(scene: Scene) -> str:
    assert scene.registry is not None
    return scene.registry.host


_MAKERS: dict[str, Callable[[Scene], str]] = {
    "running": lambda scene: scene.container(),
    "idle": lambda scene: scene.container(start=False),
    "paused": _paused,
    "ended": _ended,
    "named": _named,
    "exec": _exec,
    "done_exec": _done_exec,
    "volume": _volume,
    "used_volume": _used_volume,
    "network": _network,
    "used_network": _used_network,
    "tagged": _tagged,
    "pushed": _pushed,
    "to_push": _to_push,
    "host": _host,
}

UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {base64.b64encode(b'0123456789abcdef').decode()}",
)


def refused_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

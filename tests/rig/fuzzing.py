"""Requests made at random from the daemon's own OpenAPI description: what clients send, what they should not, what nobody would.

What could harm the machine under the test is not made: no path of the host is bound, no device given, no namespace of the host
joined. Names of networks outside end at a proxy that refuses.
"""

import io
import json
import random
import socket
import tarfile
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NASTY = (
    "", " ", ".", "..", "../../etc/passwd", "a" * 300, "\u0000", "🦆", "%00", "-1", "0", "1e9", "null", "true", "{", "a:b:c", "A/B",
    "sha256:" + "0" * 64, "0" * 64, "*", "[", "x\ny", "name with spaces", "'; drop table", "$(id)", "/", "//", "latest",
    "\u00b2", "\u0663", "9" * 25, "9" * 5000, "1e400", "NaN", "inf", "0x10", "1" + "0" * 400 + "h", "9999999999999h", "(a+)+$", "http://[",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 10, 137, 65536, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30)
VERSIONS = ("1.24", "1.25", "1.30", "1.40", "1.41", "1.42", "1.43", "1.44", "1.48", "1.50", "1.52", "1.56")
WORDS: dict[str, Sequence[str]] = {
    "Image": ("busybox", "busybox:latest", "nothing"),
    "image": ("busybox", "nothing"),
    "Source": ("data", "other", ""),
    "NetworkMode": ("", "bridge", "none", "mine", "container:web", "nonsense"),
    "PidMode": ("", "container:web", "nonsense"),
    "IpcMode": ("", "private", "shareable", "none", "container:web", "nonsense"),
    "UTSMode": ("", "nonsense"),
    "UsernsMode": ("", "nonsense"),
    "CgroupnsMode": ("", "private", "nonsense"),
    "CgroupParent": ("", "../x"),
    "PathOnHost": ("/dev/null", "/nonexistent"),
    "Path": ("/dev/null", "/nonexistent"),
    "Driver": ("", "bridge", "none", "local", "nonsense"),
    "Type": ("volume", "tmpfs", "json-file", "local", "none", "nonsense"),
    "Subnet": ("10.249.1.0/24", "10.249.2.0/24", "300.1.1.1/8", "fd00:249::/64"),
    "Gateway": ("10.249.1.1", "nonsense"),
    "Container": ("web", "job", "nothing"),
    "fromSrc": ("-", "nonsense", "http://127.0.0.1:9/x"),
    "remote": ("", "http://127.0.0.1:9/x", "nonsense"),
    "serveraddress": ("127.0.0.1:9", "nonsense"),
    "condition": ("", "not-running", "next-exit", "removed", "someday"),
    "signal": ("", "TERM", "KILL", "HUP", "0", "65", "nonsense"),
    "path": ("/", "/etc", "/nothing", "etc/passwd", "../..", ""),
    "platform": ("", "linux/amd64", "linux/arm64", "nonsense"),
    "Signal": ("TERM", "nonsense"),
}
NEVER = frozenset(
    ("Binds", "Privileged", "Devices", "DeviceRequests", "Sysctls", "DeviceCgroupRules", "BindOptions", "VolumesFrom")
)
"""Fields that could reach the host."""
LONG = frozenset(("/debug/pprof/profile", "/debug/pprof/trace"))
"""What takes as long as it is asked to."""
TIMES = {"t": (0, 1), "h": (1, 24), "w": (1, 80)}
FILTERS = (
    "label", "label!", "until", "dangling", "reference", "name", "id", "status", "type", "event", "driver", "all", "nonsense",
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """One request."""

    method: str
    path: str
    """As the description has it."""
    target: str
    headers: tuple[str, ...]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.target[:200]} {self.body[:300]!r}"


@dataclass(frozen=True)
class Hit:
    """What came back: the head, and as much of the body as was read."""

    status: int
    head: str
    body: bytes


@dataclass
class Fuzzer:
    """Makes requests; the same seed makes the same ones."""

    description: Any
    seed: int
    names: Sequence[str] = ("web", "job", "data", "mine", "busybox", "busybox:latest", "bridge")
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._operations = [
            (method.upper(), path, operation)
            for path, item in self.description["paths"].items()
            for method, operation in item.items()
            if path not in LONG
        ]

    def shot(self) -> Shot:
        """The next request."""
        choose = self._random
        method, path, operation = choose.choice(self._operations)
        places = {each["name"]: self._word() for each in operation["parameters"] if each["in"] == "path"}
        target = path
        for name, value in places.items():
            target = target.replace(f"{{{name}}}", urllib.parse.quote(value or "x", safe="/:" if name == "name" else ":"))
        if choose.random() < 0.6:
            target = f"/v{choose.choice(VERSIONS)}{target}"
        query = [
            (each["name"], text)
            for each in operation["parameters"]
            if each["in"] == "query" and choose.random() < (0.9 if each["required"] else 0.35)
            for text in self._values(each)
        ]
        if query:
            target += "?" + urllib.parse.urlencode(query)
        headers, body = self._body(operation.get("requestBody"))
        return Shot(method, path, target, headers, body)

    def _word(self, name: str = "") -> str:
        if name in WORDS:
            return self._random.choice(WORDS[name])
        return self._random.choice(self.names if self._random.random() < 0.6 else NASTY)

    def _values(self, parameter: Any) -> list[str]:
        choose, name = self._random, parameter["name"]
        if "content" in parameter:
            if choose.random() < 0.15:
                return [choose.choice(NASTY)]
            schema = parameter["content"]["application/json"]["schema"]
            value = self._filters() if name == "filters" else self._value(schema, name, 0)
            return [json.dumps(value)]
        kind = parameter["schema"]["type"]
        if name in TIMES and choose.random() < 0.8:
            return [str(choose.choice(TIMES[name]))]
        if choose.random() < 0.1 and name not in WORDS and name not in TIMES:
            return [choose.choice(NASTY)]
        if kind == "boolean":
            return [choose.choice(("0", "1", "true", "false"))]
        if kind == "integer":
            return [str(choose.choice(NUMBERS[:6]))]
        if kind == "array":
            return [self._word(name) for _ in range(choose.randrange(3))]
        return [self._word(name)]

    def _filters(self) -> object:
        choose = self._random
        chosen = choose.sample(FILTERS, choose.randrange(3))
        if choose.random() < 0.3:
            return {name: {self._word(): choose.random() < 0.8} for name in chosen}
        return {name: [self._word() for _ in range(choose.randrange(3))] for name in chosen}

    def _body(self, wanted: Any) -> tuple[tuple[str, ...], bytes]:
        if wanted is None or (not wanted["required"] and self._random.random() < 0.1):
            return (), b""
        media_type, content = next(iter(wanted["content"].items()))
        if media_type == "application/x-tar":
            return (f"Content-Type: {media_type}",), self._random.choice(ARCHIVES)
        body = json.dumps(self._value(content["schema"], "", 0)).encode()
        if self._random.random() < 0.08:
            body = body[: self._random.randrange(len(body) + 1)] + self._random.choice((b"", b"}", b"\xff", b"null"))
        return ("Content-Type: application/json",), body

    def _value(self, schema: Any, name: str, depth: int) -> object:
        choose = self._random
        if depth > 8 or (depth and choose.random() < 0.04):
            return choose.choice((None, 0, "", [], {}, True, "x", -1))
        if "$ref" in schema:
            return self._value(self.description["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name, depth)
        if "anyOf" in schema:
            return self._value(choose.choice(schema["anyOf"]), name, depth)
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                if "prefixItems" in schema:
                    return [self._value(item, name, depth + 1) for item in schema["prefixItems"]]
                return [self._value(schema.get("items", {}), name, depth + 1) for _ in range(choose.randrange(3))]
            case "string":
                return self._word(name)
            case "integer":
                return choose.choice(NUMBERS[:6] if choose.random() < 0.8 else NUMBERS)
            case "boolean":
                return choose.random() < 0.5
            case "null":
                return None
        return choose.choice(("x", 1, None))

    def _object(self, schema: Any, depth: int) -> dict[str, object]:
        choose = self._random
        found: dict[str, object] = {}
        for name, inner in schema.get("properties", {}).items():
            likely = 0.9 if name in ("Image", "Cmd", "Name", "Container") else 0.12
            if name in NEVER or choose.random() >= likely:
                continue
            runs = name == "Cmd" and choose.random() < 0.7
            found[name] = ["sh", "-c", PROGRAM] if runs else self._value(inner, name, depth + 1)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            found |= {self._word(): self._value(extra, "", depth + 1) for _ in range(choose.randrange(3))}
        return found


PROGRAM = "trap exit TERM; while :; do sleep 0.2 & wait; done"
"""Ends at once when it is asked to."""


def _archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


ARCHIVES = (
    b"", b"garbage" * 100, _archive(), _archive(file=b"x"), _archive(Dockerfile=b"FROM scratch\nCOPY Dockerfile /\n"),
    _archive(Dockerfile=b"FROM busybox\nRUN true\n"), _archive(file=b"y" * 2000)[:1500], _archive(**{"../escape": b"x"}),
)  # fmt: skip


_MOMENT_SECONDS, _PATIENCE_SECONDS = 0.05, 20.0
_LAST_CHUNK = b"0\r\n\r\n"


def fire(path: Path, shot: Shot, *, seconds: float = 30.0, until: bytes = b"") -> Hit:
    """Send a request on a connection of its own; read the head, and of a stream what comes at once, or up to some bytes.

    Raises TimeoutError when there is no head.
    """
    lines = [f"{shot.method} {shot.target} HTTP/1.1", "Host: d", *shot.headers]
    if shot.body or shot.method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(shot.body)}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(seconds)
        client.connect(str(path))
        try:
            client.sendall("\r\n".join([*lines, "", ""]).encode() + shot.body)
        except BrokenPipeError:
            pass  # refused before it was read: the answer is there
        arrived = b""
        while b"\r\n\r\n" not in arrived:
            piece = client.recv(65536)
            if not piece:
                break
            arrived += piece
        head, _, body = arrived.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if shot.method != "HEAD":
            body = _whole(client, head.lower(), body, until)
        return Hit(status, head.decode("latin-1"), body)


def _whole(client: socket.socket, head: bytes, body: bytes, until: bytes) -> bytes:
    """A body whose length is known; of any other what comes without a pause, or, when some bytes are waited for, up to them."""
    marker = b"content-length: "
    if marker in head:
        length = int(head.partition(marker)[2].split(b"\r\n")[0])
        while len(body) < length and (piece := client.recv(65536)):
            body += piece
        return body
    client.settimeout(_PATIENCE_SECONDS if until else _MOMENT_SECONDS)
    try:
        while len(body) < 8 << 20 and body[-5:] != _LAST_CHUNK and not (until and until in body) and (piece := client.recv(65536)):
            body += piece
    except (TimeoutError, ConnectionError):
        pass
    return body

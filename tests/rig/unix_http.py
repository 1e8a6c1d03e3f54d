"""The Engine API asked directly, for what no command line sends: malformed bodies, odd headers, exact statuses."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the Engine API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The sentence in an error answer."""
        text = self.json["message"]
        assert isinstance(text, str)
        return text


class UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 to a unix socket."""

    def __init__(self, path: Path, timeout_seconds: float = 30.0) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    path: Path,
    method: str,
    target: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30.0,
) -> Reply:
    """One request and its whole answer. A body that is not bytes is sent as JSON."""
    sent = dict(headers or {})
    if body is None:
        content = None
    elif isinstance(body, bytes):
        content = body
    else:
        content = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    connection = UnixConnection(path, timeout_seconds)
    try:
        connection.request(method, target, content, sent)
        response = connection.getresponse()
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())
    finally:
        connection.close()

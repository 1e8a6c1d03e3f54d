"""A daemon that does nothing but write down what it is asked: for comparing two command lines by their requests."""

import json
import os
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Recorded:
    """One request; the body as JSON where it is JSON, the query without its order."""

    method: str
    path: str
    query: dict[str, list[Any]]
    headers: dict[str, str]
    body: Any


class Recorder:
    """Answers `_ping` with a version and everything else with a document chosen by path, or a refusal."""

    def __init__(self, *, version: str = "1.50", answers: dict[str, Any] | None = None) -> None:
        self._version = version
        self._answers = answers or {}
        self.requests: list[Recorded] = []
        self.folder = Path(tempfile.mkdtemp(prefix="recorder-", dir="/tmp"))
        self.socket = self.folder / "s"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(20)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        shutil.rmtree(self.folder)

    def environment(self, **extra: str) -> dict[str, str]:
        """Variables that lead a client here, and to no settings of anyone's."""
        kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        return {**kept, "HOME": str(self.folder), "DOCKER_HOST": f"unix://{self.socket}", **extra}

    def take(self) -> list[Recorded]:
        """What was asked since the last time."""
        taken, self.requests = self.requests, []
        return taken

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while header := stream.readline().strip():
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = self._read_body(stream, headers)
                connection.sendall(self._answer(method, target, headers, body))

    def _read_body(self, stream: Any, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            data: bytes = stream.read(int(headers["content-length"]))
            return data
        data = b""
        while headers.get("transfer-encoding") == "chunked":
            size = int(stream.readline(), 16)
            data += stream.read(size)
            stream.readline()
            if size == 0:
                break
        return data

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        if target.endswith("/_ping"):
            content = b"" if method == "HEAD" else b"OK"
            extra = f"Api-Version: {self._version}\r\nOstype: linux\r\nBuilder-Version: 1\r\n"
            return f"HTTP/1.1 200 OK\r\n{extra}Content-Length: {len(content)}\r\n\r\n".encode() + content
        parts = urlsplit(target)
        query = {
            name: [_as_json(value) for value in values] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
        }
        path = parts.path.removeprefix(f"/v{self._version}")
        self.requests.append(Recorded(method, path, query, headers, _as_json(body.decode("latin-1"))))
        for place, document in self._answers.items():
            if place in (path, f"{method} {path}"):
                content = json.dumps(document).encode()
                return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
                    len(content),
                    content,
                )
        content = b'{"message":"written down"}'
        return b"HTTP/1.1 418 x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

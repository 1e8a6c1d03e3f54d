"""A registry server as a process of its own, and a client that says exactly what a test wants said."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Answer:
    """A response, read whole."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error code of distribution-spec, empty without one."""
        if "json" not in self.headers.get("Content-Type", ""):
            return ""
        document = self.json
        return str(document["errors"][0]["code"]) if isinstance(document, dict) and "errors" in document else ""


@dataclass
class Client:
    """Speaks to one address; a new connection for each request, so that nothing leaks from one to the next."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        fields = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = self.connect()
        try:
            connection.request(method, path, body, fields, encode_chunked=fields.get("Transfer-Encoding") == "chunked")
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, response.headers, content)
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self.tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=30)

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def head(self, path: str, **headers: str) -> Answer:
        return self.ask("HEAD", path, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.ask("DELETE", path, **headers)

    def start_upload(self, repository: str) -> str:
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status == 202, answer
        return answer.headers["Location"]

    def push_blob(self, repository: str, content: bytes) -> str:
        location = self.start_upload(repository)
        answer = self.ask("PUT", f"{location}?digest={sha256(content)}", content)
        assert answer.status == 201, answer
        return sha256(content)

    def put_manifest(
        self, repository: str, reference: str, document: object, media_type: str = OCI_MANIFEST, **headers: str
    ) -> Answer:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.ask("PUT", f"/v2/{repository}/manifests/{reference}", content, Content_Type=media_type, **headers)

    def push_image(self, repository: str, tag: str, note: str = "", **fields: object) -> str:
        """A whole small image; its digest."""
        document = self.image(repository, note, **fields)
        answer = self.put_manifest(repository, tag, document)
        assert answer.status == 201, answer
        return str(answer.headers["Docker-Content-Digest"])

    def image(self, repository: str, note: str = "", **fields: object) -> dict[str, object]:
        """A manifest whose parts have been pushed."""
        config, layer = f'{{"note": "{note}"}}'.encode(), f"layer {note}".encode()
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": self.push_blob(repository, config), "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": self.push_blob(repository, layer), "size": len(layer)}],
            **fields,
        }


class LiveRegistry:
    """`python -m carrack.registry serve` on ports of the kernel's choice."""

    def __init__(self, root: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        self.root = root
        self.prefix = prefix
        """Words before the command line, that lead it into another network namespace."""
        self.options = options
        self.log = root.parent / f"{root.name}.log"
        self.access_log = root.parent / f"{root.name}.access"
        self.start()

    def start(self) -> None:
        read, write = os.pipe()
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            "carrack.registry",
            "serve",
            "--root",
            str(self.root),
            "--ready-fd",
            str(write),
        ]
        if "--listen" not in self.options:
            command += ["--listen", "127.0.0.1:0"]
        command += ["--access-log", str(self.access_log), *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, pass_fds=(write,), stderr=log)
        os.close(write)
        with os.fdopen(read) as ready:
            self.ports = [int(line.rpartition(":")[2]) for line in ready]
        if not self.ports:
            self.process.wait()
            raise RuntimeError(f"the registry did not start: {self.log.read_text()}")
        self.client = Client(self.ports[0])

    def kill(self) -> None:
        """As a power cut would, as far as processes go."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()

    def run(self, *arguments: str) -> dict[str, Any]:
        """`gc` or `scrub` on the same store; the report."""
        command = [sys.executable, "-m", "carrack.registry", arguments[0], "--root", str(self.root), *arguments[1:]]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stderr.decode()
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def stored(self, digest: str) -> Path:
        """Where the bytes of a digest are."""
        algorithm, encoded = digest.split(":")
        return self.root / "docker/registry/v2/blobs" / algorithm / encoded[:2] / encoded / "data"

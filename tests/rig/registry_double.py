"""A small registry in memory that can be told to misbehave: to cut connections, to refuse, to lie, to ask for tokens."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.rig.serving import serving
from tests.rig.tarballs import Packed, attesting

_ROUTE = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>manifests|blobs|tags)/(?P<rest>.*)")


@dataclass
class Registry:
    """Its content and its moods. `requests` counts what was asked: (method, kind)."""

    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    authorizations: list[str] = field(default_factory=list)
    cut_after: int = 0
    """Close the connection after this many bytes of a blob, once for each value taken."""
    cuts: int = 0
    cut_upload: int = 0
    """Close the connection after this many bytes of an upload that is longer, once."""
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    """Answer the next requests with these statuses instead."""
    challenge: str = ""
    token: str = ""
    password: str = ""
    lie: dict[str, bytes] = field(default_factory=dict)
    """Other bytes than those of a digest."""
    gate: threading.Event | None = None
    """Hold blobs back until it is set."""
    host: str = ""
    search: bool = True
    """Has an index (`/v1/search`)."""

    def put(self, name: str, tag: str, packed: Packed) -> str:
        """Hold an image; gives its manifest's digest."""
        for content in (packed.raw_config, *packed.blobs):
            self.blobs[name, _digest(content)] = content
        return self.put_manifest(name, tag, "application/vnd.oci.image.manifest.v1+json", packed.manifest)

    def put_index(self, name: str, tag: str, *images: Packed, attested: bool = False) -> str:
        """Hold an index of images, and perhaps a statement about the first of them."""
        for image in images:
            self.put(name, _digest(image.manifest), image)
        manifests = [image.descriptor() for image in images]
        if attested:
            described, (manifest, *blobs) = attesting(images[0])
            self.put_manifest(name, str(described["digest"]), str(described["mediaType"]), manifest)
            self.blobs |= {(name, _digest(content)): content for content in blobs}
            manifests.append(described)
        media_type = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
        return self.put_manifest(name, tag, media_type, json.dumps(index).encode())

    def put_manifest(self, name: str, tag: str, media_type: str, content: bytes) -> str:
        digest = _digest(content)
        self.manifests[name, tag] = self.manifests[name, digest] = (media_type, content)
        return digest

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[Registry]:
        registry = self

        class Bound(_Handler):
            house = registry

        server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"localhost:{server.server_address[1]}"
        with serving(server):
            yield self


class _Handler(BaseHTTPRequestHandler):
    house: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._answer(202)

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/token":
            self._give_token()
            return
        match = _ROUTE.fullmatch(parts.path)
        if parts.path == "/v2/_catalog":
            names = sorted({name for name, _ in self.house.manifests})
            self._answer(200, json.dumps({"repositories": names}).encode())
            return
        if parts.path == "/v1/search" and self.house.search:
            found = [{"name": name, "description": "", "star_count": 3, "is_official": False} for name, _ in self.house.manifests]
            term = parse_qs(parts.query)["q"][0]
            self._answer(200, json.dumps({"results": [result for result in found if term in str(result["name"])][:1]}).encode())
            return
        if parts.path == "/v2/":
            challenged = self.house.challenge and not self._authorized()
            headers = {"WWW-Authenticate": self.house.challenge.replace("HOST", self.house.host)} if challenged else {}
            self._answer(401 if challenged else 200, b"{}", headers)
            return
        if match is None:
            self._refuse(404, "NAME_UNKNOWN", "repository name not known to registry")
            return
        self.house.requests[self.command, match["kind"]] += 1
        self.house.authorizations.append(self.headers.get("Authorization", ""))
        if self.house.statuses:
            self._refuse(self.house.statuses.pop(0), "UNAVAILABLE", "not now")
            return
        if self.house.challenge and not self._authorized():
            self._body()
            self._answer(401, b"{}", {"WWW-Authenticate": self.house.challenge.replace("HOST", self.house.host)})
            return
        getattr(self, f"_{match['kind']}")(match["name"], match["rest"], parse_qs(parts.query))

    def _authorized(self) -> bool:
        given = self.headers.get("Authorization", "")
        return given == f"Bearer {self.house.token}" if self.house.token else given.startswith("Basic ")

    def _give_token(self) -> None:
        self.house.requests["GET", "token"] += 1
        given = self.headers.get("Authorization", "")
        self.house.authorizations.append(given)
        if self.house.password and given != f"Basic {self.house.password}":
            self._refuse(401, "UNAUTHORIZED", "authentication required")
            return
        self._answer(200, json.dumps({"token": self.house.token, "expires_in": 300}).encode())

    def _manifests(self, name: str, reference: str, _query: dict[str, list[str]]) -> None:
        if self.command == "PUT":
            digest = self.house.put_manifest(name, reference, self.headers["Content-Type"], self._body())
            self._answer(201, b"", {"Docker-Content-Digest": digest})
            return
        media_type, content = self.house.manifests.get((name, reference), ("", b""))
        if not content:
            self._refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        self._answer(
            200,
            self.house.lie.get(_digest(content), content),
            {"Content-Type": media_type, "Docker-Content-Digest": _digest(content)},
        )

    def _tags(self, name: str, _rest: str, _query: dict[str, list[str]]) -> None:
        tags = sorted(tag for of, tag in self.house.manifests if of == name and ":" not in tag)
        self._answer(200, json.dumps({"name": name, "tags": tags}).encode())

    def _blobs(self, name: str, rest: str, query: dict[str, list[str]]) -> None:
        if rest.startswith("uploads/"):
            self._upload(name, rest, query)
            return
        content = self.house.blobs.get((name, rest))
        if content is None:
            self._refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        if self.house.gate is not None and self.command == "GET":
            self.house.gate.wait(20)
        content = self.house.lie.get(rest, content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.house.ranges else 0
        if self.command == "GET" and self.house.cuts and len(content) > self.house.cut_after:
            self.house.cuts -= 1
            self._begin(206 if start else 200, len(content) - start, {})
            self.wfile.write(content[start : start + self.house.cut_after])
            self.wfile.flush()
            self.close_connection = True
            return
        self._answer(206 if start else 200, content[start:])

    def _upload(self, name: str, rest: str, query: dict[str, list[str]]) -> None:
        identity = rest.removeprefix("uploads/")
        if self.command == "POST":
            mount, source = query.get("mount", [""])[0], query.get("from", [""])[0]
            if mount and (source, mount) in self.house.blobs:
                self.house.blobs[name, mount] = self.house.blobs[source, mount]
                self._answer(201)
                return
            identity = str(len(self.house.uploads) + 1)
            self.house.uploads[identity] = bytearray()
            self._answer(202, b"", {"Location": f"/v2/{name}/blobs/uploads/{identity}"})
            return
        upload = self.house.uploads[identity]
        where = {"Location": f"/v2/{name}/blobs/uploads/{identity}"}
        if self.command == "PATCH":
            if 0 < self.house.cut_upload < int(self.headers.get("Content-Length") or 0):  # two come at once, in any order
                upload += self.rfile.read(self.house.cut_upload)
                self.house.cut_upload = 0
                self.close_connection = True
                self.connection.close()
                return
            upload += self._body()
            self._answer(202, b"", {**where, "Range": f"0-{len(upload) - 1}"})
        elif self.command == "GET":
            self._answer(204, b"", {**where, "Range": f"0-{len(upload) - 1}"})
        else:
            digest = query["digest"][0]
            if _digest(bytes(upload)) != digest:
                self._refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                return
            self.house.blobs[name, digest] = bytes(upload)
            self._answer(201)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._body()
        self._answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), {"Retry-After": "0"})

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self._begin(status, len(content), headers or {})
        if self.command != "HEAD" and status != 204:
            self.wfile.write(content)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"

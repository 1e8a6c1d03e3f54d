"""A company's HTTP proxy: CONNECT for https, absolute addresses for http, and a password. It alone knows where names lead."""

from __future__ import annotations

import http.client
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.rig.serving import serving


class CompanyProxy:
    """`names` maps host names to addresses (host:port); `asked` has what came, in order."""

    def __init__(self, names: dict[str, str], password: str = "") -> None:
        self.names, self.asked = names, list[str]()
        self.address = ""
        self._expected = f"Basic {b64encode(password.encode()).decode()}" if password else ""

    @contextmanager
    def serving(self) -> Iterator[CompanyProxy]:
        proxy = self

        class Bound(_Handler):
            house = proxy

        server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.address = f"127.0.0.1:{server.server_address[1]}"
        with serving(server):
            yield self

    def admits(self, authorization: str | None) -> bool:
        return not self._expected or authorization == self._expected


class _Handler(BaseHTTPRequestHandler):
    house: CompanyProxy
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        name = self.path.partition(":")[0]
        if not self._admitted(f"CONNECT {self.path}"):
            return
        host, _, port = self.house.names[name].partition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200, "Connection established")
            self.end_headers()
            back = threading.Thread(target=_copy, args=(far, self.connection))
            back.start()
            _copy(self.connection, far)
            back.join()
        self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if not self._admitted(f"GET {self.path}"):
            return
        far = http.client.HTTPConnection(self.house.names[parts.hostname or ""])
        far.request(
            "GET", parts.path, headers={name: value for name, value in self.headers.items() if name != "Proxy-Authorization"}
        )
        answer = far.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        far.close()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _admitted(self, what: str) -> bool:
        self.house.asked.append(what)
        if self.house.admits(self.headers["Proxy-Authorization"]):
            return True
        self.send_response(407, "Proxy Authentication Required")
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass

"""TLS to a daemon: what the container still prints after our input has ended is not lost, and certificates are checked."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.client.connection import connect
from carrack.client.endpoint import TlsFiles, parse_endpoint
from carrack.client.failure import ConnectionFailed

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *names], cwd=folder, check=True, capture_output=True
    )
    return folder


class Server:
    """Answers one client only after it has said that nothing more comes."""

    def __init__(self, folder: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = b""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        plain, _ = self._listener.accept()
        try:
            with self._context.wrap_socket(plain, server_side=True) as stream:
                while data := stream.recv(65536):
                    self.received += data
                stream.sendall(b"late " * 50000)
        except (ssl.SSLError, OSError):
            pass  # a client that did not trust us

    def close(self) -> None:
        self._thread.join()
        self._listener.close()


@pytest.fixture
def server(certificates: Path) -> Iterator[Server]:
    serving = Server(certificates)
    yield serving
    serving.close()


def test_output_goes_on_after_our_half_of_the_stream_has_ended(server: Server, certificates: Path) -> None:
    files = TlsFiles(str(certificates / "cert.pem"), str(certificates / "cert.pem"), str(certificates / "key.pem"))
    connection = connect(parse_endpoint(f"tcp://localhost:{server.port}", tls=files))
    connection.send(b"i" * 300000)
    connection.half_close()
    answer = b""
    while data := connection.receive():
        answer += data
    connection.close()
    assert answer == b"late " * 50000
    server.close()
    assert server.received == b"i" * 300000


def test_a_certificate_of_nobody_we_know_is_refused(server: Server) -> None:
    with pytest.raises(ConnectionFailed, match="certificate verify failed"):
        connect(parse_endpoint(f"tcp://localhost:{server.port}", tls=TlsFiles()))


def test_a_certificate_for_another_name_is_refused(server: Server, certificates: Path) -> None:
    with pytest.raises(ConnectionFailed, match="IP address mismatch|doesn't match"):
        connect(parse_endpoint(f"tcp://127.0.0.1:{server.port}", tls=TlsFiles(str(certificates / "cert.pem"))))


def test_a_certificate_is_not_checked_when_that_is_wished(server: Server) -> None:
    connection = connect(parse_endpoint(f"tcp://127.0.0.1:{server.port}", tls=TlsFiles(verify=False)))
    connection.half_close()
    assert connection.receive(4) == b"late"
    while connection.receive():
        pass
    connection.close()

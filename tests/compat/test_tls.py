"""TCP with mutual TLS: unmodified clients with streams that end half-way, and each way of not being let in, told clearly."""

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.certificates import Authority, Pair
from tests.rig.commands import Result, run
from tests.rig.engine import Engine, carrack_program, docker_program
from tests.rig.plugins import install_plugins
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.peer_lacks("the peer's loopback is in a namespace of its own")]
PROGRAMS = {"docker": docker_program, "carrack": carrack_program}


class Far:
    """An engine behind TLS, and a client with the files it is given."""

    def __init__(self, engine: Engine, port: int, authority: Authority, server: Pair, program: str) -> None:
        self.engine, self.port, self.authority, self.server = engine, port, authority, server
        self.program = program
        self.good = authority.issue("client")

    def env(self, pair: Pair | None, ca: Path | None = None) -> Mapping[str, str]:
        """As a user sets it up: DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH."""
        folder = self.engine.folder / f"certs-{pair.certificate.stem if pair else 'none'}-{ca.parent.name if ca else 'own'}"
        folder.mkdir(exist_ok=True)
        (folder / "ca.pem").write_bytes((ca or self.authority.certificate).read_bytes())
        for name, path in (("cert.pem", pair.certificate), ("key.pem", pair.key)) if pair else ():
            (folder / name).write_bytes(path.read_bytes())
        address = f"tcp://localhost:{self.port}"
        return {**self.engine.env(), "DOCKER_HOST": address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(folder)}

    def __call__(self, *words: str, stdin: bytes = b"", pair: Pair | None = None, ca: Path | None = None) -> Result:
        return run([self.program, *words], stdin=stdin, env=self.env(pair or self.good, ca))

    def without_certificate(self, *words: str) -> Result:
        return run([self.program, *words], env=self.env(None))


@pytest.fixture(params=["docker", "carrack"])
def far(request: pytest.FixtureRequest, make_engine: MakeEngine, tmp_path: Path, free_port: FreePort) -> Far:
    authority = Authority(tmp_path / "ca")
    server = authority.issue("server")
    port = free_port()
    files = ["--tlscacert", str(authority.certificate), "--tlscert", str(server.certificate), "--tlskey", str(server.key)]
    engine = make_engine("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", *files)
    return Far(engine, port, authority, server, PROGRAMS[str(request.param)]())


@pytest.mark.observes("docker --tlsverify", "docker run --interactive")
def test_standard_input_may_end_before_the_output_does(far: Far) -> None:
    assert far("run", "--rm", "-i", "busybox", "sh", "-c", "cat; sleep 0.3; echo after", stdin=b"given\n").ok() == "given\nafter"
    far("run", "-d", "--name", "up", "busybox", "sleep", "1000").ok()
    assert far("exec", "-i", "up", "sh", "-c", "wc -c; echo said", stdin=b"x" * 100_000).ok() == "100000\nsaid"
    assert far("exec", "up", "sh", "-c", "exit 7").code == 7
    far("rm", "-f", "up").ok()


@pytest.mark.parametrize("far", ["docker"], indirect=True)
@pytest.mark.observes("POST /grpc", "POST /session")
def test_buildx_builds_from_afar(far: Far, tmp_path: Path) -> None:
    install_plugins(far.engine.folder / "home", "buildx")
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM busybox\nCOPY . /context\nRUN sha256sum /context/big\n")
    (place / "big").write_bytes(os.urandom(6 << 20))
    shown = far("buildx", "build", "--progress", "plain", "-o", str(tmp_path / "out"), str(place))
    assert shown.code == 0, str(shown)
    assert (tmp_path / "out/context/big").read_bytes() == (place / "big").read_bytes()


def test_hundreds_of_megabytes_pass_both_ways(far: Far, request: pytest.FixtureRequest) -> None:
    megabytes = 300 if request.config.getoption("--full") else 60
    feeder = subprocess.Popen(["head", "-c", f"{megabytes}M", "/dev/zero"], stdout=subprocess.PIPE)
    words = [far.program, "run", "--rm", "-i", "busybox", "cat"]
    client = subprocess.Popen(words, stdin=feeder.stdout, stdout=subprocess.PIPE, env=far.env(far.good))
    assert feeder.stdout is not None
    assert client.stdout is not None
    feeder.stdout.close()
    count = 0
    while piece := client.stdout.read(1 << 20):
        count += len(piece)
    client.stdout.close()
    assert (client.wait(timeout=30), feeder.wait(timeout=30)) == (0, 0)
    assert count == megabytes << 20


def test_a_terminal_and_an_endless_answer_work(far: Far) -> None:
    with_events = [far.program, "events", "--filter", "type=container", "--format", "{{.Action}}"]
    watcher = subprocess.Popen(with_events, stdout=subprocess.PIPE, env=far.env(far.good), text=True)
    assert watcher.stdout is not None
    until(lambda: far("run", "--rm", "busybox", "true").code == 0 and watcher.poll() is None, "a container")
    # Which of its events is the first to be heard depends on when the watcher was there.
    assert watcher.stdout.readline().strip() in ("create", "attach", "start", "die", "destroy")
    watcher.terminate()
    watcher.wait(timeout=10)
    watcher.stdout.close()


@pytest.mark.parametrize("fault", ["none", "other CA", "expired"])
def test_a_client_without_a_good_certificate_is_told_why_it_stays_outside(far: Far, tmp_path: Path, fault: str) -> None:
    if fault == "none":
        refused = far.without_certificate("version")
    elif fault == "expired":
        refused = far("version", pair=far.authority.issue("late", days=-1))
    else:
        refused = far("version", pair=Authority(tmp_path / "other", "other CA").issue("stranger"))
    assert refused.code == 1
    words = {"none": "certificate", "other CA": "unknown certificate authority|unknown ca|bad certificate|decrypt error"}
    assert any(word in refused.stderr.lower() for word in words.get(fault, "expired|bad certificate").split("|")), refused.stderr
    assert "Traceback" not in refused.stderr
    assert far("version").code == 0  # and the daemon goes on


def test_a_daemon_of_another_ca_is_not_believed(far: Far, tmp_path: Path) -> None:
    refused = far("version", ca=Authority(tmp_path / "other", "other CA").certificate)
    assert refused.code == 1
    assert "certificate" in refused.stderr


def test_plain_http_is_answered_in_plain_words(far: Far) -> None:
    with socket.create_connection(("127.0.0.1", far.port), timeout=10) as plain:
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while piece := plain.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.0 400 Bad Request")
    assert b"Client sent an HTTP request to an HTTPS server." in answer


def test_a_renewed_certificate_is_served_after_a_reload(far: Far) -> None:
    renewed = far.authority.issue("server2")
    far.server.key.write_bytes(renewed.key.read_bytes())
    far.server.certificate.write_bytes(renewed.certificate.read_bytes())
    assert far.engine.process is not None
    os.kill(far.engine.process.pid, signal.SIGHUP)
    until(lambda: serial(far) == serial_of(renewed.certificate), "the new certificate")


def serial(far: Far) -> str:
    context = ssl.create_default_context(cafile=far.authority.certificate)
    context.load_cert_chain(far.good.certificate, far.good.key)
    with socket.create_connection(("127.0.0.1", far.port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
            found = encrypted.getpeercert() or {}
    return str(found["serialNumber"])


def serial_of(certificate: Path) -> str:
    text = run(["openssl", "x509", "-in", str(certificate), "-noout", "-serial"]).ok()
    return text.partition("=")[2]


def test_one_command_makes_certificates_that_docker_and_carrackd_take(
    make_engine: MakeEngine, engine_kind: str, tmp_path: Path, free_port: FreePort
) -> None:
    folder, port = tmp_path / "tls", free_port()
    certs = [carrack_program(), "system", "certs", "--directory", str(folder), "--host", "127.0.0.1", "--client", "ann"]
    assert "wrote" in run(certs).ok()
    before = {path: path.read_bytes() for path in folder.rglob("*.pem")}
    assert "everything is there already" in run(certs).ok()
    assert before == {path: path.read_bytes() for path in folder.rglob("*.pem")}
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*key.pem")} == {"0o600"}
    files = ["--tlscacert", f"{folder}/ca.pem", "--tlscert", f"{folder}/server-cert.pem", "--tlskey", f"{folder}/server-key.pem"]
    engine = make_engine("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", *files)
    address = {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": f"{folder}/ann"}
    for program in (docker_program(), carrack_program()):
        assert run([program, "run", "--rm", "busybox", "echo", "in"], env={**engine.env(), **address}).ok() == "in"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["-H", "tcp://127.0.0.1:{port}"], "refusing to listen on tcp://127.0.0.1:{port} without TLS"),
        (["-H", "tcp://0.0.0.0:{port}", "--tls=false"], "it is not loopback and has no TLS"),
        (["-H", "tcp://127.0.0.1:{port}", "--tlsverify"], "could not load X509 key pair"),
    ],
)
def test_carrackd_refuses_in_one_sentence_what_would_make_anyone_root(
    flags: list[str], sentence: str, tmp_path: Path, free_port: FreePort
) -> None:
    port = str(free_port())
    words = [flag.replace("{port}", port) for flag in flags]
    roots = ["--data-root", f"{tmp_path}/d", "--exec-root", f"{tmp_path}/e", "--config-file", "/dev/null"]
    roots += ["--instance", "refused", "--tlscert", f"{tmp_path}/none.pem"]
    refused = run([carrack_program() + "d", *roots, *words])
    assert (refused.code, refused.stderr.count("\n")) == (1, 1), refused
    assert sentence.replace("{port}", port) in refused.stderr

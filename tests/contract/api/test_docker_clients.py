"""The real clients against the API: the docker command and docker-py, over the engine's double."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import docker

from carrack.api.versions import MAX_VERSION
from tests.contract.api.conftest import Daemon
from tests.contract.api.engine_double import container

DaemonOf = Callable[..., Daemon]
DOCKER = shutil.which("docker")
needs_cli = pytest.mark.skipif(DOCKER is None, reason="the docker command is not installed")


def run(daemon: Daemon, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The docker command with a configuration of its own."""
    assert DOCKER is not None
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_HOST": daemon.host}
    return subprocess.run([DOCKER, *words], input=stdin, capture_output=True, timeout=30, env=environment, check=False)


@needs_cli
def test_docker_version_negotiates(daemon_of: DaemonOf) -> None:
    done = run(daemon_of(), "version", "--format", "{{.Server.APIVersion}} {{.Server.Version}} {{.Server.MinAPIVersion}}")
    assert done.stdout == f"{MAX_VERSION} 24.0.9+carrack0.1.0 1.24\n".encode(), done.stderr


@needs_cli
def test_docker_ps_shows_the_table(daemon_of: DaemonOf) -> None:
    done = run(
        daemon_of(container("web")), "ps", "--no-trunc", "--format", "{{.Names}}|{{.Image}}|{{.Ports}}|{{.Status}}|{{.Mounts}}"
    )
    assert done.stdout == b"web|busybox|81/tcp, 0.0.0.0:8080->80/tcp|Up About a minute|/srv\n", done.stderr


@needs_cli
def test_docker_inspect_and_info_read_the_documents(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    [found] = json.loads(run(daemon, "inspect", "web").stdout)
    assert found["NetworkSettings"]["IPAddress"] == "172.18.0.2"
    assert run(daemon, "info", "--format", "{{.Name}} {{.Containers}}").stdout == b"host 1\n"
    assert run(daemon, "system", "df", "--format", "{{.Type}}").stdout.splitlines()[1] == b"Containers"


@needs_cli
def test_piped_input_reaches_an_attached_container_and_its_exit_code_comes_back(daemon_of: DaemonOf) -> None:
    done = run(daemon_of(container("web")), "attach", "web", stdin=b"x")
    assert (done.stdout, done.returncode) == (b"X", 7), done.stderr


@needs_cli
def test_docker_run_attaches_waits_starts_and_exits_with_the_code(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    done = run(daemon, "run", "-i", "--name", "new", "busybox", "cat", stdin=b"hello")
    assert (done.stdout, done.returncode) == (b"HELLO", 7), done.stderr
    assert [name for name, _ in daemon.engine.asked] == ["attach", "wait"]


@needs_cli
def test_three_megabytes_pass_through_attach(daemon_of: DaemonOf) -> None:
    done = run(daemon_of(container("web")), "attach", "web", stdin=b"x" * (3 << 20))
    assert done.stdout == b"X" * (3 << 20)


@needs_cli
def test_docker_exec_separates_the_streams_and_gives_the_exit_code(daemon_of: DaemonOf) -> None:
    done = run(daemon_of(container("web")), "exec", "-i", "web", "cat", stdin=b"in")
    assert (done.stdout, done.stderr, done.returncode) == (b"out:in", b"err", 3)


@needs_cli
@pytest.mark.parametrize("flags", [(), ("-f",), ("--tail", "1")])
def test_docker_logs_prints_the_lines(daemon_of: DaemonOf, flags: tuple[str, ...]) -> None:
    done = run(daemon_of(container("web")), "logs", *flags, "web")
    assert done.stdout == (b"two\n" if "--tail" in flags else b"one\ntwo\n"), done.stderr


@needs_cli
def test_docker_shows_our_errors_as_dockers(daemon_of: DaemonOf) -> None:
    daemon = daemon_of()
    assert run(daemon, "start", "nope").stderr.startswith(b"Error response from daemon: No such container: nope")
    assert b"This node is not a swarm manager." in run(daemon, "service", "ls").stderr
    assert b"is not implemented by Carrack yet" in run(daemon, "swarm", "init").stderr


@needs_cli
def test_docker_top_rename_pause_and_rm_are_served(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    assert b"1                   sh" in run(daemon, "top", "web").stdout
    for words in (("pause", "web"), ("unpause", "web"), ("rename", "web", "shop"), ("kill", "shop"), ("rm", "-f", "shop")):
        assert run(daemon, *words).returncode == 0, words


@pytest.fixture
def client_of() -> Iterator[Callable[[Daemon], docker.DockerClient]]:
    """Clients of docker-py, closed when the test ends."""
    opened: list[docker.DockerClient] = []

    def connect(daemon: Daemon) -> docker.DockerClient:
        opened.append(docker.DockerClient(base_url=daemon.host, version="auto", timeout=20))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


ClientOf = Callable[[Daemon], docker.DockerClient]


def test_docker_py_reads_lists_and_attributes(daemon_of: DaemonOf, client_of: ClientOf) -> None:
    client = client_of(daemon_of(container("web")))
    [found] = client.containers.list()
    assert (found.name, found.status, found.ports) == (
        "web",
        "running",
        {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None},
    )
    assert client.version()["ApiVersion"] == MAX_VERSION
    assert client.ping()


def test_docker_py_reads_logs_whole_and_as_a_stream(daemon_of: DaemonOf, client_of: ClientOf) -> None:
    found = client_of(daemon_of(container("web"))).containers.get("web")
    assert found.logs() == b"one\ntwo\n"
    assert list(found.logs(stream=True)) == [b"one\n", b"two\n"]
    assert list(found.logs(stream=True, follow=True)) == [b"one\n", b"two\n"]


def test_docker_py_separates_the_streams_of_an_exec(daemon_of: DaemonOf, client_of: ClientOf) -> None:
    found = client_of(daemon_of(container("web"))).containers.get("web")
    result = found.exec_run(["cat"], demux=True)
    assert (result.exit_code, result.output) == (3, (b"out:", b"err"))


def test_docker_py_attaches_a_socket(daemon_of: DaemonOf, client_of: ClientOf) -> None:
    found = client_of(daemon_of(container("web", tty=True))).containers.get("web")
    raw = found.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    raw._sock.sendall(b"hello")
    raw._sock.shutdown(1)
    pieces = []
    while piece := raw._sock.recv(100):
        pieces.append(piece)
    raw._sock.close()
    raw.close()
    assert b"".join(pieces).endswith(b"HELLO")


def test_docker_py_waits_and_removes(daemon_of: DaemonOf, client_of: ClientOf) -> None:
    client = client_of(daemon_of(container("web", running=False)))
    found = client.containers.get("web")
    assert found.wait() == {"StatusCode": 0}
    found.start()
    found.start()
    found.remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("web")


def test_docker_py_hears_events(daemon_of: DaemonOf, client_of: ClientOf) -> None:
    daemon = daemon_of()
    heard = client_of(daemon).events(decode=True)
    daemon.engine.events.emit("container", "start", "c", {"name": "web"})
    assert next(heard)["Action"] == "start"
    heard.close()

"""The same engine through docker-py, the Python client that others build on."""

import io
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Images
from tests.rig.archives import docker_archive
from tests.rig.engine import Engine

# docker-py leaves the socket of a finished exec stream to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    """A docker-py client on the engine."""
    client = engine.docker_py()
    yield client
    client.close()


def test_run_returns_the_output(client: Any) -> None:
    """docker-py itself reads the output back only where the log driver is json-file or journald."""
    log = {"type": "json-file", "config": {}}
    assert client.containers.run("busybox", ["echo", "hello"], remove=True, log_config=log) == b"hello\n"


def test_no_run_of_many_at_once_misses_its_output(engine: Engine, request: pytest.FixtureRequest) -> None:
    """Each asks for the log while its container ends, and has removed it before it reads."""
    each = 100 if request.config.getoption("--full") else 3

    def runs(number: int) -> list[bytes]:
        own = engine.docker_py()
        driver: dict[str, Any] = {"type": ("json-file", "local")[number % 2], "config": {}}
        try:
            return [own.containers.run("busybox", ["echo", "hello"], remove=True, log_config=driver) for _ in range(each)]
        finally:
            own.close()

    with ThreadPoolExecutor(6) as pool:
        said = [output for outputs in pool.map(runs, range(6)) for output in outputs]
    # dockerd's `local` driver is one that docker-py reads nothing from
    assert set(said) <= {b"hello\n"} | ({None} if engine.kind == "dockerd" else set())


def test_the_low_level_clients_runtime_is_honoured(client: Any) -> None:
    made = client.api.create_container("busybox", ["true"], runtime="runc")
    assert client.api.inspect_container(made)["HostConfig"]["Runtime"] == "runc"


def test_a_failing_command_raises_with_its_code_and_error(client: Any) -> None:
    import docker.errors

    with pytest.raises(docker.errors.ContainerError) as failure:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert failure.value.exit_status == 3
    assert b"why" in failure.value.stderr


def test_unknown_things_raise_not_found(client: Any) -> None:
    import docker.errors

    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nobody")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("nothing:1")


def test_a_detached_container_has_a_life(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True, name="life", labels={"a": "b"})
    container.reload()
    assert (container.status, container.name, container.labels) == ("running", "life", {"a": "b"})
    assert client.containers.list(filters={"label": "a=b"}) == [container]
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()
    assert client.containers.list(all=True) == []


def test_logs_stream_line_by_line(client: Any) -> None:
    script = "echo one; echo two >&2; echo three"
    container = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    assert sorted(container.logs(stream=True, follow=True)) == [b"one\n", b"three\n", b"two\n"]
    assert container.logs(stdout=True, stderr=False) == b"one\nthree\n"
    assert container.logs(stdout=False, stderr=True) == b"two\n"
    assert container.logs(tail=1) in {b"three\n", b"two\n"}


def test_exec_demultiplexes(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    code, (out, err) = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"out\n", b"err\n")
    code, output = container.exec_run("id -un", user="app", workdir="/tmp", environment={"X": "1"})
    assert (code, output) == (0, b"app\n")


def test_exec_streams(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    _, stream = container.exec_run(["sh", "-c", "echo a; sleep 0.2; echo b"], stream=True)
    assert b"".join(stream) == b"a\nb\n"


def test_exec_on_a_socket_talks_both_ways(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    made = client.api.exec_create(container.id, ["sh"], stdin=True, tty=True)
    with _raw(client.api.exec_start(made["Id"], tty=True, socket=True)) as talk:
        talk.sendall(b"echo $((6 * 7))\nexit\n")
        assert b"42" in _everything(talk)
    assert client.api.exec_inspect(made["Id"])["ExitCode"] == 0


def test_attach_socket_talks_both_ways_and_half_closes(client: Any) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "cat; echo done"], stdin_open=True)
    attached = client.api.attach_socket(container.id, params={"stdin": 1, "stdout": 1, "stream": 1})
    with _raw(attached) as talk:
        container.start()
        talk.sendall(b"over the wire\n")
        talk.shutdown(socket.SHUT_WR)
        received = _everything(talk)
    assert _payload(received) == {1: b"over the wire\ndone\n"}


def test_events_can_be_read_while_things_happen(client: Any) -> None:
    events = client.events(decode=True, filters={"type": "container"})
    try:
        container = client.containers.run("busybox", ["true"], detach=True, name="told")
        seen = []
        for event in events:
            seen.append(event["Action"])
            assert event["Actor"]["ID"] == container.id
            if event["Action"] == "die":
                break
        assert seen == ["create", "start", "die"]
    finally:
        events.close()


def test_images_are_loaded_saved_tagged_and_removed(client: Any, images: Images) -> None:
    recipe = images.busybox.with_config(Labels={"n": "1"})
    archive = docker_archive(type(recipe)(recipe.layers, ("py:1",), recipe.config))
    (image,) = client.images.load(archive)
    assert image.tags == ["py:1"]
    assert image.tag("py", "2")
    image.reload()
    assert sorted(image.tags) == ["py:1", "py:2"]
    saved = b"".join(image.save(named="py:1"))
    client.images.remove("py:1")
    client.images.remove("py:2")
    (again,) = client.images.load(io.BytesIO(saved))
    assert again.id == image.id


def test_top_and_stats_of_the_engine(client: Any) -> None:
    container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
    shown = container.top()
    assert "PID" in shown["Titles"]
    assert len(shown["Processes"]) == 1
    assert client.ping() is True
    assert client.version()["ApiVersion"]
    assert client.info()["ContainersRunning"] == 1


def test_wait_until_removed(client: Any) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "sleep 0.3; exit 5"], detach=True, remove=True)
    assert container.wait(condition="removed")["StatusCode"] == 5


def _raw(attached: Any) -> socket.socket:
    """The socket below docker-py's file object, as our own to close."""
    talk: socket.socket = attached._sock
    copy = talk.dup()
    attached.close()
    talk.close()
    copy.settimeout(15)
    return copy


def _everything(talk: socket.socket) -> bytes:
    received = b""
    while chunk := talk.recv(65536):
        received += chunk
    return received


def _payload(stream: bytes) -> dict[int, bytes]:
    """Cut the frames of an attach stream: one byte of stream number, three of zero, four of length, then the payload."""
    found: dict[int, bytes] = {}
    while stream:
        number, length = stream[0], int.from_bytes(stream[4:8], "big")
        found[number] = found.get(number, b"") + stream[8 : 8 + length]
        stream = stream[8 + length :]
    return found

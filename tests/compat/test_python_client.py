"""The Python client on a real engine: what it returns, what it raises, and that it lets connections go."""

import io
import os
import tarfile
import threading
from collections.abc import Iterator

import pytest

from carrack.client import ApiError, Client, Conflict, ConnectionFailed, Container, ContainerFailed, NotFound
from tests.rig.engine import Engine
from tests.rig.waiting import until


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    with Client(f"unix://{engine.socket}") as opened:
        yield opened
        for container in opened.containers.list(everything=True):
            container.remove(force=True, volumes=True)


@pytest.fixture
def box(client: Client) -> Container:
    """A container that runs."""
    return client.containers.run("busybox", ["sleep", "1000"], detach=True, name="box")


def test_output_of_a_run_is_its_stdout_and_the_container_is_gone(client: Client) -> None:
    assert client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"]) == b"out\n"
    assert client.containers.list(everything=True) == []


def test_a_failed_run_raises_with_status_and_stderr(client: Client) -> None:
    with pytest.raises(ContainerFailed, match="exited with status 4: why") as failed:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 4"])
    assert (failed.value.status, failed.value.output) == (4, b"why\n")


def test_a_megabyte_goes_in_and_comes_out_at_once(client: Client) -> None:
    sent = os.urandom(1 << 20)
    assert client.containers.run("busybox", ["cat"], stdin=sent) == sent


def test_a_program_that_cannot_start_is_the_daemons_refusal(client: Client) -> None:
    with pytest.raises(ApiError, match="no-such-program"):
        client.containers.run("busybox", ["no-such-program"])
    assert client.containers.list(everything=True) == []


def test_a_containers_life(client: Client, box: Container) -> None:
    assert box.name == "box"
    assert client.containers.get("box").id == box.id
    box.pause()
    assert box.status == "paused"
    box.unpause()
    box.rename("crate")
    assert box.name == "crate"
    assert [row["CMD"] for row in box.top()] == ["sleep 1000"]
    box.stop(timeout_seconds=0)
    assert (box.status, box.wait()) == ("exited", 137)
    box.start()
    box.restart(timeout_seconds=0)
    box.kill()
    assert box.wait() == 137
    box.remove()
    with pytest.raises(NotFound):
        box.inspect()


def test_refusals_are_of_their_kind(client: Client, box: Container) -> None:
    with pytest.raises(Conflict):
        client.containers.create("busybox", name="box")
    with pytest.raises(Conflict):
        box.remove()
    with pytest.raises(NotFound, match="No such container"):
        client.containers.get("nobody")


def test_exec_tells_streams_apart_and_takes_input(box: Container) -> None:
    assert box.exec(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, b"out\n", b"err\n")
    assert box.exec(["wc", "-c"], stdin=b"x" * 100_000)[1].split() == [b"100000"]
    assert box.exec(["sh", "-c", "id -u; pwd; echo $A"], user="5", workdir="/tmp", environment={"A": "b"})[1] == b"5\n/tmp\nb\n"


def test_published_ports_are_told(client: Client) -> None:
    box = client.containers.run("busybox", ["sleep", "1000"], detach=True, ports={"80/tcp": 0})
    (address, port), *_ = box.ports()["80/tcp"]
    assert port > 0
    assert address


def test_logs_are_followed_until_the_end(client: Client) -> None:
    box = client.containers.run("busybox", ["sh", "-c", "echo a; printf b"], detach=True)
    assert list(box.logs(follow=True)) == [b"a\n", b"b"]
    assert box.output() == b"a\nb"


def test_leaving_a_stream_early_lets_the_connection_go(client: Client, box: Container) -> None:
    box.exec(["true"])
    before = len(os.listdir("/proc/self/fd"))
    with box.logs(follow=True) as lines:
        assert len(os.listdir("/proc/self/fd")) == before
        assert iter(lines) is lines
    with client.events() as events:
        pass
    assert len(os.listdir("/proc/self/fd")) <= before
    events.close()


def test_events_come_as_they_happen(client: Client, engine: Engine) -> None:
    seen: list[str] = []
    with client.events(filters={"type": ["container"]}) as events:

        def listen() -> None:
            for event in events:
                seen.append(event["Action"])
                if event["Action"] == "destroy":
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        with Client(f"unix://{engine.socket}") as other:
            other.containers.run("busybox", ["true"])
        listener.join(timeout=20)
    assert [action for action in seen if action in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]


def test_statistics_are_read_once_and_followed(box: Container) -> None:
    assert box.stats()["memory_stats"]["usage"] > 0
    with box.follow_stats() as readings:
        assert next(readings)["pids_stats"]["current"] >= 1


def test_files_go_in_and_come_out(box: Container) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    box.put_archive("/tmp", archive.getvalue())
    assert ("added", "/tmp/file") in box.changes()
    with box.get_archive("/tmp/file") as pieces:
        content = b"".join(pieces)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = tar.extractfile("file")
        assert found is not None
        assert found.read() == b"text"
    with pytest.raises(NotFound):
        box.get_archive("/nowhere")


def test_an_image_is_made_of_a_container_and_looked_at(client: Client, box: Container) -> None:
    box.exec(["touch", "/mark"])
    identity = box.commit("made", "1", message="by hand")
    assert client.images.inspect("made:1")["Id"] == identity
    assert client.images.history("made:1")[0]["Comment"] == "by hand"
    assert client.containers.run("made:1", ["ls", "/mark"]) == b"/mark\n"
    client.images.remove("made:1", force=True)


def test_a_pull_that_cannot_be_is_the_registrys_reason(client: Client) -> None:
    with pytest.raises(ApiError):
        client.images.pull("127.0.0.1:1/nobody/nothing:1")


def test_what_nothing_uses_is_pruned(client: Client) -> None:
    ended = client.containers.create("busybox", ["true"])
    network = client.networks.create("lonely")
    client.volumes.create()
    assert client.containers.prune() == (ended.id,)
    assert client.networks.prune() == ("lonely",)
    assert len(client.volumes.prune()) == 1
    with pytest.raises(NotFound):
        client.networks.inspect(network)


def test_limits_change_while_it_runs(box: Container) -> None:
    box.update(Memory=64 << 20, MemorySwap=64 << 20)
    assert box.inspect()["HostConfig"]["Memory"] == 64 << 20


def test_a_daemon_that_is_not_there_is_named() -> None:
    with Client("unix:///no/such.sock") as client, pytest.raises(ConnectionFailed, match="unix:///no/such.sock"):
        client.ping()


def test_a_daemon_that_restarts_between_two_questions_is_no_failure(client: Client, engine: Engine) -> None:
    assert client.version()["ApiVersion"]
    engine.stop()
    engine.start()
    until(lambda: client.info()["ContainersRunning"] == 0, "the daemon to be back")

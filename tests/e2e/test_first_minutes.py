"""What a new user may run into first: one sentence that says what to do, never a traceback. Each is provoked for real where this
machine can (a tmpfs that is full, another user, a kernel that calls itself 2.6); an old Python is one that says it is."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import EnginePool, Images, MakeEngine
from tests.rig.commands import Result, run
from tests.rig.engine import ROOT, CommandLine, Engine, carrack_program
from tests.rig.ports import FreePort
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed, docker_archive, entry, tar
from tests.rig.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.peer_lacks("the sentences are Carrack's own")]
CARRACKD = str(ROOT / ".venv/bin/carrackd")


def one_sentence(done: Result, *words: str) -> None:
    """A refusal in one line of standard error, with these words."""
    assert done.code != 0, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], done


def private(folder: Path) -> list[str]:
    """Flags of a daemon that stands on its own."""
    (folder / "daemon.json").write_text("{}")
    roots = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", f"unix://{folder}/s"]
    return ["--instance", f"fm{os.getpid():x}", "--config-file", f"{folder}/daemon.json", *roots]


def test_no_daemon(tmp_path: Path) -> None:
    one_sentence(run([carrack_program(), "-H", f"unix://{tmp_path}/none.sock", "ps"]), "Cannot connect", "none.sock")


def test_a_host_that_has_no_such_name() -> None:
    refused = run([carrack_program(), "-H", "tcp://nowhere.invalid:2375", "ps"])
    one_sentence(refused, "Cannot connect", "nowhere.invalid", "name")
    assert "running?" not in refused.stderr


def test_a_folder_where_an_archive_is_wanted(engine: Engine, tmp_path: Path) -> None:
    carrack = CommandLine(engine, [carrack_program()])
    one_sentence(carrack("import", str(tmp_path)), f"read {tmp_path}: is a directory")
    one_sentence(carrack("load", "-i", str(tmp_path)), f"read {tmp_path}: is a directory")


def test_a_program_that_is_not_in_the_image(engine: Engine) -> None:
    carrack = CommandLine(engine, [carrack_program()])
    refused = carrack("run", "--rm", "busybox", "nosuch")
    assert refused.code == 127
    said = 'carrack: Error response from daemon: exec: "nosuch": executable file not found in $PATH'
    assert refused.stderr.splitlines()[0] == said
    carrack.ok("create", "--name", "wrong", "busybox", "nosuch")
    assert carrack("start", "wrong").stderr.splitlines()[0] == said.removeprefix("carrack: ")


def test_ctrl_c_that_a_program_ignores(engine: Engine) -> None:
    """A program as PID 1 without a handler ignores it. The third time the client goes, as Docker's newer ones do."""
    carrack = CommandLine(engine, [carrack_program()])
    with carrack.pipes("run", "--name", "deaf", "busybox", "sh", "-c", "echo ready; exec sleep 1000") as client:
        client.expect("ready")
        for heard in range(1, 4):
            client.signal(signal.SIGINT)
            if heard < 3:
                until(lambda heard=heard: kills(engine, "deaf") == heard, "the signal to be passed on")  # type: ignore[misc]
        client.expect("got 3 SIGTERM/SIGINTs, forcefully exiting; the container goes on")
        assert client.wait() == 1
    assert carrack.ok("inspect", "-f", "{{.State.Running}}", "deaf") == "true"


def kills(engine: Engine, name: str) -> int:
    filters = urllib.parse.quote(json.dumps({"container": [name], "event": ["kill"]}))
    return len(engine.api("GET", f"/events?since=1&until={time.time()}&filters={filters}").body.splitlines())


def test_a_user_who_may_not(engine: Engine) -> None:
    engine.folder.chmod(0o755)
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", carrack_program(), "-H", f"unix://{engine.socket}"]
    one_sentence(run([*argv, "ps"]), "permission denied", "use sudo")
    one_sentence(run([*argv[:6], CARRACKD]), "carrackd needs root", "sudo")
    one_sentence(run([*argv[:6], str(ROOT / "scripts/install")]), "needs root", "sudo")


@pytest.mark.law(8)
def test_an_old_kernel(tmp_path: Path) -> None:
    one_sentence(run(["setarch", "x86_64", "--uname-2.6", CARRACKD, *private(tmp_path)]), "Linux 5.12 or later", "2.6.")


@pytest.mark.parametrize("module", ["carrack.cli.__main__", "carrack.daemon.__main__", "carrack.setup.__main__"])
def test_an_old_python(module: str) -> None:
    program = f"import sys; sys.version_info = (3, 9, 2); sys.path.insert(0, {str(ROOT / 'src')!r}); import {module}"
    one_sentence(run([sys.executable, "-c", program]), "Python 3.11 or later", "3.9.2")


def test_the_check_itself_is_one_that_an_old_python_can_read(tmp_path: Path) -> None:
    """The one file that is read before it is in an old grammar; a real old Python is asked where there is one."""
    ast.parse((ROOT / "src/carrack/__init__.py").read_text(), feature_version=(3, 4))
    for python in Path("/root/.pyenv/versions").glob("3.[6-9].*/bin/python3"):
        refused = run([str(python), "-B", "-m", "carrack.cli", "version"], env={"PYTHONPATH": str(ROOT / "src")})
        one_sentence(refused, "carrack needs Python 3.11 or later", python.parts[-3])


def test_an_old_python_before_the_installation(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1 ;; *) echo 3.9.2 ;; esac\n')
    old.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    one_sentence(run([str(ROOT / "scripts/install")], env=env), "Python 3.11 or later", "3.9.2")


def test_a_proxy_that_does_not_answer(make_engine: MakeEngine, free_port: FreePort) -> None:
    engine = make_engine(f"--https-proxy=http://127.0.0.1:{free_port()}")
    refused = CommandLine(engine, [carrack_program()])("pull", "-q", "registry.example/nothing:1")
    one_sentence(refused, "by way of the proxy http://127.0.0.1:", "registry.example")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A data-root of 200 kB on a file system of its own."""
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(data)], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", str(data)], check=True)
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_a_disk_that_is_full_at_the_start(full: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (full / "data/ballast").write_bytes(b"x" * 300_000)
    refused = run([CARRACKD, *private(full)])
    one_sentence(refused, "No space left on device", f"{full}/data")


@pytest.fixture(scope="module")
def cramped(engine_pool: EnginePool, images: Images) -> Iterator[CommandLine]:
    """An engine whose data-root is a file system of 8 MB, with busybox in it."""
    own = engine_pool.build("carrackd")
    own.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(own.data_root)], check=True)
    try:
        engine_pool.start(own)
        yield CommandLine(own, [carrack_program()])
        own.sweep()
    finally:
        own.stop()
        subprocess.run(["umount", str(own.data_root)], check=True)
        own.close()


def free_bytes(carrack: CommandLine) -> int:
    status = os.statvfs(carrack.engine.data_root)
    return status.f_bavail * status.f_frsize


@contextmanager
def filled(carrack: CommandLine) -> Iterator[None]:
    """To the last byte."""
    ballast = carrack.engine.data_root / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    try:
        yield
    finally:
        ballast.unlink()


def holds(carrack: CommandLine) -> tuple[list[str], list[str], list[str]]:
    """What a half-made thing would be among."""
    root = carrack.engine.data_root
    folders = ("blobs", "ingest", "layers", "containers", "trash")
    found = sorted(
        str(path) for name in folders for path in (root / name).rglob("*") if path.is_file() or path.parent.parent == root
    )
    return found, carrack.ok("images", "-aq").split(), carrack.ok("ps", "-aq").split()


def large(name: str) -> bytes:
    """A layer that neither fits nor shrinks."""
    return tar(entry(name, os.urandom(9 << 20)))


def test_a_disk_that_fills_during_an_import_a_load_or_a_pull(cramped: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "big.tar").write_bytes(large("a"))
    before = holds(cramped)
    one_sentence(cramped("import", str(tmp_path / "big.tar"), "big"), "No space left on device")
    packed = Packed([large("b")], ["big:1"]).gzipped()
    (tmp_path / "image.tar").write_bytes(docker_archive(packed))
    one_sentence(cramped("load", "-q", "-i", str(tmp_path / "image.tar")), "No space left on device")
    with Registry().serving() as registry:
        registry.put("big", "1", packed)
        one_sentence(cramped("pull", "-q", f"{registry.host}/big:1"), "No space left on device")
    until(lambda: holds(cramped) == before, "everything half-made to be gone")


def test_a_disk_that_fills_during_a_build(cramped: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY big /\n")
    (tmp_path / "big").write_bytes(os.urandom(9 << 20))
    before = holds(cramped)
    refused = cramped("build", "-q", str(tmp_path))
    assert refused.code != 0
    assert "No space left on device" in refused.stderr
    assert "Traceback" not in refused.stderr
    until(lambda: holds(cramped)[1:] == before[1:], "no image, no container")
    cramped.ok("builder", "prune", "-af")
    assert free_bytes(cramped) > 3 << 20


def test_a_disk_that_is_full_when_a_container_is_to_start(cramped: CommandLine) -> None:
    before = holds(cramped)
    with filled(cramped):
        refused = cramped("run", "--rm", "busybox", "true")
        assert (refused.code, refused.stderr.count("\n")) == (125, 3), "one sentence, and docker's own two lines about --help"
        assert "No space left on device" in refused.stderr.splitlines()[0]
        assert cramped.ok("version", "-f", "{{.Server.Os}}") == "linux"
    until(lambda: holds(cramped) == before, "everything half-made to be gone")
    assert cramped.ok("run", "--rm", "busybox", "echo", "again") == "again"


def test_a_container_goes_on_where_its_log_cannot_be_written(cramped: CommandLine) -> None:
    script = "echo first; mkfifo /tmp/p; while :; do read x < /tmp/p; echo got $x; done"
    cramped.ok("run", "-d", "--name", "chatty", "--tmpfs", "/tmp", "busybox", "sh", "-c", script)
    until(lambda: "first" in cramped.ok("logs", "chatty"), "its first words")
    with filled(cramped):
        for number in range(3):
            cramped.ok("exec", "chatty", "sh", "-c", f"until [ -p /tmp/p ]; do :; done; echo lost-{number} > /tmp/p")
        assert cramped.ok("inspect", "-f", "{{.State.Status}}", "chatty") == "running"
    cramped.ok("exec", "chatty", "sh", "-c", "echo late > /tmp/p")
    until(lambda: "got late" in cramped.ok("logs", "chatty"), "the log to go on")
    cramped.ok("rm", "-f", "chatty")

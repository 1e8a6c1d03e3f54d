"""What a new user may run into first: one sentence that says what to do, never a traceback. Each is provoked for real where this
machine can (a tmpfs that is full, another user, a kernel that calls itself 2.6); an old Python is one that says it is."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.commands import Result, run
from tests.rig.engine import ROOT, CommandLine, Engine, carrack_program
from tests.rig.ports import FreePort

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


def test_a_disk_that_fills_while_it_runs(engine: Engine, make_engine: MakeEngine) -> None:
    own = make_engine(start=False)
    own.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(own.data_root)], check=True)
    try:
        own.start()
        carrack = CommandLine(own, [carrack_program()])
        with open(f"{own.folder}/big.tar", "wb") as file:
            subprocess.run(["tar", "-c", "-C", "/bin", "busybox"], stdout=file, check=True)
            file.writelines(os.urandom(1 << 20) for _ in range(4))
        one_sentence(carrack("import", f"{own.folder}/big.tar", "big"), "No space left on device")
        assert carrack.ok("ps", "-a", "-q") == ""  # and it goes on
    finally:
        own.stop()
        subprocess.run(["umount", str(own.data_root)], check=True)

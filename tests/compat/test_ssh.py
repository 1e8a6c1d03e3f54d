"""`ssh://`: docker and carrack reach a daemon through a real sshd on loopback, started for the test on a port of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.commands import Result, run
from tests.rig.engine import Engine, carrack_program, docker_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.peer_lacks("the peer's loopback is in a namespace of its own")]


class FarHost:
    """An sshd that lets root in with one key, and what a login finds on its PATH."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]).ok()
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.near = folder / "near"
        self.near.mkdir()
        options = (
            f"-F none -i {folder}/user -o UserKnownHostsFile={folder}/known -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR"
        )
        (self.near / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh {options} "$@"\n')
        (self.near / "ssh").chmod(0o755)
        self._sshd: subprocess.Popen[bytes] | None = None

    def start(self, engine: Engine) -> None:
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\n"
            f"MaxStartups 100\n"  # Debian's sshd turns away who is more than the tenth to log in at one moment
            f"PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
            f"SetEnv PATH={self.programs}:/usr/bin:/bin DOCKER_HOST=unix://{engine.socket}\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on its empty folder
        with (self.folder / "log").open("wb") as log:
            self._sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=log)
        until(lambda: run(["ssh-keyscan", "-p", str(self.port), "127.0.0.1"]).stdout, "sshd to answer")

    def provide(self, name: str, program: str) -> None:
        """Install a program on the far host, under that name."""
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).symlink_to(program)

    @property
    def address(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}"

    def env(self) -> dict[str, str]:
        """Of a client here, with the far daemon as its own."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        env |= {"DOCKER_HOST": self.address, "PATH": f"{self.near}:/usr/bin:/bin", "HOME": str(self.folder)}
        return {**env, "DOCKER_CONFIG": str(self.folder)}

    def call(self, program: str, *words: str, stdin: bytes = b"", timeout_seconds: float = 60.0) -> Result:
        """Run a client."""
        return run([program, *words], stdin=stdin, env=self.env(), timeout_seconds=timeout_seconds)

    def dials(self) -> int:
        """How many commands run on the far host at this moment."""
        assert self._sshd is not None
        ours = run(["pgrep", "-P", str(self._sshd.pid)]).stdout.split()
        return len(ours)

    def cut(self) -> None:
        """Every connection and the sshd itself are gone, as when the host loses its power."""
        assert self._sshd is not None
        sessions = [int(pid) for pid in run(["pgrep", "-P", str(self._sshd.pid)]).stdout.split()]
        for pid in (self._sshd.pid, *sessions):
            os.kill(pid, signal.SIGKILL)
        self._sshd.wait(timeout=10)
        self._sshd = None

    def close(self) -> None:
        if self._sshd is not None:
            self._sshd.terminate()
            self._sshd.wait(timeout=10)


@pytest.fixture
def far(engine: Engine, tmp_path: Path, free_port: FreePort) -> Iterator[FarHost]:
    host = FarHost(tmp_path, free_port())
    try:
        host.start(engine)
        yield host
    finally:
        host.close()


@pytest.mark.observes("docker run --interactive")
@pytest.mark.parametrize("client", ["docker", "carrack"])
def test_a_client_reaches_the_daemon_by_ssh(far: FarHost, client: str) -> None:
    program = docker_program() if client == "docker" else carrack_program()
    far.provide("docker" if client == "docker" else "carrack", carrack_program())  # install --as-docker, or a plain install
    assert far.call(program, "version", "--format", "{{.Server.Os}}").ok() == "linux"
    assert far.call(program, "run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo after", stdin=b"given\n").ok() == "given\nafter"
    assert far.call(program, "run", "--rm", "busybox", "sh", "-c", "exit 9").code == 9
    big = far.call(program, "run", "--rm", "-i", "busybox", "sh", "-c", "wc -c; head -c 3000000 /dev/zero", stdin=b"x" * 3_000_000)
    assert big.ok().startswith("3000000\n")
    assert len(big.stdout) == 3_000_008


def clients(far: FarHost) -> list[str]:
    for name in ("docker", "carrack"):
        far.provide(name, carrack_program())
    return [docker_program(), carrack_program()]


def test_many_commands_at_once_each_get_their_own_answer(far: FarHost, request: pytest.FixtureRequest) -> None:
    many = 16 if request.config.getoption("--full") else 4
    for program in clients(far):
        words = [program, "run", "--rm", "busybox", "echo"]
        started = [subprocess.Popen([*words, str(n)], env=far.env(), stdout=subprocess.PIPE, text=True) for n in range(many)]
        answers = [process.communicate(timeout=60)[0] for process in started]
        assert answers == [f"{n}\n" for n in range(many)]
    until(lambda: far.dials() == 0, "every ssh to be gone")


@pytest.mark.observes("docker build")
def test_a_large_context_is_sent_by_ssh(far: FarHost, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    megabytes = 300 if request.config.getoption("--full") else 15
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY big /big\nRUN wc -c < /big > /size\n")
    with (context / "big").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    for number, program in enumerate(clients(far)):
        built = far.call(program, "build", "-q", "-t", f"big:{number}", str(context), timeout_seconds=200)
        assert built.ok().startswith("sha256:")
        assert far.call(program, "run", "--rm", f"big:{number}", "cat", "/size").ok() == str(megabytes << 20)


def test_ctrl_c_reaches_the_container_by_ssh(far: FarHost) -> None:
    script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    for program in clients(far):
        client = subprocess.Popen(
            [program, "run", "--rm", "busybox", "sh", "-c", script], env=far.env(), stdout=subprocess.PIPE, text=True
        )
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        client.send_signal(signal.SIGINT)
        assert client.communicate(timeout=30)[0] == "caught\n"
        assert client.returncode == 3
    until(lambda: far.dials() == 0, "every ssh to be gone")


def test_a_far_host_that_goes_away_ends_the_client_and_not_the_container(far: FarHost, engine: Engine) -> None:
    for number, program in enumerate(clients(far)):
        script = "echo ready; exec sleep 1000"
        words = [program, "run", "--name", f"up{number}", "busybox", "sh", "-c", script]
        client = subprocess.Popen(words, env=far.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        far.cut()
        _, said = client.communicate(timeout=30)
        assert client.returncode != 0
        assert "Traceback" not in said
        assert engine.api("GET", f"/containers/up{number}/json").json["State"]["Running"]
        refused = far.call(program, "version")
        assert refused.code != 0
        assert "Traceback" not in refused.stderr
        far.start(engine)


def test_a_context_may_be_behind_ssh(far: FarHost) -> None:
    for program in clients(far):
        name = f"far-{Path(program).name}"
        far.call(program, "context", "create", name, "--docker", f"host={far.address}").ok()
        env = {key: value for key, value in far.env().items() if key != "DOCKER_HOST"}
        assert run([program, "--context", name, "version", "-f", "{{.Server.Os}}"], env=env).ok() == "linux"


def test_carracks_client_takes_dockers_program_where_there_is_no_other(far: FarHost) -> None:
    far.provide("docker", docker_program())
    assert far.call(carrack_program(), "run", "--rm", "busybox", "echo", "in").ok() == "in"


def test_a_host_that_has_neither_program_is_told_in_one_line(far: FarHost) -> None:
    refused = far.call(carrack_program(), "version", "--format", "{{.Server.Os}}")
    assert refused.code == 1
    assert "Traceback" not in refused.stderr
    assert "docker: not found" in refused.stderr

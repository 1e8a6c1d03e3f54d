"""An engine under test, as its users reach it: through a command line, docker-py, or the API itself. `Carrackd` is the one we
judge; `Dockerd` is the peer that keeps the judgement honest (``--peer dockerd`` runs the same tests on it)."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.rig.commands import Result, run, run_bytes
from tests.rig.conversation import Pipes, Terminal
from tests.rig.unix_http import Reply, ask
from tests.rig.waiting import until

ROOT = Path(__file__).resolve().parents[2]


class Engine(ABC):
    """A daemon on private paths. ``start`` and ``stop`` may alternate; ``close`` removes every trace."""

    kind: str

    def __init__(self, token: str, *, flags: Sequence[str] = ()) -> None:
        self.token = token
        self.flags = tuple(flags)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{token}-", dir="/tmp"))  # short: a socket path has 107 characters
        self.folder.chmod(0o711)
        self.socket = self.folder / "engine.sock"
        self.data_root = self.folder / "data"
        self.exec_root = self.folder / "exec"
        self.pidfile = self.folder / "engine.pid"
        self.log_path = self.folder / "engine.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.has_served = False
        (self.folder / "home").mkdir()

    # -- the daemon's life

    @abstractmethod
    def argv(self) -> list[str]:
        """The command line that starts the daemon."""

    @abstractmethod
    def host_prefix(self) -> list[str]:
        """The words that lead a command into the network namespace the daemon takes for its host; none for the real one."""

    def launch(self) -> None:
        """Start the daemon and return at once."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.daemon_env(), start_new_session=True
            )

    def start(self, *, timeout_seconds: float = 30.0) -> None:
        """Start the daemon and wait until it answers."""
        self.launch()
        until(self.answers, f"{self.kind} to answer; its log ends:\n{self.log_tail()}", timeout_seconds=timeout_seconds)
        self.has_served = True

    def answers(self) -> bool:
        """Whether `GET /_ping` says OK; raises when the daemon has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{self.kind} ended with code {self.process.returncode}; its log ends:\n{self.log_tail()}")
        try:
            return self.api("GET", "/_ping").status == 200
        except OSError:
            return False

    def stop(self, *, timeout_seconds: float = 30.0) -> int:
        """Ask the daemon to end, wait for it, return its exit code. Containers may live on."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=timeout_seconds)
        self.process = None
        return code

    def kill(self) -> None:
        """End the daemon by SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)
        self.process = None

    def sweep(self, keep_images: frozenset[str] = frozenset()) -> None:
        """Remove every container, volume and own network, and every image but those kept (by id)."""
        for row in self.api("GET", "/containers/json?all=1").json:
            self.api("DELETE", f"/containers/{row['Id']}?force=1&v=1")
        for row in self.api("GET", "/networks").json:
            if row["Name"] not in {"bridge", "host", "none"}:
                self.api("DELETE", f"/networks/{row['Id']}")
        for row in self.api("GET", "/volumes").json.get("Volumes") or []:
            self.api("DELETE", f"/volumes/{row['Name']}?force=1")
        for row in self.api("GET", "/images/json?all=1").json:
            if row["Id"] not in keep_images:
                self.api("DELETE", f"/images/{row['Id']}?force=1")
                continue
            for name in set(row["RepoTags"] or ()) - {"busybox:latest"}:
                self.api("DELETE", f"/images/{name}")

    @abstractmethod
    def own_processes(self) -> set[int]:
        """The daemon and all that serves it: shims, proxies, a separate containerd; no process of a container."""

    @abstractmethod
    def close(self) -> None:
        """Remove containers, stop the daemon, delete its files. Works in whatever state a test left it."""

    def log_tail(self, characters: int = 3000) -> str:
        """The end of what the daemon wrote."""
        return self.log_path.read_text(errors="replace")[-characters:] if self.log_path.exists() else ""

    # -- its users

    def daemon_env(self) -> dict[str, str]:
        """The daemon's environment."""
        return dict(os.environ)

    def env(self) -> dict[str, str]:
        """A user's environment: this engine, an empty client configuration."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "COMPOSE_"))}
        home = str(self.folder / "home")
        return {**kept, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": home, "HOME": home, "TERM": "xterm", "LC_ALL": "C"}

    def api(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
    ) -> Reply:
        """One request to the Engine API."""
        return ask(self.socket, method, target, body, headers=headers, timeout_seconds=timeout_seconds)

    def docker_py(self) -> Any:
        """A docker-py client at the daemon's own API version; the caller closes it."""
        import docker

        return docker.DockerClient(base_url=f"unix://{self.socket}", version="auto", timeout=30)

    def on_host(self, *argv: str, stdin: str = "", timeout_seconds: float = 30.0) -> Result:
        """Run a command where the daemon's host addresses are."""
        return run([*self.host_prefix(), *argv], stdin=stdin, timeout_seconds=timeout_seconds)


class CommandLine:
    """A client program bound to an engine: the real `docker`, or `carrack`."""

    def __init__(self, engine: Engine, program: Sequence[str]) -> None:
        self.engine = engine
        self.program = tuple(program)

    @property
    def name(self) -> str:
        """The program's own name, as it appears in its messages."""
        return os.path.basename(self.program[-1])

    def __call__(self, *args: str, stdin: bytes | str = b"", timeout_seconds: float = 60.0) -> Result:
        """Run it to its end."""
        return run([*self.program, *args], stdin=stdin, env=self.engine.env(), timeout_seconds=timeout_seconds)

    def ok(self, *args: str, stdin: bytes | str = b"", timeout_seconds: float = 60.0) -> str:
        """Run it, insist on exit code 0, return what it wrote."""
        return self(*args, stdin=stdin, timeout_seconds=timeout_seconds).ok()

    def shell(self, script: str, *flags: str) -> Result:
        """Run a shell script in a new busybox container, with these flags of `run`."""
        return self("run", "--rm", *flags, "busybox", "sh", "-c", script)

    def output(self, *args: str, stdin: bytes = b"") -> bytes:
        """Run it, insist on exit code 0, return its bytes."""
        done = run_bytes([*self.program, *args], stdin=stdin, env=self.engine.env())
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
        """Start it on a pseudo-terminal."""
        return Terminal([*self.program, *args], env=self.engine.env(), rows=rows, columns=columns)

    def pipes(self, *args: str, merge_stderr: bool = True) -> Pipes:
        """Start it on pipes."""
        return Pipes([*self.program, *args], env=self.engine.env(), merge_stderr=merge_stderr)


def in_this_pid_namespace(pids: Iterable[int]) -> set[int]:
    """Those of the processes that see the same pids as this one."""
    mine, found = os.stat("/proc/self/ns/pid").st_ino, set()
    for pid in pids:
        try:
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == mine:
                found.add(pid)
        except OSError:  # it has ended
            continue
    return found


def docker_program() -> str:
    """The real docker client: the one on PATH, else the one `scripts/peer` unpacked."""
    found = shutil.which("docker") or str(ROOT / ".peer/usr/bin/docker")
    assert os.access(found, os.X_OK), "no docker command line: run scripts/peer"
    return found


@cache
def docker_major() -> int:
    """The release of the docker command line: 20, 28, …"""
    said = run([docker_program(), "--version"]).ok()
    match = re.search(r"version (\d+)\.", said)
    assert match is not None, said
    return int(match[1])


def carrack_program() -> str:
    """Our own client in this checkout."""
    return str(ROOT / ".venv/bin/carrack")

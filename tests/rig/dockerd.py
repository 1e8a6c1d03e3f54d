"""The peer: Debian's dockerd with its containerd and runc, unpacked by `scripts/peer` and run in a network and mount namespace of
its own, so that its iptables chains, its forwarding policy and its mounts never touch this machine."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.rig.commands import run
from tests.rig.engine import ROOT, Engine, in_this_pid_namespace
from tests.rig.leaks import CGROUP_ROOT
from tests.rig.namespaces import HeldNamespace
from tests.rig.waiting import until


class Dockerd(Engine):
    """dockerd on private roots; live restore on, as Carrack always has it, unless it is to be a swarm's node (it refuses both)."""

    kind = "dockerd"

    def __init__(self, token: str, *, flags: Sequence[str] = (), programs: Path | None = None, swarm: bool = False) -> None:
        super().__init__(token, flags=flags)
        self.live_restore = not swarm
        self.programs = programs or ROOT / ".peer"
        assert (self.programs / "usr/sbin/dockerd").exists(), "no dockerd: run scripts/peer"
        self.namespace = HeldNamespace(mounts=True)
        self._containerd: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        self.launch_containerd()
        super().launch()

    def launch_containerd(self) -> None:
        """containerd as a process of its own, so that it outlives a killed dockerd as it does on Debian. May be called twice."""
        if self._containerd is None:
            self._containerd = self._start_containerd()

    def own_processes(self) -> set[int]:
        # a container has a network namespace of its own, or (network host) a pid namespace
        return in_this_pid_namespace(self.namespace.processes())

    def argv(self) -> list[str]:
        roots = ["--data-root", str(self.data_root), "--exec-root", str(self.exec_root), "--pidfile", str(self.pidfile)]
        settings = ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self.token}"]
        settings += ["--live-restore"] if self.live_restore else []
        settings += ["--containerd", str(self.folder / "containerd.sock")]
        program = str(self.programs / "usr/sbin/dockerd")
        return [*self.host_prefix(), program, "-H", f"unix://{self.socket}", *roots, *settings, *self.flags]

    def daemon_env(self) -> dict[str, str]:
        path = f"{self.programs}/usr/bin:{self.programs}/usr/sbin:{os.environ['PATH']}"
        return {**os.environ, "PATH": path}

    def host_prefix(self) -> list[str]:
        return self.namespace.prefix()

    def close(self) -> None:
        try:
            if self.process is None and self.has_served:
                self.start()
            if self.process is not None:
                self.sweep()
                self.stop()
        finally:
            self._remove_what_is_left()

    def _start_containerd(self) -> subprocess.Popen[bytes]:
        config = self.folder / "containerd.toml"
        config.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        socket = self.folder / "containerd.sock"
        words = ["--config", str(config), "--root", f"{self.folder}/containerd", "--state", f"{self.exec_root}-containerd"]
        with (self.folder / "containerd.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.host_prefix(), str(self.programs / "usr/bin/containerd"), *words, "--address", str(socket)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.daemon_env(),
                start_new_session=True,
            )
        until(socket.exists, "containerd's socket")
        return process

    def _remove_what_is_left(self) -> None:
        for pid in self._strays():
            with suppress(ProcessLookupError):  # it was ending by itself
                os.kill(pid, signal.SIGKILL)
        for process in (self.process, self._containerd):
            if process is not None:
                process.wait(timeout=10)
        until(lambda: not self._strays(), "dockerd's processes to end")
        self.namespace.close()
        for folder in sorted(CGROUP_ROOT.glob(f"*/{self.token}/**/"), key=lambda path: -len(path.parts)):
            run(["rmdir", str(folder)])
        shutil.rmtree(self.folder, ignore_errors=True)

    def _strays(self) -> list[int]:
        inside = self.namespace.processes()
        marked = f"{self.folder}/".encode()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    words = Path(f"/proc/{name}/cmdline").read_bytes()
                except OSError:
                    continue
                if marked in words and int(name) != os.getpid():
                    inside.append(int(name))
        for listing in CGROUP_ROOT.glob(f"pids/{self.token}/*/cgroup.procs"):  # containers whose shim was killed
            inside += [int(pid) for pid in listing.read_text().split()]
        return sorted(set(inside))

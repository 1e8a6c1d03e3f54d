"""Network namespaces that stand for machines: the one an engine runs on, and a neighbour that reaches it over a wire.

Each is held by a process that ends when its standard input closes, so that a killed test run leaves none behind.
"""

import os
import subprocess
from types import TracebackType
from typing import Self

from tests.rig.commands import Result, run


class HeldNamespace:
    """A network namespace (and, if asked, a mount namespace) kept by a process of its own."""

    def __init__(self, *, mounts: bool = False) -> None:
        self.mounts = mounts
        extra = ["--mount"] if mounts else []
        # `cat` says when it is there: echo first, so that the pid's namespaces are the new ones once we return.
        script = "echo ready; exec cat >/dev/null"
        self._holder = subprocess.Popen(
            ["unshare", "--net", *extra, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self.pid = self._holder.pid
        self.run("ip", "link", "set", "lo", "up").ok()

    def prefix(self) -> list[str]:
        """The words before a command line that is to run inside."""
        files = [f"--net=/proc/{self.pid}/ns/net"]
        if self.mounts:
            files.append(f"--mount=/proc/{self.pid}/ns/mnt")
        return ["nsenter", *files]

    def run(self, *argv: str, stdin: str = "", timeout_seconds: float = 30.0) -> Result:
        """Run a command inside."""
        return run([*self.prefix(), *argv], stdin=stdin, timeout_seconds=timeout_seconds)

    def processes(self) -> list[int]:
        """Every process whose network namespace this is, its keeper not counted."""
        mine = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.pid:
                try:
                    if os.stat(f"/proc/{name}/ns/net").st_ino == mine:
                        found.append(int(name))
                except OSError:
                    continue
        return found

    def close(self) -> None:
        """Let it go."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(timeout=10)
        self._holder.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Neighbour(HeldNamespace):
    """Another machine on a wire to the engine's host, which is its default route.

    ``host_prefix`` are the words that lead into the host's network namespace (none for the real one); ``number`` keeps several
    wires apart.
    """

    def __init__(self, host_prefix: list[str], *, number: int) -> None:
        super().__init__()
        low = (number * 4) % 65536
        net = f"198.18.{low // 256}"
        self.host_address = f"{net}.{low % 256 + 1}"
        self.address = f"{net}.{low % 256 + 2}"
        self.link = f"ctw{number % 65536}x{os.getpid() % 10000}"
        host = list(host_prefix)
        run([*host, "ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid)]).ok()
        run([*host, "ip", "address", "add", f"{self.host_address}/30", "dev", self.link]).ok()
        run([*host, "ip", "link", "set", self.link, "up"]).ok()
        self.run("ip", "address", "add", f"{self.address}/30", "dev", "eth0").ok()
        self.run("ip", "link", "set", "eth0", "up").ok()
        self.run("ip", "route", "add", "default", "via", self.host_address).ok()
        self._host_prefix = host

    def close(self) -> None:
        run([*self._host_prefix, "ip", "link", "delete", self.link])
        super().close()

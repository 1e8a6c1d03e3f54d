"""Carrack's daemon under test: an instance of its own on the real host, beside any other."""

import hashlib
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.rig import leaks
from tests.rig.commands import run
from tests.rig.engine import ROOT, Engine, in_this_pid_namespace
from tests.rig.leaks import CGROUP_ROOT, settled
from tests.rig.namespaces import HeldNamespace
from tests.rig.sockets import holders_below


class Carrackd(Engine):
    """``carrackd --instance TOKEN`` on private roots, with an address range of its own; on the real host or a held one."""

    kind = "carrackd"

    def __init__(self, token: str, *, bip: str, flags: Sequence[str] = (), host: HeldNamespace | None = None) -> None:
        self.bip = bip
        self._host = host
        super().__init__(token, flags=flags)
        self.socket = self.folder / "carrack.sock"

    @property
    def bridge(self) -> str:
        """The instance's bridge, named as docs/architecture.md says."""
        return "ck-" + hashlib.sha256(self.token.encode()).hexdigest()[:8]

    @property
    def table(self) -> str:
        """The instance's nftables table."""
        return "carrack_" + self.token.replace("-", "_")

    @property
    def cgroup(self) -> str:
        """The instance's control group, below each hierarchy's root."""
        return f"carrack-{self.token}"

    def argv(self) -> list[str]:
        roots = ["--data-root", str(self.data_root), "--exec-root", str(self.exec_root), "--pidfile", str(self.pidfile)]
        listen = ["-H", f"unix://{self.socket}"]
        config = ["--config-file", str(self.folder / "daemon.json")] if (self.folder / "daemon.json").exists() else []
        program = [*self.host_prefix(), str(ROOT / ".venv/bin/carrackd"), "--instance", self.token]
        return [*program, *listen, *roots, "--bip", self.bip, *config, *self.flags]

    def host_prefix(self) -> list[str]:
        return self._host.prefix() if self._host else []

    def traces(self) -> set[str]:
        """What of this instance is on the machine now: mounts, links, rules, cgroups, processes."""
        marks = (self.bridge, self.table, self.cgroup, str(self.folder))
        found = {item for item in leaks.observe() if any(mark in item for mark in marks)}
        found |= {f"link {path.name} on {self.bridge}" for path in Path(f"/sys/class/net/{self.bridge}/brif").glob("*")}
        return found | {f"process {pid}" for pid in self.instance_processes()}

    def left_since(self, before: set[str]) -> set[str]:
        """The traces beyond `before`, once things have settled; without the processes that answer names, which stay once needed."""

        def look() -> set[str]:
            return {trace for trace in self.traces() if not _answers_names(trace)}

        return settled(before, look=look)

    def instance_processes(self) -> set[int]:
        """Processes that name the instance's folder, hold a socket in it (the zygote and woken shims do), or sit in its control
        groups; and the parents of those, shims asleep, which hold nothing."""
        found = holders_below(self.folder)
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
                groups = (folder / "cgroup").read_text()
            except OSError:
                continue
            if words and (f"/{self.cgroup}/" in groups or str(self.folder) in words):
                found.add(int(folder.name))
            if f"/{self.cgroup}/" in groups:
                found |= shim_above(folder)
        return found

    def own_processes(self) -> set[int]:
        return in_this_pid_namespace(self.instance_processes())

    def close(self) -> None:
        try:
            if self.process is None and self.has_served:
                self.start()
            if self.process is not None:
                self.sweep()
                self.stop()
            left = settled(set(), look=self.traces)
            told = [f"{trace}{leaks.origin(trace)}" for trace in sorted(left)]
            assert not left, f"carrackd left behind: {told}\n{self.log_tail()}"
        finally:
            self._remove_what_is_left()

    def _killed(self) -> set[str]:
        """Kill what is there of the instance, and say what it was. The end of a shim ends its container, whose processes are of the
        instance too, and a names process has a spare that takes its place: so it takes several looks."""
        found = self.instance_processes()
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return {str(pid) for pid in found}

    def _remove_what_is_left(self) -> None:
        """The machine as it was, whatever the daemon forgot: a leak fails one test and does not spoil the next."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=10)
        for state in CGROUP_ROOT.glob(f"freezer/{self.cgroup}/*/freezer.state"):
            with suppress(OSError):
                state.write_text("THAWED")  # what is frozen does not even die
        settled(set(), look=self._killed)
        run([*self.host_prefix(), "nft", "delete", "table", "inet", self.table])
        run([*self.host_prefix(), "ip", "link", "delete", self.bridge])
        for folder in sorted(CGROUP_ROOT.glob(f"*/{self.cgroup}/**/"), key=lambda path: -len(path.parts)):
            with suppress(OSError):
                folder.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)


def _answers_names(trace: str) -> bool:
    kind, _, pid = trace.partition(" ")
    try:
        return kind == "process" and b"carrack-names " in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def shim_above(process: Path) -> set[int]:
    """The shim whose child a container's process is; nothing for one that has another parent."""
    try:
        parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        title = Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:
        return set()
    return {parent} if title.startswith(b"carrack-shim ") else set()

"""A virtual machine for what this machine cannot show: systemd as PID 1, a pure cgroup v2 hierarchy, AppArmor, another kernel.

    with Vm() as vm:                                # Debian 12 with systemd, about 15 s until it answers
        vm.run("systemctl is-active dbus").ok()
    with Vm(systemd=False) as vm:                   # the same root, our own PID 1, cgroup v2 mounted: about 5 s
        vm.run("cat /sys/fs/cgroup/cgroup.controllers")
        with vm.start([f"{ROOT}/.venv/bin/carrackd", ...]) as daemon: ...

Emulated in software (QEMU's tcg), so that it works where no /dev/kvm does: everything inside takes five to ten times as long as
outside. Each machine writes to a throw-away layer over the image (`tests.rig.vm_image`), which is made once. This checkout, .venv
with it, is mounted read-only at the path it has here; /usr/bin/python3 is the same release as here. eth0 reaches the outside by
QEMU's user network (10.0.2.15, gateway 10.0.2.2, which is this machine's loopback too). IP forwarding is off, AppArmor on.

Commands travel over virtio-serial ports, several at a time; see `guest/agent.py` for the other end.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.rig.commands import Result
from tests.rig.engine import ROOT
from tests.rig.vm_image import Parts, parts

PORTS = 8
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LEFT_OUT = (
    "ruff",
    "ruff-*",
    "mypy",
    "mypy-*",
    "mypyc",
    "uv",
    "uv-*",
    "hypothesis",
    "hypothesis-*",
    "grimp",
    "grimp-*",
    "librt*",
    "ast_serialize*",
)
"""Of .venv: tools that no test calls inside a machine, by far the largest."""


class Rebooted(AssertionError):
    """The machine began again while a command ran."""


class Guest(AssertionError):
    """The machine does not answer, or has ended."""


class Vm:
    """A running machine; leaving the ``with`` block ends it and removes what it wrote.

    ``systemd`` boots Debian's own init, else a short script. ``checkout`` shares this checkout. ``kernel_arguments`` are added to
    the kernel's command line. ``disks`` are raw images that appear as /dev/vdc and on, written to a throw-away layer as well.
    """

    def __init__(
        self,
        *,
        systemd: bool = True,
        memory_mb: int = 1024,
        checkout: bool = True,
        kernel_arguments: str = "",
        disks: Sequence[Path] = (),
    ) -> None:
        self.systemd = systemd
        self.memory_mb = memory_mb
        self.kernel_arguments = kernel_arguments
        self.disks = tuple(disks)
        self.boot_id = ""
        self._shares = checkout
        self._folder = Path(tempfile.mkdtemp(prefix="carrack-vm-", dir="/tmp"))
        self._channels: list[_Channel] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._boot(parts())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(
        self,
        command: str | Sequence[str],
        *,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 120.0,
    ) -> Result:
        """Run a command (text goes to the machine's shell) to its end."""
        with self.start(command, env=env) as process:
            process.send(stdin.encode() if isinstance(stdin, str) else stdin)
            process.end_input()
            code = process.wait(timeout_seconds=timeout_seconds)
            return Result(process.argv, code, process.stdout, process.stderr)

    def start(self, command: str | Sequence[str], *, env: Mapping[str, str] | None = None, tty: bool = False) -> "VmProcess":
        """Start a command and return; at the end of its ``with`` block its process group is killed if it still runs."""
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        channel = next((channel for channel in self._channels if not channel.busy), None)
        assert channel is not None, f"more than {PORTS} commands at once"
        return VmProcess(self, channel, argv, {"PATH": _PATH, **(env or {})}, tty)

    def wait_booted(self, *, timeout_seconds: float = 180.0) -> None:
        """Wait until the machine answers after a (further) boot, and systemd has started everything."""
        before = self.boot_id
        deadline = time.monotonic() + timeout_seconds
        for channel in self._channels:
            channel.forget()
        while self.boot_id == before:
            words = self._channels[0].hear(deadline)
            if "hello" in words:
                self.boot_id = words["hello"]
        if self.systemd:
            self.run("systemctl is-system-running --wait", timeout_seconds=timeout_seconds)

    def reboot(self, *, timeout_seconds: float = 300.0) -> None:
        """An orderly reboot, as `systemctl reboot` does it; returns when the machine has booted again."""
        self.start("systemctl reboot").abandon()
        self.wait_booted(timeout_seconds=timeout_seconds)

    def put(self, content: bytes | str, path: str, *, mode: int = 0o644) -> None:
        """Write a file inside."""
        self.run(f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode:o} {path}", stdin=content).ok()

    @property
    def console(self) -> str:
        """What QEMU complained of, and what kernel and init wrote to the console so far."""
        logs = [self._folder / name for name in ("qemu.log", "console.log")]
        text = "".join(log.read_text(errors="replace") for log in logs if log.exists())
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)

    def close(self) -> None:
        """End the machine as if its power failed. May be called twice."""
        for channel in self._channels:
            channel.close()
        self._channels = []
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def ended(self) -> bool:
        """Whether QEMU is gone, as after `poweroff`."""
        return self._process is None or self._process.poll() is not None

    def wait_ended(self, *, timeout_seconds: float = 120.0) -> None:
        """Wait for a `poweroff` to be done."""
        assert self._process is not None
        self._process.wait(timeout=timeout_seconds)

    # -- starting it

    def _boot(self, image: Parts) -> None:
        program = shutil.which("qemu-system-x86_64")
        assert program is not None, "no qemu-system-x86_64: scripts/test installs it"
        image.make_initramfs(self._folder / "initramfs")
        with (self._folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen([program, *self._arguments(image)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        self._channels = [_Channel(self, self._folder / f"port{number}", deadline) for number in range(PORTS)]
        self.wait_booted()

    def _arguments(self, image: Parts) -> list[str]:
        words = ["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", str(self.memory_mb), "-nodefaults", "-no-user-config"]
        words += [
            "-display",
            "none",
            "-accel",
            "tcg,thread=multi",
            "-kernel",
            str(image.kernel),
            "-initrd",
            f"{self._folder}/initramfs",
        ]
        words += ["-append", self._kernel_line(), "-serial", f"file:{self._folder}/console.log", "-device", "virtio-rng-pci"]
        words += ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="]
        drives = [f"file={image.root},format=raw,snapshot=on,cache=unsafe"]
        if self._shares:
            drives.append(f"file={self._share()},format=raw,readonly=on")
        drives += [f"file={disk},format=raw,snapshot=on,cache=unsafe" for disk in self.disks]
        for drive in drives:
            words += ["-drive", f"if=virtio,{drive}"]
        words += ["-device", "virtio-serial-pci"]
        for number in range(PORTS):
            words += ["-chardev", f"socket,id=c{number},path={self._folder}/port{number},server=on,wait=off"]
            words += ["-device", f"virtserialport,chardev=c{number},name=carrack.{number}"]
        return words

    def _kernel_line(self) -> str:
        words = ["console=ttyS0", "net.ifnames=0", "quiet", "panic=-1", "mitigations=off", "apparmor=1", "security=apparmor"]
        if not self.systemd:
            words.append("carrack.init=/usr/local/lib/carrack-vm/bare-init")
        if self._shares:
            words.append(f"carrack.checkout={ROOT}")
        return " ".join([*words, "systemd.show_status=1", self.kernel_arguments]).strip()

    def _share(self) -> Path:
        """The checkout as a file system in a file: what a run needs, without compression (a second)."""
        target = self._folder / "checkout.squashfs"
        names = [
            name
            for name in ("src", "tests", "scripts", "docs", "pyproject.toml", "README.md", "uv.lock", ".venv")
            if (ROOT / name).exists()
        ]
        plain = ("-noI", "-noD", "-noF", "-noX", "-no-xattrs", "-no-progress", "-quiet", "-no-exports")
        skipped = [word for pattern in (*_LEFT_OUT, "__pycache__/*.pyc.*", ".hypothesis") for word in (f"... {pattern}",)]
        argv = ["mksquashfs", *(str(ROOT / name) for name in names), str(target), *plain, "-wildcards", "-e", *skipped]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"mksquashfs: {done.stdout}{done.stderr}"
        return target


class _Channel:
    """One port of the machine, a JSON line at a time."""

    def __init__(self, vm: Vm, path: Path, deadline: float) -> None:
        self.busy = False
        self._vm = vm
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                self._socket.connect(str(path))
                return
            except OSError:
                if vm.ended() or time.monotonic() > deadline:
                    raise Guest(f"QEMU did not start: {(path.parent / 'qemu.log').read_text(errors='replace')}") from None
                time.sleep(0.02)

    def say(self, **words: object) -> None:
        self._socket.settimeout(60)
        self._socket.sendall(json.dumps(words).encode() + b"\n")

    def hear(self, deadline: float) -> dict[str, Any]:
        """The next line. Raises Guest when the time is over or the machine has ended."""
        while b"\n" not in self._rest:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = self._socket.recv(1 << 16)
            except TimeoutError:
                raise Guest(f"the machine says nothing more; its console ends:\n{self._vm.console[-2000:]}") from None
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise Guest(f"the machine has ended; its console ends:\n{self._vm.console[-2000:]}")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def forget(self) -> None:
        self.busy = False

    def close(self) -> None:
        self._socket.close()


class VmProcess:
    """A command that runs inside. ``stdout`` and ``stderr`` hold what came so far."""

    _count = 0

    def __init__(self, vm: Vm, channel: _Channel, argv: tuple[str, ...], env: dict[str, str], tty: bool) -> None:
        VmProcess._count += 1
        self.argv = argv
        self.code: int | None = None
        self._vm = vm
        self._channel = channel
        self._id = VmProcess._count
        self._written: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._searched = 0
        channel.busy = True
        channel.say(run=argv, env=env, tty=tty, id=self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._channel.busy and not self._vm.ended():
            self._channel.say(bye=True)
            try:
                for _ in self._events(time.monotonic() + 30, until="gone"):
                    pass
                self._channel.busy = False
            except Guest:
                if kind is None:
                    raise

    @property
    def stdout(self) -> str:
        return self._written["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self._written["stderr"].decode(errors="replace")

    def send(self, content: bytes | str) -> None:
        """Write to its standard input."""
        raw = content.encode() if isinstance(content, str) else content
        for start in range(0, len(raw), 32768):
            self._channel.say(input=base64.b64encode(raw[start : start + 32768]).decode("ascii"))

    def end_input(self) -> None:
        """Close its standard input."""
        self._channel.say(eof=True)

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        self._channel.say(signal=number)

    def expect(self, pattern: str, *, timeout_seconds: float = 60.0) -> re.Match[str]:
        """Read until the pattern is in the unread part of standard output."""
        events = self._events(time.monotonic() + timeout_seconds, until="exit")
        while True:
            match = re.search(pattern, self.stdout[self._searched :], re.MULTILINE)
            if match is not None:
                self._searched += match.end()
                return match
            if self.code is not None or next(events, None) is None:
                raise AssertionError(f"{self.argv}: ended with {self.code} before {pattern!r} came\n{self.stdout}\n{self.stderr}")

    def wait(self, *, timeout_seconds: float = 120.0) -> int:
        """Read to the end; the exit code (128 + signal for one that was killed)."""
        if self.code is None:
            for _ in self._events(time.monotonic() + timeout_seconds, until="exit"):
                pass
        assert self.code is not None
        return self.code

    def abandon(self) -> None:
        """Expect nothing more of it: what it does ends the machine."""

    def _events(self, deadline: float, *, until: str) -> Iterator[str]:
        """Take in what the machine says, up to the named word and with it."""
        started = self.code is not None or bool(self._written["stdout"])
        while True:
            words = self._channel.hear(deadline)
            kind = next(iter(words))
            if kind == "started":
                started = True
            elif kind == "hello":
                if started:
                    raise Rebooted(f"{self.argv}: the machine rebooted")
            elif kind in self._written:
                self._written[kind] += base64.b64decode(words[kind])
            elif kind == "exit":
                self.code = words["exit"]
            yield kind
            if kind == until or (kind == "gone" and words["gone"] == self._id):
                return


def describe() -> str:
    """The parts' place, for a person who asks; makes them when they are missing."""
    return os.fspath(parts().root)


if __name__ == "__main__":
    print(describe())

"""The far end of `tests.rig.vm` inside the virtual machine: runs the commands that come over virtio-serial ports, one at a time on
each port. Only the standard library; copied into the image as it is.

The host sends JSON lines: `run` (argv, env, tty, id), then `input` (base64), `eof`, `signal`. The answers: `hello` once per boot,
`started`, `stdout`, `stderr`, `exit`.
"""

import base64
import contextlib
import glob
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from typing import Any

PREFIX = "carrack."
CHUNK_BYTES = 24576


def ports() -> list[str]:
    """The device files of our ports, found by the names QEMU gave them (udev's links may not be there)."""
    found = []
    for path in sorted(glob.glob("/sys/class/virtio-ports/*/name")):
        with open(path, encoding="ascii") as name:
            if name.read().startswith(PREFIX):
                found.append("/dev/" + path.split("/")[-2])
    return found


class Port:
    """One virtio-serial port: lines in, lines out."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._rest = b""

    def say(self, **words: object) -> None:
        """Send one line."""
        line = json.dumps(words).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]

    def listen(self) -> dict[str, Any]:
        """The next line."""
        while b"\n" not in self._rest:
            ready = select.poll()
            ready.register(self._fd, select.POLLIN)
            ready.poll()
            chunk = os.read(self._fd, 65536)
            if not chunk:  # the host has closed its end: nothing to do before it comes back
                threading.Event().wait(0.2)
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        words: dict[str, Any] = json.loads(line)
        return words

    def serve(self, boot_id: str) -> None:
        """Run what is asked, for ever."""
        self.say(hello=boot_id)
        while True:
            order = self.listen()
            if "run" in order:
                try:
                    self._run(order)
                except OSError as error:
                    self.say(stderr=_text(f"{error}\n".encode()))
                    self.say(exit=127)

    def _run(self, order: dict[str, Any]) -> None:
        env = {**os.environ, **order.get("env", {})}
        if order.get("tty"):
            above, below = pty.openpty()
            argv = ["setsid", "--ctty", *order["run"]]
            process = subprocess.Popen(argv, stdin=below, stdout=below, stderr=below, env=env)
            os.close(below)
            into, outputs = above, {above: "stdout"}
        else:
            process = subprocess.Popen(
                order["run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            into = os.dup(process.stdin.fileno())
            process.stdin.close()
            outputs = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
        self.say(started=process.pid, id=order["id"])
        readers = [threading.Thread(target=self._copy, args=(fd, name), daemon=True) for fd, name in outputs.items()]
        for reader in readers:
            reader.start()
        done = threading.Event()
        threading.Thread(target=self._end, args=(process, readers, done), daemon=True).start()
        while True:
            words = self.listen()  # the host closes every conversation with `bye`
            if "bye" in words:
                break
            with contextlib.suppress(OSError):
                if "input" in words:
                    pending = base64.b64decode(words["input"])
                    while pending:
                        pending = pending[os.write(into, pending) :]
                elif "eof" in words and into >= 0 and not order.get("tty"):
                    os.close(into)
                    into = -1
                elif "signal" in words:
                    os.killpg(process.pid, words["signal"])
        if process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        done.wait()
        if into >= 0:
            os.close(into)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self.say(gone=order["id"])

    def _copy(self, fd: int, name: str) -> None:
        while True:
            try:
                chunk = os.read(fd, CHUNK_BYTES)
            except OSError:  # EIO: nobody holds the terminal's other end any more
                return
            if not chunk:
                return
            self.say(**{name: _text(chunk)})

    def _end(self, process: subprocess.Popen[bytes], readers: list[threading.Thread], done: threading.Event) -> None:
        code = process.wait()
        for reader in readers:
            reader.join(timeout=2)  # a daemon that the command left behind may hold its output open
        self.say(exit=code if code >= 0 else 128 - code)
        done.set()


def _text(chunk: bytes) -> str:
    return base64.b64encode(chunk).decode("ascii")


def main() -> int:
    """Serve every port; never returns."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    os.chdir("/root")
    threads = [threading.Thread(target=Port(path).serve, args=(boot_id,)) for path in ports()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())

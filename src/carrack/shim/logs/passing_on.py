"""Log drivers that pass lines on, `syslog` and `journald`, and keep them too, as `local` does: `logs` answers whatever the driver.

A line goes out in one datagram, or in one write to a stream. Who does not take it for `PATIENCE_SECONDS`, or has gone, misses it,
and it is in the kept copy. Such a destination is tried again with the first line after `PATIENCE_SECONDS`; meanwhile the container
is not held up. Addresses are numbers here, for nothing looks up names after a fork.
"""

from __future__ import annotations

import _socket
import os
import time

from carrack.errors import SystemFailure
from carrack.shim.framing import STDERR
from carrack.shim.logs.rotation import RotatingFile
from carrack.shim.logs.writer import LocalLog
from carrack.shim.messages import PassOn

PATIENCE_SECONDS = 1.0
JOURNAL = "/run/systemd/journal/socket"
_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")
_INFORMATION, _ERROR = 6, 3
_FORMATS = {
    "": "<{priority}>{stamp} {tag}[{pid}]: {line}",
    "rfc3164": "<{priority}>{stamp} {hostname} {tag}[{pid}]: {line}",
    "rfc5424": "<{priority}>1 {time} {hostname} {tag} {pid} {tag} - {line}",
    "rfc5424micro": "<{priority}>1 {microtime} {hostname} {tag} {pid} {tag} - {line}",
}


class PassingLog(LocalLog):
    """A `Log` of two: the file, and who else is to have the lines."""

    def __init__(self, file: RotatingFile, destination: Destination) -> None:
        super().__init__(file)
        self._destination = destination

    def close(self) -> None:
        super().close()
        self._destination.close()

    def _put(self, stream: int, parts: list[bytes | memoryview], length: int, now_nanoseconds: int) -> None:
        super()._put(stream, parts, length, now_nanoseconds)
        content = b"".join(parts)
        whole = content.endswith(b"\n")
        lines = content.split(b"\n")
        if whole:
            lines.pop()
        for number, line in enumerate(lines):
            self._destination.send(stream, line, now_nanoseconds, whole=whole or number < len(lines) - 1)


class Destination:
    """A socket that takes messages. Connected at its making: raises SystemFailure when nobody is there."""

    def __init__(self, plan: PassOn) -> None:
        self._plan = plan
        self._sock: _socket.socket | None = None
        self._again_at = 0.0
        try:
            self._sock = self._connect()
        except OSError as error:
            where = plan.address or " or ".join(_LOCAL if plan.driver == "syslog" else (JOURNAL,))
            raise SystemFailure(f"failed to initialize logging driver: {plan.driver}: {where}: {error.strerror}") from None

    def send(self, stream: int, line: bytes, now_nanoseconds: int, *, whole: bool) -> None:
        """Pass a line on, or not."""
        for _ in range(2):  # a connection that has died is told by its first use
            if self._sock is None:
                if time.monotonic() < self._again_at:
                    return
                try:
                    self._sock = self._connect()
                except OSError:
                    break
            try:
                self._sock.sendall(self._message(stream, line, now_nanoseconds, whole=whole))
            except TimeoutError:
                break
            except OSError:
                self.close()
            else:
                return
        self.close()
        self._again_at = time.monotonic() + PATIENCE_SECONDS

    def close(self) -> None:
        """Idempotent."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _connect(self) -> _socket.socket:
        raise NotImplementedError

    def _message(self, stream: int, line: bytes, now_nanoseconds: int, *, whole: bool) -> bytes:
        raise NotImplementedError


class Syslog(Destination):
    """RFC 3164 or 5424, as Docker writes them: standard output as information, standard error as errors."""

    def _connect(self) -> _socket.socket:
        scheme, _, place = self._plan.address.partition("://")
        if scheme in ("udp", "tcp"):
            host, _, port = place.rpartition(":")
            family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
            kind = _socket.SOCK_DGRAM if scheme == "udp" else _socket.SOCK_STREAM
            return _connected(family, kind, (host, int(port)))
        kinds = (_socket.SOCK_DGRAM,) if scheme == "unixgram" else (_socket.SOCK_STREAM, _socket.SOCK_DGRAM)
        return _connected_to_any([(place,)] if place else [(path,) for path in _LOCAL], kinds)

    def _message(self, stream: int, line: bytes, now_nanoseconds: int, *, whole: bool) -> bytes:
        plan = self._plan
        now = time.localtime(now_nanoseconds // 10**9)
        zone = time.strftime("%z", now)
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", now)
        head = _FORMATS[plan.format].format(
            priority=plan.facility * 8 + (_ERROR if stream == STDERR else _INFORMATION),
            stamp=time.strftime("%b %e %H:%M:%S", now),
            time=f"{seconds}{zone[:3]}:{zone[3:]}",
            microtime=f"{seconds}.{now_nanoseconds // 1000 % 10**6:06}{zone[:3]}:{zone[3:]}",
            hostname=plan.hostname,
            tag=plan.tag,
            pid=plan.pid,
            line="",
        )
        return head.encode() + line + b"\n"


class Journal(Destination):
    """The journal's own protocol: a datagram of fields."""

    def _connect(self) -> _socket.socket:
        return _connected_to_any([(JOURNAL,)], (_socket.SOCK_DGRAM,))

    def _message(self, stream: int, line: bytes, now_nanoseconds: int, *, whole: bool) -> bytes:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_nanoseconds // 10**9))
        fields = {
            **self._plan.fields,
            "PRIORITY": str(_ERROR if stream == STDERR else _INFORMATION),
            "SYSLOG_TIMESTAMP": f"{stamp}.{now_nanoseconds % 10**9:09}Z",
            **({} if whole else {"CONTAINER_PARTIAL_MESSAGE": "true"}),
        }
        return b"".join(_field(name, value.encode()) for name, value in fields.items()) + _field("MESSAGE", line)


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def _connected_to_any(addresses: list[tuple[str]], kinds: tuple[int, ...]) -> _socket.socket:
    failure: OSError = FileNotFoundError(2, os.strerror(2))
    for address in addresses:
        for kind in kinds:
            try:
                return _connected(_socket.AF_UNIX, kind, address[0])
            except OSError as error:
                failure = error
    raise failure


def _connected(family: int, kind: int, address: str | tuple[str, int]) -> _socket.socket:
    sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, 0)
    sock.settimeout(PATIENCE_SECONDS)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


_KINDS = {"syslog": Syslog, "journald": Journal}


def open_destination(plan: PassOn) -> Destination:
    """Connect to who is to have the lines. Raises SystemFailure."""
    return _KINDS[plan.driver](plan)

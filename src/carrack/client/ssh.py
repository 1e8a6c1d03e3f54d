"""A daemon behind ssh: the system's own `ssh` program runs `carrack system dial-stdio` on the far host, or docker's where only
that is installed.

Keys, agents, jump hosts and known hosts are thereby exactly what the user's ssh configuration says.
"""

from __future__ import annotations

import _socket
import os
import subprocess

from carrack.client.failure import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.client.endpoint import Endpoint


class SshStream:
    """A `ByteStream`: one end of a socket pair whose other end is ssh's stdin and stdout."""

    def __init__(self, stream: _socket.socket, program: subprocess.Popen[bytes]) -> None:
        self._socket = stream
        self._program = program

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv(self, size: int, /) -> bytes:
        return self._socket.recv(size)

    def sendall(self, data: bytes, /) -> None:
        self._socket.sendall(data)

    def send_some(self, data: bytes, /) -> int:
        return self._socket.send(data, _socket.MSG_DONTWAIT)

    def shutdown(self, how: int, /) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()
        self._program.terminate()
        self._program.wait()


def ssh_arguments(endpoint: Endpoint) -> list[str]:
    """The command line, with everything taken from the address behind options it cannot be mistaken for."""
    arguments = ["ssh", "-o", "ConnectTimeout=30", "-T"]
    if endpoint.user:
        arguments += ["-l", endpoint.user]
    if endpoint.port:
        arguments += ["-p", str(endpoint.port)]
    host = f" --host {_quoted(f'unix://{endpoint.path}')}" if endpoint.path else ""
    dial = f"{host} system dial-stdio"
    script = f"if command -v carrack >/dev/null; then exec carrack{dial}; else exec docker{dial}; fi"
    return [*arguments, "--", endpoint.host, f"sh -c {_quoted(script)}"]


def _quoted(text: str) -> str:
    """As one word of any shell that a user may log in to."""
    return "'" + text.replace("'", "'\\''") + "'"


def open_ssh(endpoint: Endpoint) -> SshStream:
    """Starts ssh. Raises ConnectionFailed when there is no such program; a refused login shows as an early end of the stream."""
    ours_fd, theirs_fd = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        program = subprocess.Popen(
            ssh_arguments(endpoint), stdin=theirs_fd.fileno(), stdout=theirs_fd.fileno(), start_new_session=not os.isatty(0)
        )
    except OSError as error:
        ours_fd.close()
        raise ConnectionFailed(f"cannot run ssh: {error.strerror}") from error
    finally:
        theirs_fd.close()
    return SshStream(ours_fd, program)

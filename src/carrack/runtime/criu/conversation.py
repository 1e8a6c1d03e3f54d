"""One talk with a criu process: orders to it, its answers, and why it failed, out of its log."""

from __future__ import annotations

import _socket
import os
import re

from carrack.errors import SystemFailure
from carrack.runtime.criu import SEARCH, rpc

ENVIRONMENT = {"PATH": SEARCH}
"""It runs tar for the content of tmpfs."""
_LONGEST = 1 << 16
_LAST_LINES = 3
_STAMP = re.compile(r"^\([0-9.]+\)\s+(?:\d+:\s+)?")
_HARMLESS = ("Can't setup RLIMIT_NOFILE", "tun: Unable to create tun")
"""What criu tries at its start and does without."""


class Conversation:
    """The asking side. Made in the process whose descriptor numbers the orders name."""

    def __init__(self) -> None:
        self._sock, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self.their_fd = theirs.detach()
        """For criu; close it with `given` once that has it."""

    def given(self) -> None:
        """Criu has its end: with ours alone its death is seen."""
        os.close(self.their_fd)
        self.their_fd = -1

    def send(self, message: bytes) -> None:
        """Raises SystemFailure when criu is gone."""
        try:
            self._sock.send(message, _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise SystemFailure(f"criu has ended: {error.strerror}") from error

    def receive(self) -> tuple[rpc.Answer, int]:
        """Wait for what criu says: with the descriptor that came beside it, or -1. Raises SystemFailure when it says no more."""
        packet, ancillary, _, _ = self._sock.recvmsg(_LONGEST, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        fd = -1
        for level, kind, content in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fd = int.from_bytes(content[:4], "little")
        if not packet:
            raise SystemFailure("criu has ended without an answer")
        return rpc.answer(packet), fd

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self._sock.close()
        if self.their_fd >= 0:
            self.given()


def reason(message: str, log: str) -> str:
    """Why criu failed, in its own words: the last errors of its log, or what it answered."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [_STAMP.sub("", line).strip() for line in file if "Error" in line]
    except OSError:
        lines = []
    lines = [line for line in lines if not any(each in line for each in _HARMLESS)]
    found = "; ".join(lines[-_LAST_LINES:]) or message or "it does not say why"
    return f"criu failed: {found}"

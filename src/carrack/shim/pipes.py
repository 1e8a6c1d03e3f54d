"""The pipes between a shim and a process without a terminal."""

from __future__ import annotations

import os
from typing import NamedTuple

from carrack.runtime.create import Stdio
from carrack.shim.framing import STDERR, STDOUT


class Pipes(NamedTuple):
    """Our ends and the process's; -1 where there is none."""

    input_fd: int
    outputs: dict[int, int]
    """Descriptor to read from → stream number."""
    stdio: Stdio

    def inodes(self) -> tuple[int, ...]:
        """What the process's ends are called in /proc, by their number; 0 where there is none."""
        by_stream = {stream: fd for fd, stream in self.outputs.items()}
        ends = (self.input_fd, by_stream[STDOUT], by_stream[STDERR])
        return tuple(os.fstat(fd).st_ino if fd >= 0 else 0 for fd in ends)

    def close_process_ends(self) -> None:
        """Close what the process has copies of."""
        for fd in self.stdio:
            if fd >= 0:
                os.close(fd)

    def close_own_ends(self) -> None:
        """Close what we keep: nobody attaches any more."""
        for fd in (self.input_fd, *self.outputs):
            if fd >= 0:
                os.close(fd)


def make_pipes(*, stdin: bool) -> Pipes:
    """Pipes for output and errors, and for input when `stdin`. Every descriptor is close-on-exec."""
    from_input, input_fd = os.pipe2(os.O_CLOEXEC) if stdin else (-1, -1)
    output_fd, to_output = os.pipe2(os.O_CLOEXEC)
    errors_fd, to_errors = os.pipe2(os.O_CLOEXEC)
    return Pipes(input_fd, {output_fd: STDOUT, errors_fd: STDERR}, Stdio(from_input, to_output, to_errors))

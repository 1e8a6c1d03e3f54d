"""Running a program and looking at what it said. Every test that calls a command line goes through here, so that a failure
always shows the command, its exit code and both of its streams."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEFAULT_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it wrote."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Standard output without its closing newline."""
        return self.stdout.rstrip("\n")

    @property
    def lines(self) -> list[str]:
        """Standard output line by line."""
        return self.stdout.splitlines()

    def ok(self) -> str:
        """Insist on exit code 0; return standard output without its closing newline."""
        assert self.code == 0, str(self)
        return self.text

    def __str__(self) -> str:
        return f"{' '.join(self.argv)}\n  exit code {self.code}\n  stdout: {self.stdout}\n  stderr: {self.stderr}"


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | str = b"",
    env: Mapping[str, str] | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Result:
    """Run a command to its end. Bytes that are not UTF-8 come back as replacement characters."""
    done = run_bytes(argv, stdin=stdin, env=env, timeout_seconds=timeout_seconds)
    return Result(tuple(argv), done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def run_bytes(
    argv: Sequence[str],
    *,
    stdin: bytes | str = b"",
    env: Mapping[str, str] | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> subprocess.CompletedProcess[bytes]:
    """The same with standard output untouched, for archives."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    environment = os.environ.copy() if env is None else dict(env)
    return subprocess.run(list(argv), input=given, capture_output=True, env=environment, timeout=timeout_seconds, check=False)

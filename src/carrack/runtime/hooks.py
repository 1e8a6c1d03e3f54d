"""OCI hooks: programs of the administrator run at fixed moments, the container's state as JSON on their standard input."""

from __future__ import annotations

import os
import select
import signal
import time

import msgspec

from carrack.oci.runtime_spec import Hook
from carrack.runtime.failure import InitFailed, words


class State(msgspec.Struct, rename="camel", omit_defaults=True):
    """The runtime-spec's state document."""

    oci_version: str
    id: str
    status: str
    pid: int = 0
    bundle: str = ""
    annotations: dict[str, str] | None = None


def run(hooks: tuple[Hook, ...], state: State, moment: str) -> None:
    """Run each to its end, in order. Raises InitFailed at the first that fails or outlives its timeout."""
    document = msgspec.json.encode(state)
    for number, hook in enumerate(hooks):
        failure = _one(hook, document)
        if failure:
            raise InitFailed(f"error running {moment} hook #{number}: error running hook: {failure}")


def _one(hook: Hook, document: bytes) -> str:
    """Run one hook; its failure as text, empty when it went well."""
    state_reader, state_writer = os.pipe()
    output_reader, output_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(hook, state_reader, output_writer)
    os.close(state_reader)
    os.close(output_writer)
    try:
        os.write(state_writer, document)  # a state is far smaller than a pipe
    except BrokenPipeError:
        pass
    os.close(state_writer)
    try:
        output, timed_out = _collect(output_reader, hook.timeout)
    finally:
        os.close(output_reader)
    if timed_out:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if timed_out:
        return f"hook ran past specified timeout of {hook.timeout:.1f}s"
    if status == 0:
        return ""
    reason = f"exit status {status}" if status > 0 else f"signal: {(signal.strsignal(-status) or str(-status)).lower()}"
    return f"{reason}, stdout: , stderr: {output.decode(errors='replace').rstrip()}"


def _collect(reader: int, timeout_seconds: int | None) -> tuple[bytes, bool]:
    """What the hook wrote until it closed its output, and whether its time ran out."""
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else None
    output = b""
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return output, True
        if not select.select((reader,), (), (), left)[0]:
            continue
        chunk = os.read(reader, 4096)
        if not chunk:
            return output, False
        output = (output + chunk)[:65536]


def _become(hook: Hook, stdin: int, output: int) -> None:
    try:
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # as runc has it: a hook without `env` inherits the runtime's
        environment = dict(each.split("=", 1) for each in hook.env if "=" in each) if hook.env else dict(os.environ)
        os.execve(hook.path, list(hook.args) or [hook.path], environment)
    except OSError as error:
        os.write(2, f"fork/exec {hook.path}: {words(error)}".encode())
    finally:
        os._exit(127)

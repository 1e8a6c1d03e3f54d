"""Seccomp notifications: handing a filter's listener to the agent that the profile names (runtime-spec, `listenerPath`)."""

from __future__ import annotations

import socket

import msgspec

from carrack.oci.runtime_spec import Seccomp
from carrack.runtime.failure import InitFailed, words
from carrack.runtime.hooks import State


class ProcessState(msgspec.Struct, rename="camel"):
    """The runtime-spec's container process state."""

    oci_version: str
    fds: tuple[str, ...]
    pid: int
    metadata: str
    state: State


def hand_over(profile: Seccomp, listener_fd: int, pid: int, state: State) -> None:
    """Send the listener and what it is about over the agent's socket. Raises InitFailed."""
    document = ProcessState(state.oci_version, ("seccompFd",), pid, profile.listener_metadata, state)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.connect(profile.listener_path)
            socket.send_fds(agent, [msgspec.json.encode(document)], [listener_fd])
    except OSError as error:
        raise InitFailed(f"failed to connect with seccomp agent specified in the seccomp profile: {words(error)}") from None

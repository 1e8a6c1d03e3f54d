"""The conversation about a container that runs: a daemon's orders to its shim, the answers, and what the shim tells by itself."""

from __future__ import annotations

from carrack.oci.runtime_spec import Process
from carrack.shim.messages.clients import Attach
from carrack.shim.messages.protocol import VERSION, ProtocolMessage


class Exec(ProtocolMessage, frozen=True, tag="exec"):
    """Run one more process in the container. Descriptor, when `attach` is there: the client's socket.

    Answered by Done (with `pid`) once the program runs, or Refused; its end is told by ExecExited.
    """

    sequence: int
    exec_id: str
    process: Process
    attach: Attach | None = None
    privileged: bool = False


class Signal(ProtocolMessage, frozen=True, tag="signal"):
    """Send a signal to init, or to an exec's process; `everyone`: to each process of the container."""

    sequence: int
    signal: int
    exec_id: str = ""
    everyone: bool = False


class Resize(ProtocolMessage, frozen=True, tag="resize"):
    """Set the terminal's size, of init or of an exec."""

    sequence: int
    height: int
    width: int
    exec_id: str = ""


class Inquire(ProtocolMessage, frozen=True, tag="inquire"):
    """The first message of a daemon that connects anew. Answered by Status."""

    version: int = VERSION


class Forget(ProtocolMessage, frozen=True, tag="forget"):
    """The daemon has recorded the exit: answer those who wait for `removed` if it was removed, close everything, leave."""

    removed: bool = False


class Done(ProtocolMessage, frozen=True, tag="done"):
    """An order is carried out. `pid` answers Exec."""

    sequence: int
    pid: int = 0


class Refused(ProtocolMessage, frozen=True, tag="refused"):
    """An order is not carried out. `kind` names a class of carrack.errors; `exit_code` is what Docker records of an exec."""

    sequence: int
    kind: str
    message: str
    exit_code: int = 0


class ExecExited(ProtocolMessage, frozen=True, tag="exec-exited"):
    """A process of Exec ended."""

    exec_id: str
    exit_code: int


class Detached(ProtocolMessage, frozen=True, tag="detached"):
    """A client left by its detach keys."""

    exec_id: str = ""


class OutOfMemory(ProtocolMessage, frozen=True, tag="out-of-memory"):
    """The kernel killed a process of the container for want of memory."""


class Exited(ProtocolMessage, frozen=True, tag="exited"):
    """The container's init ended; `exit.json` holds the same."""

    exit_code: int
    finished_at_nanoseconds: int
    out_of_memory: bool = False
    error: str = ""
    started_at_nanoseconds: int = 0


class ExecState(ProtocolMessage, frozen=True, tag="exec-state"):
    """One exec, as Status tells of it."""

    exec_id: str
    pid: int = 0
    running: bool = True
    exit_code: int | None = None


class Status(ProtocolMessage, frozen=True, tag="status"):
    """Everything a new daemon must know. Descriptors: as for Created, while init lives."""

    container_id: str
    pid: int
    started_at_nanoseconds: int = 0
    """0: init still waits for Go."""
    exited: Exited | None = None
    execs: tuple[ExecState, ...] = ()
    version: int = VERSION

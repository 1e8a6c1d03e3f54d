"""Having a job done by a confined worker: from carrackd, blocking, one connection per job."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from carrack import errors
from carrack.errors import Cancelled, CarrackError, SystemFailure
from carrack.shim import wire
from carrack.shim.messages import WorkerDone, WorkerFailed, WorkerJob
from carrack.shim.zygote_process import reach


def run_job(zygote_socket: str, job: WorkerJob, fds: Sequence[int]) -> WorkerDone:
    """Do one job; `fds` as the job's text says, they stay open here.

    Raises the worker's own kind of error, SystemFailure when it died or no zygote comes up.
    """
    return Job(zygote_socket, job, fds).result()


def begin_job(zygote_socket: str, job: WorkerJob, fds: Sequence[int]) -> socket.socket:
    """Give a job to a worker; its answers come by the socket, and closing that ends it. Raises SystemFailure, Unavailable."""
    sock = reach(zygote_socket)
    try:
        wire.send(sock, job, fds)
    except BaseException:
        sock.close()
        raise
    return sock


class Job:
    """A job under way, which another thread may cancel."""

    def __init__(self, zygote_socket: str, job: WorkerJob, fds: Sequence[int]) -> None:
        self._name = type(job).__name__
        self._sock = begin_job(zygote_socket, job, fds)
        self._cancelled = False

    def result(self) -> WorkerDone:
        """Block until the worker has answered. Raises Cancelled after `cancel`."""
        with self._sock as sock:
            try:
                answer, _ = wire.receive(sock)
            except (EOFError, OSError):
                if self._cancelled:
                    raise Cancelled(f"{self._name} was cancelled") from None
                raise SystemFailure(f"the worker for {self._name} died") from None
        if isinstance(answer, WorkerDone):
            return answer
        if isinstance(answer, WorkerFailed):
            raise error_of(answer)
        raise SystemFailure(f"a worker does not answer with {type(answer).__name__}")

    def cancel(self) -> None:
        """Kill the worker; what it was making is half-made."""
        self._cancelled = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def error_of(failed: WorkerFailed) -> CarrackError:
    """The failure that a worker tells of, as its own kind of error."""
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, CarrackError):
        return kind(failed.message)
    return SystemFailure(failed.message)

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


class Job:
    """A job under way, which another thread may cancel."""

    def __init__(self, zygote_socket: str, job: WorkerJob, fds: Sequence[int]) -> None:
        self._name = type(job).__name__
        self._sock = reach(zygote_socket)
        self._cancelled = False
        try:
            wire.send(self._sock, job, fds)
        except BaseException:
            self._sock.close()
            raise

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
            raise _error(answer)
        raise SystemFailure(f"a worker does not answer with {type(answer).__name__}")

    def cancel(self) -> None:
        """Kill the worker; what it was making is half-made."""
        self._cancelled = True
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _error(failed: WorkerFailed) -> CarrackError:
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, CarrackError):
        return kind(failed.message)
    return SystemFailure(failed.message)

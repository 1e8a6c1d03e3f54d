"""How a failed start is told: runc's and containerd's words around the cause, from which Docker's clients draw the exit code."""

from __future__ import annotations

_NOT_EXECUTABLE = ("permission denied", "is a directory")
_NOT_FOUND = ("not a directory", "executable file not found", "no such file or directory", "system cannot find the file")
_WRONG_TYPE = (
    "Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)


class StartFailed(Exception):
    """The container could not be made, or its program not executed; everything is undone.

    `message` is Docker's whole text, `cause` its innermost part (from ``exec: …`` or ``error mounting …`` on), `exit_code` what
    Docker records: 127 not found, 126 not executable, else 128; `kind` the name of a class of carrack.errors.
    """

    def __init__(self, message: str, *, cause: str, exit_code: int, kind: str) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.exit_code = exit_code
        self.kind = kind


class InitFailed(Exception):
    """A step of init failed; `cause` in runc's words. Crosses from init to its parent as text."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


def exit_code_of(cause: str) -> int:
    """127, 126 or 128, by the rule that dockerd applies to the text."""
    if any(text in cause for text in _NOT_EXECUTABLE):
        return 126
    return 127 if any(text in cause for text in _NOT_FOUND) else 128


def start_failed(cause: str, *, in_init: bool = True) -> StartFailed:
    """A failed create or start. `in_init`: the container's own process found out, not the runtime beside it."""
    where = "unable to start container process: " + ("error during container init: " if in_init else "")
    text = (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        f"runc create failed: {where}{cause}: unknown"
    )
    if "not a directory" in cause and "error mounting" in cause:
        text += ": " + _WRONG_TYPE
    return _failed(text, cause)


def user_not_found(cause: str) -> StartFailed:
    """A user or group that the container's files do not know: Docker tells it bare."""
    return StartFailed(cause, cause=cause, exit_code=128, kind="InvalidParameter")


def exec_failed(cause: str) -> StartFailed:
    """A failed exec."""
    return _failed(f"OCI runtime exec failed: exec failed: unable to start container process: {cause}: unknown", cause)


def _failed(text: str, cause: str) -> StartFailed:
    code = exit_code_of(cause)
    if "is a directory" in cause:
        text += ": permission denied"  # by which Docker's clients before 28 tell that their exit code is 126
    return StartFailed(text, cause=cause, exit_code=code, kind="InvalidParameter" if code != 128 else "SystemFailure")


def words(error: OSError) -> str:
    """An errno in the words of Go's library, which users and Docker's client know: ``permission denied``."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]

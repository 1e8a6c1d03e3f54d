"""Why a container did not start: what its shim answered, as an error with the exit code that Docker records."""

from __future__ import annotations

from carrack.engine.shims import error_of
from carrack.errors import CarrackError, InvalidParameter, SystemFailure
from carrack.shim.messages import StartFailed


class StartError(InvalidParameter):
    """A container could not be started; carries the exit code Docker records."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def failure_of(message: object) -> CarrackError:
    """The error to raise for what came instead of Created or Started."""
    if not isinstance(message, StartFailed):
        return SystemFailure(f"the container's supervisor answered {type(message).__name__}")
    if message.exit_code in (126, 127):
        return StartError(message.message, message.exit_code)
    return error_of(message.kind, message.message)

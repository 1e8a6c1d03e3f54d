"""What can go wrong between a caller and the daemon: it cannot be reached, it speaks nonsense, or it refuses.

A refusal carries the HTTP status and the daemon's own message, and is also of the kind of `carrack.errors` that the status
stands for, so that callers of the Python client write `except NotFound`.
"""

from __future__ import annotations

from carrack.errors import (
    CarrackError,
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    NotImplementedHere,
    SystemFailure,
    Unauthorized,
    Unavailable,
)


class ConnectionFailed(CarrackError):
    """No daemon answers at the address, or the connection broke before the answer was whole."""


class ProtocolError(CarrackError):
    """What came back is not HTTP, or not the answer the Engine API promises."""


class ApiError(CarrackError):
    """The daemon's refusal. `message` is the daemon's text alone; `str()` is a line for the user, with the cause of a failed start
    and not the chain of programs that Docker's text, which tools look into, says it went through."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def __str__(self) -> str:
        return f"Error response from daemon: {_cause(self.message)}"


_STARTED_BY = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
_STARTED_IN = ("runc create failed: ", "unable to start container process: ", "error during container init: ")


def _cause(message: str) -> str:
    if not message.startswith(_STARTED_BY):
        return message
    cause = message.removeprefix(_STARTED_BY)
    for place in _STARTED_IN:
        cause = cause.removeprefix(place)
    return cause.removesuffix(": unknown").replace(": unknown: ", ": ")


class ApiInvalidParameter(ApiError, InvalidParameter):
    """400."""


class ApiUnauthorized(ApiError, Unauthorized):
    """401."""


class ApiForbidden(ApiError, Forbidden):
    """403."""


class ApiNotFound(ApiError, NotFound):
    """404."""


class ApiConflict(ApiError, Conflict):
    """409."""


class ApiNotImplemented(ApiError, NotImplementedHere):
    """501."""


class ApiUnavailable(ApiError, Unavailable):
    """503."""


class ApiSystemFailure(ApiError, SystemFailure):
    """Any other status of 500 and above."""


_KINDS: dict[int, type[ApiError]] = {
    400: ApiInvalidParameter,
    401: ApiUnauthorized,
    403: ApiForbidden,
    404: ApiNotFound,
    409: ApiConflict,
    501: ApiNotImplemented,
    503: ApiUnavailable,
}


def refusal(status: int, message: str) -> ApiError:
    """The error a status of 400 or above stands for."""
    kind = _KINDS.get(status)
    if kind is None:
        kind = ApiSystemFailure if status >= 500 else ApiError
    return kind(status, message)

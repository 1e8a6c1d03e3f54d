"""Kinds of failure → HTTP statuses, and the body Docker gives them. The only such map."""

from __future__ import annotations

from carrack.api.json import reply
from carrack.errors import (
    Cancelled,
    CarrackError,
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    NotImplementedHere,
    NotModified,
    SystemFailure,
    Unauthorized,
    Unavailable,
)
from carrack.http import Response

STATUS: dict[type[CarrackError], int] = {
    NotFound: 404,
    Conflict: 409,
    InvalidParameter: 400,
    NotModified: 304,
    Unauthorized: 401,
    Forbidden: 403,
    Unavailable: 503,
    NotImplementedHere: 501,
    Cancelled: 499,
    SystemFailure: 500,
}


def status_of(error: CarrackError) -> int:
    """The status of a failure's kind, or of the nearest kind above it."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def error_response(error: CarrackError) -> Response:
    """The answer Docker would give: ``{"message": …}``, or nothing at all for 304."""
    status = status_of(error)
    return Response(status) if status == 304 else reply({"message": error.message}, status)

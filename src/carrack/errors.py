"""The kinds of failure every floor speaks.

Raised where the cause is known, with the object and the path in the text; mapped outward once (`api/status.py`, the registry's
error codes) and translated inward once. Texts follow Docker's own where Docker has one: small letters, no full stop.
"""


class CarrackError(Exception):
    """Any failure that has a kind. The text is for the person who asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFound(CarrackError):
    """The named object does not exist (404)."""


class Conflict(CarrackError):
    """The object's present state, or another object, forbids the order (409)."""


class InvalidParameter(CarrackError):
    """What was asked cannot be meant: a malformed name, value or document (400)."""


class NotModified(CarrackError):
    """The order asks for what is already so (304); its text is never shown."""


class Unauthorized(CarrackError):
    """No credentials, or wrong ones (401)."""


class Forbidden(CarrackError):
    """Known, understood and refused (403)."""


class Unavailable(CarrackError):
    """Cannot be served now, may be later (503)."""


class NotImplementedHere(CarrackError):
    """Docker has it and this Carrack does not yet (501); each use stands in SCOPE.md."""


class Cancelled(CarrackError):
    """The one who asked has gone, or took the order back (499 inside, never sent)."""


class SystemFailure(CarrackError):
    """The kernel, the disk or our own state let us down (500)."""


class DataCorrupt(SystemFailure):
    """Bytes are not what their name promises: a digest, a size or a format differs (500)."""

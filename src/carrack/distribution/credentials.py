"""Who we are to a registry, as Docker's clients send it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field

import msgspec

from carrack.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens a registry; nothing of it is shown by `repr` or ever put into a message."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth2 refresh token, traded for access tokens."""
    registry_token: str = field(default="", repr=False)
    """An access token that is used as it is."""

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization field by name and password."""
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


class _AuthConfig(msgspec.Struct):
    """The document in an X-Registry-Auth header."""

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


def decode_header(text: str) -> Credentials:
    """Read an X-Registry-Auth header: base64url of a JSON document; empty means nobody. Raises InvalidParameter."""
    if not text:
        return ANONYMOUS
    try:
        bare = text.rstrip("=").replace("-", "+").replace("_", "/")
        content = b64decode(bare + "=" * (-len(bare) % 4), validate=True)
        document = msgspec.json.decode(content or b"{}", type=_AuthConfig)
        username, password = document.username or "", document.password or ""
        if document.auth and not username:
            username, _, password = b64decode(document.auth).decode().partition(":")
    except (Base64Error, ValueError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter("invalid X-Registry-Auth header") from error
    return Credentials(username, password, document.identitytoken or "", document.registrytoken or "")

"""Basic authentication (RFC 7617) against an htpasswd file of bcrypt lines, as `htpasswd -B` writes them.

bcrypt is slow on purpose, so it runs in two threads of its own and a password found right is remembered for some minutes, as a
keyed hash, until the file changes. There is no default user and no default password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from carrack.errors import InvalidParameter
from carrack.registry.auth.permits import Action, Identity
from carrack.registry.auth.watched import WatchedFile
from carrack.registry.errors import AuthenticationRequired

_BCRYPT = re.compile(r"\$2[abxy]\$(?:0[4-9]|1[0-9]|2[0-9]|3[01])\$[./A-Za-z0-9]{53}")
_REMEMBERED_SECONDS = 300
_REMEMBERED_LIMIT = 4096
_BCRYPT_LIMIT = 72
_NOBODY = b"$2b$10$abcdefghijklmnopqrstuuTQTfbPQTuCkSOBAYkiUaXtdcOFpVMUi"
"""Checked for names that do not exist, so that they take as long as names that do."""


def parse_htpasswd(content: bytes) -> dict[str, bytes]:
    """User names and bcrypt hashes. Raises InvalidParameter for any other hash: they are too weak to be let in quietly."""
    users: dict[str, bytes] = {}
    for number, line in enumerate(content.decode("utf-8", "surrogateescape").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, secret = line.partition(":")
        if not colon or not name or _BCRYPT.fullmatch(secret) is None:
            raise InvalidParameter(f"line {number}: want user:bcrypt-hash (htpasswd -B)")
        users[name] = secret.encode()
    return users


def parse_basic(authorization: str) -> tuple[str, bytes] | None:
    """User and password of an `Authorization` header, None when it is of another scheme or malformed."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user.decode("utf-8", "surrogateescape"), password) if colon else None


class HtpasswdAuthenticator:
    """Signs in those whom a file names."""

    guessable = True

    def __init__(self, path: str, realm: str) -> None:
        self._file = WatchedFile(path, parse_htpasswd)
        self._realm = realm
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="bcrypt")
        self._key = os.urandom(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()

    def challenge(self, repository: str, actions: tuple[Action, ...], *, problem: str = "") -> str:
        """The WWW-Authenticate header."""
        return f'Basic realm="{self._realm}", charset="UTF-8"'

    def recall(self, authorization: str) -> Identity | None:
        """Nobody without a header; a user whose password was right some minutes ago and whose line is still the same."""
        if not authorization:
            return Identity()
        credentials = parse_basic(authorization)
        if credentials is None:
            return None
        user, password = credentials
        if not user and not password:
            return Identity()  # what skopeo and podman send for want of credentials
        secret = self._file.current().get(user)
        if secret is not None and self._remembered.get(self._proof(user, password, secret), 0.0) > time.monotonic():
            return Identity(user)
        return None

    async def authenticate(self, authorization: str) -> Identity:
        """Who sent the header. Raises AuthenticationRequired."""
        credentials = parse_basic(authorization)
        if credentials is None:
            raise AuthenticationRequired("authentication required")
        user, password = credentials
        secret = self._file.current().get(user)
        loop = asyncio.get_running_loop()
        matches = await loop.run_in_executor(self._threads, _matches, password, secret or _NOBODY)
        if secret is None or not matches:
            raise AuthenticationRequired("authentication required")
        self._remember(self._proof(user, password, secret))
        return Identity(user)

    def _proof(self, user: str, password: bytes, secret: bytes) -> bytes:
        """Stands for a password and the line it was right for: when the line changes, so does this."""
        parts = (user.encode("utf-8", "surrogateescape"), password, secret)
        return hmac.digest(self._key, b"".join(hashlib.sha256(part).digest() for part in parts), "sha256")

    def _remember(self, proof: bytes) -> None:
        self._remembered[proof] = time.monotonic() + _REMEMBERED_SECONDS
        while len(self._remembered) > _REMEMBERED_LIMIT:
            self._remembered.popitem(last=False)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)


def _matches(password: bytes, secret: bytes) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(password[:_BCRYPT_LIMIT], secret)
    except ValueError:
        return False

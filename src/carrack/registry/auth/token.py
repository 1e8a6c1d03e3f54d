"""Bearer tokens: JSON Web Tokens (RFC 7519) of a token service, checked against a configured key set and nothing else.

What a token says about its own key (`jwk`, `x5c`, `jku`, `x5u`) is not looked at (CVE-2025-24976). The algorithm must be the one
its configured key is for, so neither `none` nor an HMAC over a public key can pass. Claims are those of distribution's token
specification: iss, aud, exp, nbf, access.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from carrack.errors import InvalidParameter
from carrack.registry.auth.permits import IMPLIED, Action, Grant, Identity
from carrack.registry.auth.signatures import SignatureKey, TokenMalformed, decode_segment, read_keys
from carrack.registry.auth.watched import WatchedFile
from carrack.registry.errors import AuthenticationRequired

_LEEWAY_SECONDS = 60
_REMEMBERED_LIMIT = 4096
_TOKEN_LIMIT = 32 << 10
_REPOSITORY_TYPE = re.compile(r"repository(?:\([a-z0-9]+\))?")


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""
    typ: str = ""
    crit: list[str] | None = None


class _Access(msgspec.Struct):
    type: str
    name: str
    actions: list[str] | None = None


class _Claims(msgspec.Struct):
    iss: str
    aud: str | list[str]
    exp: float
    nbf: float = 0
    sub: str = ""
    access: list[_Access] | None = None


@dataclass(frozen=True, slots=True)
class TokenService:
    """The service whose tokens are taken: where clients get them, and what they must say."""

    realm: str
    service: str
    issuer: str
    key_files: tuple[str, ...]


class TokenAuthenticator:
    """Signs in the bearers of a service's tokens."""

    guessable = False

    def __init__(self, service: TokenService) -> None:
        if not service.key_files:
            raise InvalidParameter("token authentication needs at least one key file")
        for text in (service.realm, service.service, service.issuer):
            if not text or '"' in text or "\\" in text:
                raise InvalidParameter("token authentication needs realm, service and issuer, without quotes")
        self._service = service
        self._files = [WatchedFile(path, read_keys) for path in service.key_files]
        self._remembered: OrderedDict[bytes, tuple[float, list[list[SignatureKey]], Identity]] = OrderedDict()

    def challenge(self, repository: str, actions: tuple[Action, ...], *, problem: str = "") -> str:
        """The WWW-Authenticate header (RFC 6750, 3)."""
        words = ",".join(dict.fromkeys("push" if action is Action.CREATE else action.value for action in actions))
        parts = [f'realm="{self._service.realm}"', f'service="{self._service.service}"']
        if repository:
            parts.append(f'scope="repository:{repository}:{words}"')
        elif actions:
            parts.append('scope="registry:catalog:*"')
        if problem:
            parts.append(f'error="{problem}"')
        return "Bearer " + ",".join(parts)

    def recall(self, authorization: str) -> Identity | None:
        """Nobody without a header; the bearer of a token that was judged before, while it and the keys last."""
        if not authorization:
            return Identity()
        remembered = self._remembered.get(_name(authorization))
        if remembered is None:
            return None
        expires, keys, identity = remembered
        is_fresh = expires > time.time() and all(file.current() is had for file, had in zip(self._files, keys, strict=True))
        return identity if is_fresh else None

    async def authenticate(self, authorization: str) -> Identity:
        """Whose token it is and what it grants. Raises AuthenticationRequired."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _TOKEN_LIMIT:
            raise AuthenticationRequired("authentication required")
        keys = [file.current() for file in self._files]
        try:
            expires, identity = self._judge(token, [key for file in keys for key in file])
        except TokenMalformed as error:
            raise AuthenticationRequired(f"invalid token: {error}") from error
        self._remembered[_name(authorization)] = (expires, keys, identity)
        while len(self._remembered) > _REMEMBERED_LIMIT:
            self._remembered.popitem(last=False)
        return identity

    def _judge(self, token: str, keys: list[SignatureKey]) -> tuple[float, Identity]:
        signed, _, signature = token.rpartition(".")
        head, _, body = signed.partition(".")
        try:
            header = msgspec.json.decode(decode_segment(head), type=_Header)
            if header.crit:
                raise TokenMalformed("critical extensions are not understood")
            candidates = [key for key in keys if not key.key_id or not header.kid or key.key_id == header.kid]
            proof = decode_segment(signature)
            if not any(key.verifies(header.alg, signed.encode("ascii"), proof) for key in candidates):
                raise TokenMalformed("it is not signed by a configured key")
            claims = msgspec.json.decode(decode_segment(body), type=_Claims)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise TokenMalformed("it cannot be read") from error
        return self._check(claims)

    def _check(self, claims: _Claims) -> tuple[float, Identity]:
        now = time.time()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if claims.iss != self._service.issuer:
            raise TokenMalformed("wrong issuer")
        if self._service.service not in audiences:
            raise TokenMalformed("wrong audience")
        if not now < claims.exp + _LEEWAY_SECONDS:
            raise TokenMalformed("expired")
        if claims.nbf > now + _LEEWAY_SECONDS:
            raise TokenMalformed("not valid yet")
        grants = tuple(
            Grant(access.name, frozenset[Action]().union(*(IMPLIED.get(word, frozenset()) for word in access.actions or [])))
            for access in claims.access or []
            if _REPOSITORY_TYPE.fullmatch(access.type)
        )
        may_list = any(
            access.type == "registry" and access.name == "catalog" and "*" in (access.actions or [])
            for access in claims.access or []
        )
        return claims.exp + _LEEWAY_SECONDS, Identity(claims.sub, grants, may_list)

    def close(self) -> None:
        """Nothing to end."""


def _name(authorization: str) -> bytes:
    return hashlib.sha256(authorization.encode("utf-8", "surrogateescape")).digest()

"""Answers to a registry's challenge: Basic, or a bearer token from its token server (distribution's "Token Authentication").

A registry names its token server itself, so a hostile one could name anybody's. Name and password therefore go to a token server
only when it belongs to the registry: the same host, or a host of the same domain by https. Elsewhere only anonymous tokens are
asked for.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import msgspec

from carrack.distribution.cancellation import Cancellation
from carrack.distribution.credentials import Credentials
from carrack.distribution.endpoints import Endpoint, host_name
from carrack.distribution.transport import Transport, split
from carrack.errors import Unauthorized, Unavailable

_CHALLENGE = re.compile(r"(?P<scheme>[A-Za-z]+)(?:\s+(?P<rest>.*))?", re.DOTALL)
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_LIFETIME_SECONDS = 60
"""What a token without a stated lifetime is good for."""
_LONGEST_SECONDS = 86400
_MARGIN_SECONDS = 10
_TOKEN_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate field."""

    scheme: str
    parameters: dict[str, str]


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: int | None = None


def parse_challenge(text: str) -> Challenge:
    """Read a WWW-Authenticate field."""
    match = _CHALLENGE.fullmatch(text.strip())
    if match is None:
        return Challenge("", {})
    parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(match["rest"] or "")}
    return Challenge(match["scheme"].lower(), parameters)


class Tokens:
    """Tokens by registry, scope and person, each until it runs out. Safe from any thread."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, Credentials], tuple[str, float]] = {}

    def kept(self, endpoint: Endpoint, scope: str, credentials: Credentials) -> str:
        """The Authorization field of an earlier answer, empty when there is none that still holds."""
        with self._lock:
            value, until = self._kept.get((endpoint.url, scope, credentials), ("", 0.0))
            return value if time.monotonic() < until else ""

    def answer(
        self, endpoint: Endpoint, challenges: list[str], scope: str, credentials: Credentials, cancel: Cancellation | None = None
    ) -> str:
        """The Authorization field that a challenge wants. Raises Unauthorized, Unavailable, Cancelled."""
        parsed = [parse_challenge(text) for text in challenges]
        bearer = next((challenge for challenge in parsed if challenge.scheme == "bearer"), None)
        if bearer is not None:
            value, seconds = self._bearer(endpoint, bearer, scope, credentials, cancel)
        elif any(challenge.scheme == "basic" for challenge in parsed):
            if not credentials.username:
                raise Unauthorized("no basic auth credentials")
            value, seconds = credentials.basic, 3600
        else:
            raise Unauthorized(f"{endpoint.host}: unauthorized, and no way to authenticate is offered")
        now = time.monotonic()
        with self._lock:
            self._kept = {key: (kept, until) for key, (kept, until) in self._kept.items() if now < until}
            self._kept[endpoint.url, scope, credentials] = (value, now + seconds - _MARGIN_SECONDS)
        return value

    def _bearer(
        self, endpoint: Endpoint, challenge: Challenge, scope: str, credentials: Credentials, cancel: Cancellation | None
    ) -> tuple[str, float]:
        if credentials.registry_token:
            return f"Bearer {credentials.registry_token}", 3600
        realm = challenge.parameters.get("realm", "")
        if split(realm).scheme not in ("http", "https"):
            raise Unauthorized(f"{endpoint.host}: its token server {realm!r} is no http or https URL")
        trusted = may_have_credentials(endpoint, realm)
        if credentials and not trusted:
            raise Unauthorized(
                f"{endpoint.host} wants its credentials sent to {split(realm).netloc}, which is not of its domain: refused"
            )
        service = challenge.parameters.get("service", "")
        wanted = scope or challenge.parameters.get("scope", "")
        document = self._ask(endpoint, realm, service, wanted, credentials, cancel)
        token = document.token or document.access_token
        if not token:
            raise Unauthorized(f"{endpoint.host}: its token server gave no token")
        return f"Bearer {token}", min(max(document.expires_in or 0, _LIFETIME_SECONDS), _LONGEST_SECONDS)

    def _ask(
        self, endpoint: Endpoint, realm: str, service: str, scope: str, credentials: Credentials, cancel: Cancellation | None
    ) -> _Token:
        headers: dict[str, str] = {}
        trust = endpoint.trust
        if split(realm).netloc != endpoint.host:  # our own certificate is for the registry
            trust = msgspec.structs.replace(trust, client_cert="", client_key="")
        if credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token, "client_id": "carrack"}
            body = urlencode({**form, "service": service, "scope": scope}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            answer = self._transport.request("POST", realm, headers, body=body, trust=trust, cancel=cancel)
        else:
            if credentials.username:
                headers["Authorization"] = credentials.basic
            asked = [f"{name}={quote(value, safe='')}" for name, value in (("service", service), *_scopes(scope)) if value]
            if credentials.username:
                asked.append(f"account={quote(credentials.username, safe='')}")
            url = realm + ("&" if "?" in realm else "?") + "&".join(asked)
            answer = self._transport.request("GET", url, headers, trust=trust, cancel=cancel)
        content = answer.read(_TOKEN_LIMIT_BYTES)
        if answer.status in (400, 401, 403):
            raise Unauthorized(
                "unauthorized: incorrect username or password" if credentials else "unauthorized: authentication required"
            )
        if answer.status != 200:
            raise Unavailable(f"{endpoint.host}: its token server answered with status {answer.status}")
        try:
            return msgspec.json.decode(content, type=_Token)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unavailable(f"{endpoint.host}: its token server gave an answer that cannot be read") from error


def may_have_credentials(endpoint: Endpoint, realm: str) -> bool:
    """Whether a token server belongs to a registry closely enough to be shown a password."""
    parts = split(realm)
    here, there = host_name(endpoint.host).lower(), (parts.hostname or "").lower()
    if parts.scheme == "http" and endpoint.scheme != "http":
        return False
    if here == there:
        return True
    return parts.scheme == "https" and _domain(here) == _domain(there) != ""


def _domain(name: str) -> str:
    """The part of a name that one owner has: its last two labels, three where a country sells names below a second one."""
    labels = name.rstrip(".").split(".")
    if len(labels) < 2 or labels[-1].isdigit() or ":" in name:
        return ""
    shared = len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if shared else labels[-2:]) if len(labels) > (2 if shared else 1) else ""


def _scopes(scope: str) -> list[tuple[str, str]]:
    return [("scope", each) for each in scope.split(" ")]

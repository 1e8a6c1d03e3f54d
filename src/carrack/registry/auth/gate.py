"""The one gate: every request is identified and judged here before any route sees it.

Three ways to sign in (none, htpasswd, bearer tokens) behind one Protocol. A token's own grants decide what its bearer may do; for
the others the rules do, and without a rules file whoever has signed in may do everything. Deleting has a switch of its own that no
right overrides.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

from carrack.registry.auth.permits import Action, Identity, Permit
from carrack.registry.auth.rules import Rules
from carrack.registry.auth.watched import WatchedFile
from carrack.registry.errors import AuthenticationRequired, Denied, TooManyRequests, Unsupported

_FAILURE_LIMIT = 20
_FAILURE_SECONDS = 60
_WATCHED_PEERS = 10_000


class Authenticator(Protocol):
    """One way to sign in."""

    guessable: bool
    """Whether trying often enough could succeed, as with passwords."""

    def challenge(self, repository: str, actions: tuple[Action, ...], *, problem: str = "") -> str:
        """What to answer who has not signed in, or not for this."""

    def recall(self, authorization: str) -> Identity | None:
        """Whoever sent this header before and was believed, if that still holds."""

    async def authenticate(self, authorization: str) -> Identity:
        """Who sent the header. Raises AuthenticationRequired."""

    def close(self) -> None:
        """Let go of threads."""


class Gate:
    """Admits requests or refuses them."""

    def __init__(self, authenticator: Authenticator | None, rules: WatchedFile[Rules] | None, *, deletes: bool = True) -> None:
        self._authenticator = authenticator
        self._rules = rules
        self._deletes = deletes
        self._failures = _Failures()

    async def admit(self, authorization: str, peer: str, repository: str, actions: tuple[Action, ...]) -> Permit:
        """Identify, then hold against what is asked: `actions` on `repository`; no repository is the registry itself.

        Raises AuthenticationRequired (with its challenge), Denied, TooManyRequests, Unsupported where deleting is switched off.
        """
        identity = await self._identify(authorization, peer, repository, actions)
        permit = Permit(identity, lambda name, action: self._allows(identity, name, action), self._may_list(identity))
        if not repository:
            if self._authenticator is not None and identity.is_anonymous:
                raise self._unauthorized("authentication required", repository, actions)
            if actions and not permit.may_list:
                raise self._refuse(identity, repository, actions)
            return permit
        if not all(permit.allows(repository, action) for action in actions):
            raise self._refuse(identity, repository, actions)
        if Action.DELETE in actions and not self._deletes:
            raise Unsupported("deleting is disabled in this registry", headers={"Allow": "GET, HEAD, PUT"})
        return permit

    async def _identify(self, authorization: str, peer: str, repository: str, actions: tuple[Action, ...]) -> Identity:
        if self._authenticator is None:
            return Identity()
        remembered = self._authenticator.recall(authorization)
        if remembered is not None:
            return remembered
        if self._authenticator.guessable:
            self._failures.check(peer)
        try:
            return await self._authenticator.authenticate(authorization)
        except AuthenticationRequired as error:
            self._failures.count(peer)
            raise self._unauthorized(error.message, repository, actions, problem="invalid_token") from error

    def _allows(self, identity: Identity, repository: str, action: Action) -> bool:
        if identity.grants is not None:
            return any(grant.repository == repository and action in grant.actions for grant in identity.grants)
        if self._rules is not None:
            return self._rules.current().allows(identity, repository, action)
        return self._authenticator is None or not identity.is_anonymous

    def _may_list(self, identity: Identity) -> bool:
        """The catalog shows each only what they may pull; a token must also grant it."""
        return identity.may_list if identity.grants is not None else True

    def _refuse(self, identity: Identity, repository: str, actions: tuple[Action, ...]) -> AuthenticationRequired | Denied:
        if self._authenticator is not None and (identity.is_anonymous or identity.grants is not None):
            problem = "" if identity.is_anonymous else "insufficient_scope"
            return self._unauthorized("authentication required", repository, actions, problem=problem)
        return Denied("requested access to the resource is denied", detail={"name": repository})

    def _unauthorized(
        self, message: str, repository: str, actions: tuple[Action, ...], *, problem: str = ""
    ) -> AuthenticationRequired:
        assert self._authenticator is not None
        challenge = self._authenticator.challenge(repository, actions, problem=problem)
        return AuthenticationRequired(message, headers={"WWW-Authenticate": challenge})

    def close(self) -> None:
        """Let go of the authenticator's threads."""
        if self._authenticator is not None:
            self._authenticator.close()


class _Failures:
    """Wrong credentials per address within a minute: beyond a number, credentials not seen before have to wait."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, peer: str) -> None:
        since, count = self._counts.get(peer, (0.0, 0))
        left = since + _FAILURE_SECONDS - time.monotonic()
        if count >= _FAILURE_LIMIT and left > 0:
            raise TooManyRequests("too many wrong credentials", headers={"Retry-After": str(int(left) + 1)})

    def count(self, peer: str) -> None:
        now = time.monotonic()
        since, count = self._counts.pop(peer, (now, 0))
        self._counts[peer] = (since, count + 1) if now - since < _FAILURE_SECONDS else (now, 1)
        while len(self._counts) > _WATCHED_PEERS:
            self._counts.popitem(last=False)

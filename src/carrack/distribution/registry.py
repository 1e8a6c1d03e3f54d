"""Registries by their domain: which endpoint serves a reference, tried in order, and the shared connections and tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from carrack.distribution.cancellation import Cancellation
from carrack.distribution.credentials import ANONYMOUS, Credentials
from carrack.distribution.endpoints import Endpoint, RegistryOptions
from carrack.distribution.repository import Repository
from carrack.distribution.tokens import Tokens
from carrack.distribution.transport import CertificateRefused, Transport, TransportFailure
from carrack.errors import Cancelled, CarrackError, NotFound, Unauthorized, Unavailable
from carrack.oci.reference import DOCKER_HUB, Reference

T = TypeVar("T")

_SEARCH_LIMIT_BYTES = 4 << 20


class Registries:
    """The client side of every registry."""

    def __init__(self, options: RegistryOptions | None = None) -> None:
        self._options = options or RegistryOptions()
        self._transport = Transport()
        self._tokens = Tokens(self._transport)
        self._lock = threading.Lock()
        self._good: dict[str, Endpoint] = {}
        """Of a registry that may do without TLS: which way it was reached."""

    def find(
        self,
        reference: Reference,
        credentials: Credentials,
        ask: Callable[[Repository], T],
        *,
        push: bool = False,
        cancel: Cancellation | None = None,
    ) -> tuple[Repository, T]:
        """The first endpoint that answers `ask`, and its answer. A mirror gets no credentials.

        Raises what the registry itself answers, once the mirrors were tried in vain.
        """
        cancel = cancel or Cancellation("transfer")
        endpoints = self._endpoints(reference.domain, push=push)
        for position, endpoint in enumerate(endpoints):
            who = ANONYMOUS if endpoint.mirror else credentials
            path = endpoint.path(reference.path) if reference.path else ""
            repository = Repository(self._transport, self._tokens, endpoint, path, who, cancel)
            last = position == len(endpoints) - 1
            try:
                answer = ask(repository)
            except Cancelled:
                raise
            except (TransportFailure, CertificateRefused):
                if last:
                    raise
                continue
            except CarrackError:
                if last or not endpoint.mirror:
                    self._remember(reference.domain, endpoint)
                    raise
                continue
            self._remember(reference.domain, endpoint)
            return repository, answer
        raise AssertionError("a registry has at least one endpoint")

    def login(self, domain: str, credentials: Credentials) -> None:
        """Find out whether a registry knows these credentials. Raises Unauthorized, Unavailable."""
        for position, endpoint in enumerate(endpoints := self._endpoints(domain, push=True)):
            try:
                self._ping(endpoint, credentials)
            except (TransportFailure, CertificateRefused):
                if position == len(endpoints) - 1:
                    raise
                continue
            self._remember(domain, endpoint)
            return

    def search(self, domain: str, term: str, limit: int, credentials: Credentials) -> bytes:
        """The answer of an index's search (`/v1/search`, which Docker Hub still has). Raises NotFound without one, Unavailable."""
        endpoints = (Endpoint("https", "index.docker.io"),) if domain == DOCKER_HUB else self._endpoints(domain, push=True)
        query = urlencode({"q": term, "n": limit})
        headers = {"Authorization": credentials.basic} if credentials.username and domain != DOCKER_HUB else {}
        for position, endpoint in enumerate(endpoints):
            try:
                answer = self._transport.request("GET", f"{endpoint.url}/v1/search?{query}", headers, trust=endpoint.trust)
            except (TransportFailure, CertificateRefused):
                if position == len(endpoints) - 1:
                    raise
                continue
            content = answer.read(_SEARCH_LIMIT_BYTES)
            if answer.status == 404:
                raise NotFound(f"{endpoint.host} has no index to search")
            if answer.status != 200:
                raise Unavailable(f"Unexpected status code {answer.status}")
            return content
        raise AssertionError("a registry has at least one endpoint")

    def catalog(self, domain: str, credentials: Credentials) -> list[str]:
        """The names of a registry's repositories, as far as one may see them. Raises NotFound, Unauthorized, Unavailable."""
        return self.find(Reference(domain, ""), credentials, lambda registry: registry.catalog(), push=True)[1]

    def _ping(self, endpoint: Endpoint, credentials: Credentials) -> None:
        url = f"{endpoint.url}/v2/"
        answer = self._transport.request("GET", url, {}, trust=endpoint.trust)
        challenges = answer.headers("WWW-Authenticate")
        answer.read(_SEARCH_LIMIT_BYTES)
        if answer.status == 401:
            headers = {"Authorization": self._tokens.answer(endpoint, challenges, "", credentials)}
            answer = self._transport.request("GET", url, headers, trust=endpoint.trust)
            answer.read(_SEARCH_LIMIT_BYTES)
        if answer.status in (401, 403):
            raise Unauthorized(f"login attempt to {url} failed with status: {answer.status} Unauthorized")
        if answer.status != 200:
            raise Unavailable(f"login attempt to {url} failed with status: {answer.status}")

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _endpoints(self, domain: str, *, push: bool) -> tuple[Endpoint, ...]:
        with self._lock:
            good = self._good.get(domain)
        own = (good,) if good is not None else self._options.own(domain)
        return own if push else self._options.before(domain) + own

    def _remember(self, domain: str, endpoint: Endpoint) -> None:
        """Keep how a registry without a good certificate was reached, for an attempt at TLS costs time each time."""
        if not endpoint.mirror and (not endpoint.trust.verify or endpoint.scheme == "http"):
            with self._lock:
                self._good[domain] = endpoint

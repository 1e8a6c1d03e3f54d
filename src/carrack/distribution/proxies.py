"""The proxy through which a registry is reached, as the environment names it: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

_PORT = 80
"""Of a proxy whose address names none, whatever is asked for through it."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it is, and who we are to it."""

    address: str
    """host:port"""
    authorization: str = ""
    """The value of Proxy-Authorization; empty for a proxy that asks nobody."""

    @property
    def url(self) -> str:
        """Without the secret in it."""
        return f"http://{self.address}"

    @property
    def fields(self) -> dict[str, str]:
        """Header fields for the proxy alone."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The one to take for a scheme and a host (with or without port), None to go straight."""
    text = getproxies_environment().get(scheme)
    if not text or _goes_straight(host):
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(pair.encode()).decode()}"
    return Proxy(f"{name}:{parts.port or _PORT}", authorization)


def _goes_straight(host: str) -> bool:
    """This machine itself always does, as with Docker; of NO_PROXY, networks (10.0.0.0/8) count for hosts given by address."""
    if proxy_bypass(host):
        return True
    name = urlsplit(f"//{host}").hostname or ""
    try:
        address = ip_address(name)
    except ValueError:
        return name == "localhost"
    if address.is_loopback:
        return True
    for word in getproxies_environment().get("no", "").split(","):
        try:
            if address in ip_network(word.strip(), strict=False):
                return True
        except ValueError:
            continue  # a name
    return False

"""Where a daemon listens, as `-H`, `DOCKER_HOST` and contexts write it: `unix://`, `tcp://`, `http(s)://`, `ssh://`.

Only text is handled here; `connection.py` opens the sockets. Defaults are Docker's (2375, 2376 with TLS) except for the local
socket, which is Carrack's own.
"""

from __future__ import annotations

from carrack.errors import InvalidParameter

DEFAULT_HOST = "unix:///run/carrack/carrack.sock"
DOCKER_SOCKET = "/var/run/docker.sock"


class TlsFiles:
    """Paths of the PEM files of a TLS connection; an empty path means the file is not used."""

    __slots__ = ("authority", "certificate", "key", "server_name", "verify")

    def __init__(
        self, authority: str = "", certificate: str = "", key: str = "", *, verify: bool = True, server_name: str = ""
    ) -> None:
        self.authority = authority
        self.certificate = certificate
        self.key = key
        self.verify = verify
        self.server_name = server_name


class Endpoint:
    """One parsed address. `text` is what the user wrote and what error messages repeat."""

    __slots__ = ("base_path", "hint", "host", "path", "port", "scheme", "text", "tls", "user")

    def __init__(
        self, text: str, scheme: str, *, path: str = "", host: str = "", port: int = 0, user: str = "", base_path: str = ""
    ) -> None:
        self.text = text
        self.scheme = scheme
        self.path = path
        self.host = host
        self.port = port
        self.user = user
        self.base_path = base_path
        self.tls: TlsFiles | None = None
        self.hint = ""  # a second sentence for `cannot connect`

    @property
    def host_header(self) -> str:
        """The Host header Docker's own client sends."""
        if self.scheme == "tcp":
            name = f"[{self.host}]" if ":" in self.host else self.host
            return f"{name}:{self.port}"
        return "api.moby.localhost"


def parse_endpoint(text: str, *, tls: TlsFiles | None = None) -> Endpoint:
    """Reads an address. A bare `host:port` means TCP and a bare path a unix socket. Raises InvalidParameter."""
    written = text.strip()
    scheme, separator, rest = written.partition("://")
    if not separator:
        scheme, rest = ("unix", written) if written.startswith("/") else ("tcp", written)
    if scheme == "unix":
        return Endpoint(written if separator else f"unix://{written}", "unix", path=rest or DEFAULT_HOST.removeprefix("unix://"))
    if scheme == "ssh":
        return _parse_ssh(written, rest)
    if scheme in ("tcp", "http", "https"):
        if scheme == "https" and tls is None:
            tls = TlsFiles()
        return _parse_tcp(written if separator else f"tcp://{written}", rest, tls)
    raise InvalidParameter(f"invalid bind address format: {text}")


def _parse_tcp(written: str, rest: str, tls: TlsFiles | None) -> Endpoint:
    authority, _, base = rest.partition("/")
    host, port = split_host_port(authority, 2376 if tls else 2375, written)
    endpoint = Endpoint(written, "tcp", host=host or "127.0.0.1", port=port, base_path=f"/{base.rstrip('/')}" if base else "")
    endpoint.tls = tls
    return endpoint


def _parse_ssh(written: str, rest: str) -> Endpoint:
    authority, _, path = rest.partition("/")
    user, _, address = authority.rpartition("@")
    if ":" in user:
        raise InvalidParameter(f"ssh host connection is not valid: plain-text password is not supported: {written}")
    host, port = split_host_port(address, 0, written)
    if not host or host.startswith("-") or user.startswith("-"):
        raise InvalidParameter(f"ssh host connection is not valid: no host specified: {written}")
    return Endpoint(written, "ssh", host=host, port=port, user=user, path=f"/{path}" if path else "")


def split_host_port(authority: str, default_port: int, written: str) -> tuple[str, int]:
    """Splits `host:port`, `[v6]:port` or a bare host. Raises InvalidParameter for a port that is no number."""
    if authority.startswith("["):
        host, closed, tail = authority[1:].partition("]")
        if not closed or (tail and not tail.startswith(":")):
            raise InvalidParameter(f"invalid host: {written}")
        port_text = tail[1:]
    else:
        host, _, port_text = authority.partition(":")
    if not port_text:
        return host, default_port
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise InvalidParameter(f"invalid port in host: {written}")
    return host, int(port_text)

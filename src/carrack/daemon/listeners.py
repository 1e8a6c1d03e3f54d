"""The sockets carrackd listens on: unix sockets for a group, TCP only where it is safe or said to be wanted."""

from __future__ import annotations

import errno
import grp
import ipaddress
import logging
import os
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from carrack.daemon import systemd
from carrack.daemon.config import DaemonConfig
from carrack.errors import InvalidParameter, SystemFailure

DEFAULT_GROUP = "carrack"
BACKLOG = 1024
DOCKER_SOCKET = Path("/run/docker.sock")

log = logging.getLogger("carrack.daemon")


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and what is to be done with it."""

    socket: socket.socket
    is_tcp: bool = False
    path: Path | None = None
    """Of a unix socket that we made, and remove."""

    def close(self) -> None:
        """Stop listening; a unix socket's path goes. Idempotent."""
        self.socket.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def open_listeners(config: DaemonConfig) -> list[Listener]:
    """All that the configuration names. Raises InvalidParameter, SystemFailure with one sentence that says what to do."""
    opened: list[Listener] = []
    try:
        for host in config.hosts:
            opened += _open(host, config)
        opened += _docker_socket(config)
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def open_reading_listener(config: DaemonConfig) -> Listener:
    """The socket that only tells. Raises InvalidParameter, SystemFailure."""
    path = Path(config.further.read_only_socket)
    return Listener(_unix(path, config.further.read_only_group or config.group), path=path)


def open_metrics_listener(address: str) -> Listener:
    """A listening socket for metrics, which are no secret but to those who have none of them. Raises SystemFailure."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return Listener(socket.create_server((host.strip("[]"), int(port)), family=family), is_tcp=True)
    except OSError as error:
        raise SystemFailure(f"cannot listen on {address}: {error.strerror or error}") from error


def _open(host: str, config: DaemonConfig) -> list[Listener]:
    scheme, separator, rest = host.partition("://")
    if not separator:
        raise InvalidParameter(f"invalid bind address ({host}): want unix:///path, tcp://address:port or fd://")
    if scheme == "unix":
        path = Path(rest or f"{config.exec_root}/carrack.sock")
        return [Listener(_unix(path, config.group), path=path)]
    if scheme == "tcp":
        return [Listener(_tcp(rest, config), is_tcp=True)]
    if scheme == "fd":
        return [_inherited(found, config) for found in systemd.given_sockets(rest)]
    raise InvalidParameter(f"invalid bind address ({host}): unknown scheme {scheme!r}")


def _inherited(found: socket.socket, config: DaemonConfig) -> Listener:
    """A socket that systemd holds: never removed by us. One of TCP has to be as safe as one of our own."""
    if found.family == socket.AF_UNIX:
        return Listener(found)
    address, port = found.getsockname()[:2]
    _check_tcp(ipaddress.ip_address(address), f"{address}:{port}", config)
    return Listener(found, is_tcp=True)


def _docker_socket(config: DaemonConfig) -> list[Listener]:
    """The socket that tools look for when nobody tells them where the engine is, unless another engine has it."""
    if config.docker_socket == "no":
        return []
    if config.docker_socket == "auto":
        owner = docker_socket_owner()
        if owner:
            log.info("%s is left to %s", DOCKER_SOCKET, owner)
            return []
    return [Listener(_unix(DOCKER_SOCKET, config.group), path=DOCKER_SOCKET)]


def docker_socket_owner() -> str:
    """Who else has, or will want, /run/docker.sock; empty when nobody does."""
    if shutil.which("dockerd", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"):
        return "the dockerd that is installed"
    try:
        if not stat.S_ISSOCK(DOCKER_SOCKET.lstat().st_mode):
            return "what is there, which is no socket"
        _clear_stale(DOCKER_SOCKET)
    except FileNotFoundError:
        return ""
    except (OSError, SystemFailure):
        return "the engine that answers there"
    return ""


def _unix(path: Path, group: str) -> socket.socket:
    if not path.is_absolute():
        raise InvalidParameter(f"invalid bind address (unix://{path}): the path must be absolute")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(path)
        before = os.umask(0o777)  # nobody may connect before owner and mode are right
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        os.chown(path, 0, _group_id(group))
        os.chmod(path, 0o660)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SystemFailure(f"cannot listen on {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear_stale(path: Path) -> None:
    """Remove the socket of a daemon that is gone; leave anything else, and a socket that answers."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SystemFailure(f"cannot listen on {path}: something that is no socket is there")
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError as error:
        if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
            path.unlink(missing_ok=True)
            return
        raise
    finally:
        probe.close()
    raise SystemFailure(f"cannot listen on {path}: another daemon answers there")


def _group_id(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group or DEFAULT_GROUP).gr_gid
    except KeyError:
        if group:
            raise InvalidParameter(f"group {group} not found") from None
        return 0


def _tcp(rest: str, config: DaemonConfig) -> socket.socket:
    address, colon, port_text = rest.rpartition(":")
    if rest.endswith("]") or not colon:
        address, port_text = rest, "2376" if config.tls else "2375"
    address = address.strip("[]") or "127.0.0.1"
    if not port_text.isdecimal() or int(port_text) > 65535:
        raise InvalidParameter(f"invalid bind address (tcp://{rest}): want address:port")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
    except ValueError:
        raise InvalidParameter(f"invalid bind address (tcp://{rest}): {address} is no address") from None
    _check_tcp(ip, rest, config)
    listener = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(ip), int(port_text)))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SystemFailure(f"cannot listen on tcp://{rest}: {error.strerror}") from error
    return listener


def _check_tcp(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, rest: str, config: DaemonConfig) -> None:
    """Whoever reaches a socket without client certificates is root here. Raises InvalidParameter."""
    if config.tls_verify:
        return
    if config.tls is None:
        raise InvalidParameter(
            f"refusing to listen on tcp://{rest} without TLS: whoever reaches it is root here; say --tlsverify "
            "(`carrack system certs` makes the certificates), use a unix socket or ssh, or say --tls=false for loopback"
        )
    if not ip.is_loopback and not config.insecure_tcp:
        lacks = "asks no client for a certificate: say --tlsverify" if config.tls else "has no TLS: say --tlsverify"
        raise InvalidParameter(
            f"refusing to listen on tcp://{rest}: it is not loopback and {lacks}, or --insecure-tcp if that is meant"
        )

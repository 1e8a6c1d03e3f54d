"""The sockets carrackd listens on: unix sockets for a group, TCP only where it is safe or said to be wanted."""

from __future__ import annotations

import errno
import grp
import ipaddress
import os
import socket
import stat
from pathlib import Path

from carrack.daemon.config import DaemonConfig
from carrack.errors import InvalidParameter, SystemFailure

DEFAULT_GROUP = "carrack"
BACKLOG = 1024


def open_listener(host: str, config: DaemonConfig) -> socket.socket:
    """A listening socket for one `-H`. Raises InvalidParameter, SystemFailure with one sentence that says what to do."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        raise InvalidParameter(f"invalid bind address ({host}): want unix:///path or tcp://address:port")
    if scheme == "unix":
        return _unix(Path(rest or f"{config.exec_root}/carrack.sock"), config.group)
    if scheme == "tcp":
        return _tcp(rest, config)
    if scheme == "fd":
        raise InvalidParameter("socket activation (fd://) is not supported by this version of Carrack")
    raise InvalidParameter(f"invalid bind address ({host}): unknown scheme {scheme!r}")


def open_metrics_listener(address: str) -> socket.socket:
    """A listening socket for metrics, which are no secret but to those who have none of them. Raises SystemFailure."""
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SystemFailure(f"cannot listen on {address}: {error.strerror or error}") from error


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
    address = address.strip("[]") or "127.0.0.1"
    if not colon or not port_text.isdecimal() or int(port_text) > 65535:
        raise InvalidParameter(f"invalid bind address (tcp://{rest}): want address:port")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if address == "localhost" else address)
    except ValueError:
        raise InvalidParameter(f"invalid bind address (tcp://{rest}): {address} is no address") from None
    if config.tls is not False:
        raise InvalidParameter(
            f"refusing to listen on tcp://{rest} without TLS: whoever reaches it is root here; "
            "use a unix socket or ssh, or say --tls=false for loopback"
        )
    if not ip.is_loopback and not config.insecure_tcp:
        raise InvalidParameter(
            f"refusing to listen on tcp://{rest}: it is not loopback and has no TLS; say --insecure-tcp too if that is meant"
        )
    listener = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(ip), int(port_text)))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SystemFailure(f"cannot listen on tcp://{rest}: {error.strerror}") from error
    return listener

"""The server process: listeners, TLS, signals, scheduled collection, and a stop that lets running transfers end.

Collection runs as a process of its own (`python -m carrack.registry gc`): it shares nothing with the server but the store, takes
none of its time, and its memory goes when it is done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from carrack.errors import CarrackError, InvalidParameter, Unavailable
from carrack.http import Limits, Request, Response, Server
from carrack.http import serve as serve_http
from carrack.http.request import Reply
from carrack.registry.access_log import AccessLog
from carrack.registry.auth.gate import Authenticator, Gate
from carrack.registry.auth.htpasswd import HtpasswdAuthenticator
from carrack.registry.auth.rules import Rules
from carrack.registry.auth.token import TokenAuthenticator, TokenService
from carrack.registry.auth.watched import WatchedFile
from carrack.registry.config import RegistryConfig, TlsConfig, existing_root, parse_address
from carrack.registry.metrics import Metrics
from carrack.registry.routes.call import Bounds, Services
from carrack.registry.server import RegistryServer
from carrack.registry.storage.filesystem import FilesystemStorage
from carrack.registry.verification import Verifier

log = logging.getLogger("carrack.registry")

_THREADS = 32
_BACKLOG = 512
_DESCRIPTORS = 65_536


def run(config: RegistryConfig, *, ready_fd: int = -1) -> None:
    """Serve until SIGTERM or SIGINT. Writes the bound addresses to `ready_fd`, one a line. Raises InvalidParameter, Unavailable."""
    config.validate()
    _raise_descriptor_limit()
    runner = asyncio.run
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:
        pass  # the standard loop serves too
    runner(_Process(config).run(ready_fd))


def _raise_descriptor_limit() -> None:
    """A client needs two descriptors, and the usual soft limit of 1024 is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass
class _Parts:
    services: Services
    gate: Gate
    server: RegistryServer
    access_log: AccessLog | None


class _Process:
    """One server process and all it holds."""

    def __init__(self, config: RegistryConfig) -> None:
        self._config = config
        self._metrics = Metrics()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, ready_fd: int) -> None:
        parts = self._build()
        tls_config = self._config.tls
        tls = _tls_context(tls_config) if tls_config is not None else None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if tls is not None and tls_config is not None:
            loop.add_signal_handler(signal.SIGHUP, self._renew_certificate, tls, tls_config)
        listeners = [_listen(host, port) for host, port in self._config.addresses()]
        limits = Limits(head_bytes=64 << 10, unread_bytes=256 << 10, body_seconds=300.0, connections=self._config.max_connections)
        servers = [
            await serve_http(parts.server.handle, listener, limits=limits, tls=tls, observer=parts.server.observe)
            for listener in listeners
        ]
        if self._config.metrics_listen:
            listener = _listen(*parse_address(self._config.metrics_listen))
            listeners.append(listener)
            servers.append(await serve_http(self._tell, listener))
        if self._config.insecure and self._config.has_users and tls is None:
            log.warning("without TLS passwords and tokens travel in the clear: put a TLS proxy in front")
        bound = ["{}:{}".format(*listener.getsockname()[:2]) for listener in listeners]
        log.info("registry on %s, root %s", ", ".join(bound), self._config.root)
        if ready_fd >= 0:
            os.write(ready_fd, "".join(f"{address}\n" for address in bound).encode())
            os.close(ready_fd)
        collecting = asyncio.create_task(self._collect_regularly())
        try:
            await self._stopping.wait()
        finally:
            collecting.cancel()
            await self._stop(servers, parts)

    def _on_signal(self) -> None:
        """The first asks for a stop, the second for one at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def _renew_certificate(self, context: ssl.SSLContext, config: TlsConfig) -> None:
        """SIGHUP: the files hold a new certificate; connections that come from now on are shown it."""
        try:
            _load_certificate(context, config)
        except InvalidParameter as error:
            log.error("the old certificate stays: %s", error.message)

    def _build(self) -> _Parts:
        config = self._config
        storage = FilesystemStorage(existing_root(config))
        gate = Gate(_authenticator(config), _rules(config), deletes=config.delete)
        verifier = Verifier(storage, lambda: self._count("carrack_registry_corrupt_blobs_total"))
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        bounds = Bounds(blob_bytes=config.max_blob_bytes, sparse_indexes=config.sparse_indexes)
        services = Services(storage, verifier, threads, bounds)
        access_log = _access_log(config.access_log)
        return _Parts(services, gate, RegistryServer(services, gate, self._metrics, access_log), access_log)

    def _count(self, name: str, amount: float = 1) -> None:
        self._metrics.counters[name] += amount

    async def _stop(self, servers: list[Server], parts: _Parts) -> None:
        log.info("stopping: running requests may end within %g seconds", self._config.shutdown_seconds)
        closing = asyncio.gather(*(server.close(self._config.shutdown_seconds) for server in servers))
        hurrying = asyncio.create_task(self._hurry.wait())
        await asyncio.wait((closing, hurrying), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            log.warning("stopping at once")
            await asyncio.gather(*(server.close(0.0) for server in servers))
        await closing
        hurrying.cancel()
        parts.services.verifier.close()
        parts.gate.close()
        parts.services.threads.shutdown(wait=True)
        if parts.access_log is not None:
            parts.access_log.flush()

    async def _tell(self, request: Request) -> Reply:
        """The operator's listener: metrics and health."""
        if request.path == "/metrics":
            return Response(200, self._metrics.render(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        if request.path == "/healthz":
            healthy = not self._stopping.is_set() and os.access(self._config.root, os.W_OK)
            return Response(200 if healthy else 503, b'{"healthy":%s}' % (b"true" if healthy else b"false"))
        return Response(404)

    async def _collect_regularly(self) -> None:
        interval = self._config.garbage.interval_seconds
        while interval:
            await asyncio.sleep(interval)
            try:
                await self._collect()
            except (OSError, CarrackError) as error:
                log.error("collection failed: %s", error)

    async def _collect(self) -> None:
        rules = msgspec.json.encode(self._config.garbage.rules).decode()
        command = (sys.executable, "-P", "-m", "carrack.registry", "gc", "--root", self._config.root, "--rules", rules)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if process.returncode != 0:
            self._count("carrack_registry_gc_failures_total")
            log.error("collection ended with status %s", process.returncode)
            return
        report = msgspec.json.decode(output)
        self._count("carrack_registry_gc_runs_total")
        self._count("carrack_registry_gc_freed_bytes_total", report["bytes_freed"])
        self._metrics.gauges["carrack_registry_stored_bytes"] = report["bytes_kept"]
        self._metrics.gauges["carrack_registry_stored_blobs"] = report["blobs_kept"]
        log.info("collection: %s", output.decode().strip())


def _authenticator(config: RegistryConfig) -> Authenticator | None:
    if config.htpasswd:
        return HtpasswdAuthenticator(config.htpasswd, config.realm)
    if config.token is not None:
        token = config.token
        return TokenAuthenticator(TokenService(token.realm, token.service, token.issuer, tuple(token.keys)))
    return None


def _rules(config: RegistryConfig) -> WatchedFile[Rules] | None:
    return WatchedFile(config.access_rules, Rules.parse) if config.access_rules else None


def _access_log(path: str) -> AccessLog | None:
    if not path:
        return None
    if path == "-":
        return AccessLog(sys.stdout.fileno())
    try:
        return AccessLog(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise InvalidParameter(f"access log {path}: {error.strerror}") from error


def _listen(host: str, port: int) -> socket.socket:
    """A bound, listening socket; `::` takes IPv4 as well. Raises Unavailable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise Unavailable(f"listen on {host}:{port}: {error.strerror}") from error
    return listener


def _tls_context(config: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or later. Raises InvalidParameter when the files do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, config)
    return context


def _load_certificate(context: ssl.SSLContext, config: TlsConfig) -> None:
    try:
        context.load_cert_chain(config.certificate, config.key)
        if config.client_ca:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(f"tls: {error}") from error

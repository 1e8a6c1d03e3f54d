"""One daemon's life: roots, zygote, rooms, restore, listeners; then signals; then the end, in reverse. Containers run on.

`wiring` brings in every room, half of what a start takes: it is imported while the zygote, a process of its own, does the same.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carrack import __version__
from carrack.daemon import scope, systemd
from carrack.daemon.config import DEFAULT_FILE, DaemonConfig
from carrack.daemon.instance import hold_instance
from carrack.daemon.listeners import Listener, open_listeners, open_metrics_listener
from carrack.daemon.log_lines import formatter
from carrack.daemon.reload import Reloads
from carrack.daemon.tls import load_files, server_context
from carrack.errors import SystemFailure
from carrack.http import Server, serve, tls_below
from carrack.kernel import memory
from carrack.shim import open_files
from carrack.shim.zygote_process import StartingZygote

if TYPE_CHECKING:
    from carrack.daemon.wiring import House

log = logging.getLogger("carrack.daemon")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR, "fatal": logging.CRITICAL}


_ARENAS = 2
"""Measured: after 10 000 requests of every kind the daemon has 61 MB instead of 87."""


def run(config: DaemonConfig, arguments: list[str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises the kinds of whatever cannot be opened, before anything is left behind."""
    memory.few_arenas(_ARENAS)
    _set_up_log(config)
    for name, value in config.further.proxies.items():
        os.environ[name.replace("-", "_").upper()] = value
    open_files.raise_limit()
    with hold_instance(config.instance):
        _prepare_roots(config)
        _write_pidfile(config.pidfile)
        scope.make_room()
        scope.choose_parent(config)
        if "hosts" not in config.given and systemd.has_sockets():
            config.hosts = ["fd://"]
        zygote = StartingZygote(str(config.exec_root))
        try:
            _new_loop()(_serve(config, arguments, zygote))
        finally:
            config.pidfile.unlink(missing_ok=True)


def _new_loop() -> Callable[[Awaitable[None]], None]:
    """asyncio.run on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return lambda work: asyncio.run(_await(work))
    return lambda work: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_await(work))


async def _await(work: Awaitable[None]) -> None:
    await work


def _set_up_log(config: DaemonConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(config.further.log_format))
    logging.basicConfig(level=_level(config), handlers=[handler])
    faulthandler.enable()  # where each thread was, when systemd's watchdog ends us by SIGABRT


def _level(config: DaemonConfig) -> int:
    return logging.DEBUG if config.debug else _LEVELS[config.log_level]


def _apply(house: House, tls: ssl.SSLContext | None, config: DaemonConfig) -> None:
    """Put into force what a reload may change; certificates are read again."""
    if tls is not None:
        load_files(tls, config)
    house.apply(config)
    logging.getLogger().setLevel(_level(config))


def _reload(reloads: Reloads, house: House) -> None:
    systemd.notify_reloading()
    told = reloads.reload()
    systemd.notify("READY=1")
    if told is not None:
        house.tell("reload", told)


async def _serve(config: DaemonConfig, arguments: list[str], zygote: StartingZygote) -> None:
    from carrack.daemon import wiring

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    listeners: list[Listener] = []
    house = None
    reloads: Reloads | None = None
    servers: list[Server] = []
    going_down = False
    watchdog = loop.create_task(systemd.feed_watchdog())
    try:
        tls = server_context(config)
        listeners += open_listeners(config)
        house = await wiring.build(config, zygote)
        observer = house.observe if config.further.metrics_addr else None
        for listener in listeners:
            wrap = tls_below(tls) if tls is not None and listener.is_tcp else None
            servers.append(await serve(house.api, listener.socket, observer=observer, wrap=wrap))
        if config.further.metrics_addr:
            listeners.append(open_metrics_listener(config.further.metrics_addr))
            servers.append(await serve(house.metrics_api, listeners[-1].socket))
        reloads = Reloads(arguments, config, partial(_apply, house, tls), DEFAULT_FILE)
        loop.add_signal_handler(signal.SIGHUP, partial(_reload, reloads, house))
        gc.collect()
        gc.freeze()
        gc.enable()  # see `__main__`
        log.info("carrackd %s (instance %s) listens on %s", __version__, config.instance, ", ".join(config.hosts))
        systemd.notify("READY=1", f"MAINPID={os.getpid()}", f"STATUS=Listens on {', '.join(config.hosts)}")
        await ended.wait()
        systemd.notify("STOPPING=1")
        going_down = systemd.machine_goes_down()
        if going_down:
            log.info("the machine goes down: containers are stopped")
            await house.stop_containers()
        log.info("carrackd ends%s", "" if going_down else "; containers run on")
    finally:
        watchdog.cancel()
        grace_seconds = (reloads.config if reloads is not None else config).shutdown_timeout
        await asyncio.gather(*(server.close(grace_seconds) for server in servers))
        for listener in listeners:
            listener.close()
        if house is not None:
            await house.close()
        else:
            zygote.withdraw()


def _prepare_roots(config: DaemonConfig) -> None:
    """Make data-root and exec-root with the modes that keep other users out. Raises SystemFailure in one sentence."""
    for path, mode in ((config.data_root, 0o710), (config.exec_root, 0o711), (config.exec_root / "shims", 0o700)):
        try:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
            probe = path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SystemFailure(f"cannot write to {path}: {error.strerror}") from error


def _write_pidfile(path: Path) -> None:
    """Raises SystemFailure when a living daemon's pid stands there."""
    try:
        text = path.read_text(encoding="ascii").strip()
        if text.isdecimal() and int(text) != os.getpid() and b"carrackd" in Path(f"/proc/{text}/cmdline").read_bytes():
            raise SystemFailure(f"process with PID {text} is still running: another carrackd uses {path}")
    except (OSError, UnicodeDecodeError):
        pass
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        raise SystemFailure(f"cannot write {path}: {error.strerror}") from error

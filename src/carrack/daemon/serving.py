"""A daemon that serves: rooms, restore, listeners; then signals; then the end, in reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

from carrack import __version__
from carrack.daemon import systemd, wiring
from carrack.daemon.config import DEFAULT_FILE, DaemonConfig
from carrack.daemon.listeners import Listener, open_listeners, open_metrics_listener, open_reading_listener
from carrack.daemon.log_lines import level_of
from carrack.daemon.reload import Reloads
from carrack.daemon.tls import load_files, server_context
from carrack.daemon.wiring import House
from carrack.http import Server, serve, tls_below
from carrack.shim.zygote_process import StartingZygote

log = logging.getLogger("carrack.daemon")
_SETTLING_SECONDS = 1.0


def serve_until_told(config: DaemonConfig, arguments: list[str], zygote: StartingZygote) -> None:
    """Serve until SIGTERM or SIGINT. Raises the kinds of whatever cannot be opened; a zygote made for nothing is sent away."""
    _new_loop()(_serve(config, arguments, zygote))


def _new_loop() -> Callable[[Awaitable[None]], None]:
    """asyncio.run on uvloop where it is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return lambda work: asyncio.run(_await(work))
    return lambda work: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_await(work))


async def _await(work: Awaitable[None]) -> None:
    await work


async def _serve(config: DaemonConfig, arguments: list[str], zygote: StartingZygote) -> None:
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
        if config.further.read_only_socket:
            listeners.append(open_reading_listener(config))
            servers.append(await serve(house.reading_api, listeners[-1].socket, observer=observer))
        if config.further.metrics_addr:
            listeners.append(open_metrics_listener(config.further.metrics_addr))
            servers.append(await serve(house.metrics_api, listeners[-1].socket))
        reloads = Reloads(arguments, config, partial(_apply, house, tls), DEFAULT_FILE)
        loop.add_signal_handler(signal.SIGHUP, partial(_reload, reloads, house))
        loop.call_later(_SETTLING_SECONDS, _settle)
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


def _settle() -> None:
    """What was loaded stays: from now on garbage is looked for only in what comes later (`__main__` has turned that off)."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _apply(house: House, tls: ssl.SSLContext | None, config: DaemonConfig) -> None:
    """Put into force what a reload may change; certificates are read again."""
    if tls is not None:
        load_files(tls, config)
    house.apply(config)
    logging.getLogger().setLevel(level_of(config.log_level, debug=config.debug))


def _reload(reloads: Reloads, house: House) -> None:
    systemd.notify_reloading()
    told = reloads.reload()
    systemd.notify("READY=1")
    if told is not None:
        house.tell("reload", told)

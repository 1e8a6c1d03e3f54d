"""One daemon's life: log, lock, roots, zygote; then what serves (`serving.py`); then the end. Containers run on.

The zygote takes as long to come up as the daemon's own modules: so it is on its way before they are imported, `serving` and asyncio
among them, and they are imported while that process, too, imports its own.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from pathlib import Path

from carrack.daemon import scope, systemd
from carrack.daemon.config import DaemonConfig
from carrack.daemon.instance import hold_instance
from carrack.daemon.log_lines import formatter, level_of
from carrack.errors import SystemFailure
from carrack.kernel import memory
from carrack.kernel import process as kernel_process
from carrack.shim import open_files
from carrack.shim.zygote_process import StartingZygote

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
            from carrack.daemon.serving import serve_until_told

            serve_until_told(config, arguments, zygote)
        finally:
            config.pidfile.unlink(missing_ok=True)


def _set_up_log(config: DaemonConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(config.further.log_format))
    logging.basicConfig(level=level_of(config.log_level, debug=config.debug), handlers=[handler])
    faulthandler.enable()  # where each thread was, when systemd's watchdog ends us by SIGABRT
    kernel_process.set_dumpable(False)  # a core file would hold registries' passwords and builds' secrets, and lie in /


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

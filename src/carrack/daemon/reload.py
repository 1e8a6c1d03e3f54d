"""SIGHUP: read the configuration again and change what can be changed while everything runs.

A configuration that is wrong or contradicts a flag changes nothing. A directive that needs a restart is named in the log, and stays
what it was: `docker info` never shows what is not so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from carrack.daemon.config import DaemonConfig, load
from carrack.daemon.directives import RELOADABLE
from carrack.errors import CarrackError

log = logging.getLogger("carrack.daemon")

Apply = Callable[[DaemonConfig], None]
"""Makes what is reloadable of a new configuration so. Raises InvalidParameter before anything has changed."""


class Reloads:
    """The configuration as it is now, and how a new one comes into force."""

    def __init__(self, arguments: list[str], config: DaemonConfig, apply: Apply, default_file: str) -> None:
        self._arguments = arguments
        self.config = config
        """What is in force, as far as it can change."""
        self._apply = apply
        self._default_file = default_file

    def reload(self) -> dict[str, str] | None:
        """Read again; gives the attributes of Docker's `reload` event, or None when nothing was changed because it is wrong."""
        try:
            wanted = load(self._arguments, default_file=self._default_file)
            changed = {name for name in wanted.given | self.config.given if self._differs(name, wanted)}
            fixed = sorted(changed - RELOADABLE)
            if fixed:
                log.warning("needs a restart to change, and stays as it is: %s", ", ".join(fixed))
            self._apply(wanted)
        except CarrackError as error:
            log.error("the configuration is not changed: %s", error.message)
            return None
        for name in fixed:  # what is compared next time is what is in force
            if name in self.config.given:
                wanted.given[name] = self.config.given[name]
            else:
                wanted.given.pop(name, None)
        self.config = wanted
        log.info("the configuration was read again; changed: %s", ", ".join(sorted(changed & RELOADABLE)) or "nothing")
        return attributes(wanted)

    def _differs(self, name: str, wanted: DaemonConfig) -> bool:
        return wanted.given.get(name) != self.config.given.get(name)


def attributes(config: DaemonConfig) -> dict[str, str]:
    """What Docker's `reload` event carries: the reloadable directives, each as text."""
    return {
        "debug": str(config.debug).lower(),
        "default-runtime": config.default_runtime or "carrack",
        "insecure-registries": json.dumps(config.insecure_registries),
        "labels": json.dumps(config.labels),
        "live-restore": "true",
        "max-concurrent-downloads": str(config.further.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.further.max_concurrent_uploads),
        "max-download-attempts": str(config.further.max_download_attempts),
        "registry-mirrors": json.dumps(config.registry_mirrors),
        "runtimes": " ".join(f"{name}:{program.path}" for name, program in sorted(config.runtimes.items())),
        "shutdown-timeout": str(config.shutdown_timeout),
    }

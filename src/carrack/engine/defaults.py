"""What the daemon's configuration gives a container that says nothing of it: dockerd's `default-*`, `init`, `no-new-privileges`."""

from __future__ import annotations

from dataclasses import dataclass

from carrack.engine.config import HostConfig, Ulimit


@dataclass(frozen=True, slots=True)
class ContainerDefaults:
    """Written into a container's record when it is made; a container that is there keeps what it has."""

    cgroupns_mode: str = ""
    ipc_mode: str = ""
    shm_bytes: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    init: bool = False
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    """``unconfined``, or the text of a profile."""

    def apply(self, host: HostConfig) -> None:
        """Fill in what a request left open."""
        if not host.cgroupns_mode and not host.privileged:
            host.cgroupns_mode = self.cgroupns_mode
        host.ipc_mode = host.ipc_mode or self.ipc_mode
        if not host.shm_size and not host.ipc_mode.startswith("container:"):
            host.shm_size = self.shm_bytes
        asked = {ulimit.name for ulimit in host.ulimits or ()}
        if missing := [ulimit for ulimit in self.ulimits if ulimit.name not in asked]:
            host.ulimits = [*(host.ulimits or ()), *missing]
        if host.init is None and self.init:
            host.init = True
        self._secure(host)

    def _secure(self, host: HostConfig) -> None:
        options = list(host.security_opt or ())
        names = {option.partition("=")[0].partition(":")[0] for option in options}
        if self.no_new_privileges and "no-new-privileges" not in names:
            options.append("no-new-privileges")
        if self.seccomp_profile and "seccomp" not in names and not host.privileged:
            options.append(f"seccomp={self.seccomp_profile}")
        if options:
            host.security_opt = options

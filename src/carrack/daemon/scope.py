"""Where the processes that outlive carrackd live, and their containers: a scope of systemd's, delegated to us, outside the service.

    /sys/fs/cgroup/system.slice/carrack.scope/supervisor     zygote, shims, names
                                              containers/ID  one per container (cgroup v2)

So `systemctl restart carrackd`, an upgrade or a crash reaches none of them. On a machine of cgroup v1 the containers stay below
/carrack in each hierarchy, as without systemd, and the scope holds our processes alone. Inside a container (no systemd, and a
cgroup namespace whose root has processes) the processes are moved one level down, or no controller could be handed on.
"""

from __future__ import annotations

import logging
import os
import time

from carrack.daemon import systemd
from carrack.daemon.config import DaemonConfig
from carrack.daemon.systemd_bus import SystemdBus
from carrack.errors import Conflict, SystemFailure
from carrack.kernel import lineage
from carrack.runtime import cgroups

log = logging.getLogger("carrack.daemon")

_LEAF = "supervisor"
_CONTAINERS = "containers"
_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_INNER = "init"


def choose_parent(config: DaemonConfig) -> None:
    """Let containers live in the scope, unless the configuration says where; before anything asks."""
    if "cgroup-parent" not in config.given and systemd.is_running() and cgroups.detect().version == 2:
        config.cgroup_parent = f"/system.slice/{_name(config.instance)}/{_CONTAINERS}"


def make_room() -> None:
    """In a cgroup namespace of version 2 whose root holds processes: move them to a leaf, as the kernel asks. Blocking."""
    layout = cgroups.detect()
    root = layout.unified
    if layout.version != 2 or not os.path.exists(f"{root}/cgroup.type"):  # the real root has no such file, and no such rule
        return
    inner = f"{root}/{_INNER}"
    try:
        os.makedirs(inner, exist_ok=True)
        for pid in _read(f"{root}/cgroup.procs").split():
            _write(f"{inner}/cgroup.procs", pid)
    except OSError as error:
        log.warning("limits of containers may not work here: cannot move processes below %s: %s", root, error.strerror)


def adopt(zygote_pid: int, config: DaemonConfig) -> None:
    """Have the zygote, and so all it forks, in the scope. Blocking. Without systemd nothing happens."""
    if not systemd.is_running():
        return
    name = _name(config.instance)
    try:
        scope = _scope_of(zygote_pid, name) or _join(zygote_pid, name)
        leaf = os.path.join(scope, _LEAF)
        os.makedirs(leaf, exist_ok=True)
        lineage.settle(leaf)
        lineage.send_home(zygote_pid)
    except (OSError, SystemFailure) as error:
        log.warning("containers share the service's life: no scope of their own could be had: %s", error)


def _join(pid: int, name: str) -> str:
    """The directory of the scope, once the process is in it."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            with SystemdBus() as bus:
                bus.start_scope(name, pid, "Containers of Carrack, and their supervisors", before="carrackd.service")
        except Conflict:
            # it lives on, with the shims of an earlier zygote; or it is just going away
            leaf = f"{_unified()}/system.slice/{name}/{_LEAF}"
            if os.path.isdir(leaf):
                _write(f"{leaf}/cgroup.procs", str(pid))
        while time.monotonic() < deadline:
            found = _scope_of(pid, name)
            if found:
                return found
            time.sleep(_PAUSE_SECONDS)
            if not os.path.isdir(f"{_unified()}/system.slice/{name}"):
                break
        if time.monotonic() >= deadline:
            raise SystemFailure(f"systemd did not put process {pid} into {name}")


def _scope_of(pid: int, name: str) -> str:
    """The directory of that scope if the process is in it, else empty."""
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if (hierarchy == "0" or controllers == "name=systemd") and f"/{name}" in path:
            return _unified() + path[: path.index(f"/{name}") + len(name) + 1]
    return ""


def _unified() -> str:
    """Where systemd's own hierarchy is mounted."""
    return "/sys/fs/cgroup" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "/sys/fs/cgroup/systemd"


def _name(instance: str) -> str:
    return "carrack.scope" if instance == "carrack" else f"carrack-{instance}.scope"


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        try:
            file.write(text)
            file.flush()
        except ProcessLookupError:
            pass  # it has ended meanwhile

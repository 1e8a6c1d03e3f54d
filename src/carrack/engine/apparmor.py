"""AppArmor for containers: the default profile, loaded once per host, and which profile a container's processes run in.

Only where the kernel has AppArmor on. The profile takes from a container what no default container needs, so that a path that was
unmasked, or a capability that was added, is not yet the host: mounting, and writing to the parts of /proc and /sys that are the
host's. Docker's own is called docker-default; who asks for that gets it where dockerd has loaded it, else ours.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from carrack.engine.config import HostConfig
from carrack.engine.specification import security

DEFAULT = "carrack-default"
_DOCKERS = "docker-default"
_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_LOADED = Path("/sys/kernel/security/apparmor/profiles")
_PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser")
_LOAD_SECONDS = 60

PROFILE = """
#include <tunables/global>
profile carrack-default flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>
  file,
  network,
  capability,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=carrack-default,
  ptrace (read, trace, readby, tracedby) peer=carrack-default,

  deny mount,
  deny @{PROC}/[a-zA-Z]* w,
  deny @{PROC}/{acpi,asound,bus,driver,dynamic_debug,fs,irq,mpt,pressure,scsi,sysvipc,tty}/** w,
  deny @{PROC}/sys/[abcdefgnsuv]*/** w,
  deny @{PROC}/sys/kernel/[^s]** w,
  deny @{PROC}/sys/kernel/s[^h]** w,
  deny @{PROC}/kcore rwkl,
  deny @{PROC}/sysrq-trigger rwkl,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wkl,
  deny /sys/fs/[^c]** wkl,
  deny /sys/firmware/** r,
  deny /sys/kernel/security/** r,
}
"""


def enabled() -> bool:
    """Whether the kernel confines by AppArmor."""
    return _read(_ENABLED).startswith("Y")


def install() -> str:
    """Load the default profile if the kernel has AppArmor; the name of it, empty when containers go without. Blocking."""
    if not enabled():
        return ""
    if _is_loaded(DEFAULT):
        return DEFAULT
    parser = next((path for path in _PARSERS if Path(path).exists()), "")
    if not parser:
        return ""
    try:
        loaded = subprocess.run(
            [parser, "--replace", "--skip-cache", "--quiet"],
            input=PROFILE,
            text=True,
            capture_output=True,
            check=False,
            timeout=_LOAD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return DEFAULT if loaded.returncode == 0 else ""


def profile_for(host: HostConfig, default: str) -> str:
    """The profile of a container's processes; empty: none, ``unconfined`` where that was asked or follows from --privileged."""
    if not enabled():
        return ""
    asked = security(host.security_opt).apparmor
    if asked == _DOCKERS and not _is_loaded(_DOCKERS):
        asked = default
    if asked:
        return asked
    return "unconfined" if host.privileged else default


def warnings_for(host: HostConfig) -> list[str]:
    """What to say of a profile that this host cannot put in force."""
    asked = security(host.security_opt).apparmor
    if asked in ("", "unconfined") or enabled():
        return []
    return [f"AppArmor is not enabled on this host: the profile {asked} is not applied."]


def _is_loaded(name: str) -> bool:
    return any(line.startswith(f"{name} (") for line in _read(_LOADED).splitlines())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

"""AppArmor for containers: the default profile, loaded once per host, and which profile a container's processes run in.

Only where the kernel has AppArmor on. The profile takes from a container what no default container needs, so that a path that was
unmasked, or a capability that was added, is not yet the host: mounting, and writing to the parts of /proc and /sys that are the
host's. Docker's own is called docker-default; who asks for that gets it where dockerd has loaded it, else ours.
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

from carrack.engine.config import HostConfig
from carrack.engine.specification import security

log = logging.getLogger("carrack.apparmor")

DEFAULT = "carrack-default"
_DOCKERS = "docker-default"
_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_LOADED = Path("/sys/kernel/security/apparmor/profiles")
_PARSERS = ("/usr/sbin/apparmor_parser", "/sbin/apparmor_parser")
_LOAD_SECONDS = 60

_FOLDER = Path("/etc/apparmor.d")
_STAMP = Path("/run/carrack/apparmor")
"""Says which text of the profile the kernel has, whichever daemon of the machine loaded it; both go with the machine's restart."""

_RULES = """
profile carrack-default flags=(attach_disconnected,mediate_deleted) {
  %s
  file,
  network,
  capability,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=carrack-default,
  ptrace (read, trace, readby, tracedby) peer=carrack-default,

  # what reaches the kernel's cryptography (CVE-2026-31431) and the hypervisor, by socketcall(2) too, where seccomp cannot look
  deny network alg,
  deny network vsock,

  deny mount,
  deny @{PROC}/[a-zA-Z]* w,
  deny @{PROC}/{acpi,asound,bus,driver,dynamic_debug,fs,irq,mpt,pressure,scsi,sysvipc,tty}/** w,
  deny @{PROC}/sys/[abcdefgnsuv]*/** w,
  deny @{PROC}/sys/kernel/[^s]** w,
  deny @{PROC}/sys/kernel/s[^h]** w,
  deny @{PROC}/kcore rwklx,
  deny @{PROC}/sysrq-trigger rwklx,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,kernel,module,power}/** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/firmware/** r,
  deny /sys/devices/virtual/powercap/** r,
  deny /sys/kernel/security/** r,
}
"""


def profile(folder: Path = _FOLDER) -> str:
    """The default profile, for the AppArmor that is installed: with the parts of its own that are there.

    The rules are those of version 3: since version 4 `network` no longer means sockets of this machine, which containers need.
    """
    lines = ["abi <abi/3.0>,"] if (folder / "abi/3.0").exists() else []
    lines += ["#include <tunables/global>" if (folder / "tunables/global").exists() else "@{PROC}=/proc/"]
    base = "#include <abstractions/base>" if (folder / "abstractions/base").exists() else ""
    return "\n".join(lines) + _RULES % base


def enabled() -> bool:
    """Whether the kernel confines by AppArmor."""
    return _read(_ENABLED).startswith("Y")


def install() -> str:
    """Load the default profile if the kernel has AppArmor; the name of it, empty when containers go without. Blocking."""
    if not enabled():
        return ""
    text = profile()
    if _is_loaded(DEFAULT) and _read(_STAMP) == text:
        return DEFAULT
    parser = next((path for path in _PARSERS if Path(path).exists()), "")
    reason = _load(parser, text) if parser else "there is no apparmor_parser"
    if not reason:
        return DEFAULT
    if _is_loaded(DEFAULT):
        log.warning("AppArmor's default profile stays as an earlier Carrack loaded it: %s", reason)
        return DEFAULT
    log.warning("containers are not confined by AppArmor: %s", reason)
    return ""


def _load(parser: str, text: str) -> str:
    """Put the profile into the kernel; why not, or nothing."""
    try:
        loaded = subprocess.run(
            [parser, "--replace", "--skip-cache", "--quiet"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
            timeout=_LOAD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if loaded.returncode:
        return f"apparmor_parser: {loaded.stderr.strip()}"
    _STAMP.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    _STAMP.write_text(text, encoding="utf-8")
    return ""


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

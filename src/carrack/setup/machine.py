"""The machine an installation meets: its packages, its groups, its service manager, and whether it will do at all."""

from __future__ import annotations

import grp
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from carrack.errors import SystemFailure

PACKAGES: dict[str, Callable[[], bool]] = {
    "python3-venv": lambda: _has_module("ensurepip"),
    "libseccomp2": lambda: _has_library("libseccomp.so.2"),
    "libnftables1": lambda: _has_library("libnftables.so.1"),
}
"""Debian's packages, and how it shows that they are there already."""
OLDEST_KERNEL = (5, 12)
OLDEST_PYTHON = (3, 11)


def check(*, root: bool = True) -> None:
    """Raises SystemFailure with one sentence for a machine, or a user, that cannot install."""
    if platform.system() != "Linux":
        raise SystemFailure("the daemon runs on Linux only; the client alone comes with `pip install carrack`")
    if sys.version_info < OLDEST_PYTHON:
        raise SystemFailure(f"Carrack needs Python 3.11 or later, this is {platform.python_version()}")
    words = platform.release().split(".")
    kernel = tuple(int("".join(filter(str.isdigit, word)) or 0) for word in words[:2])
    if kernel < OLDEST_KERNEL:
        raise SystemFailure(f"Carrack needs Linux 5.12 or later, this is {platform.release()}: take a newer kernel")
    if root and os.geteuid() != 0:
        raise SystemFailure("installing needs root: run it with sudo")


def missing_packages() -> list[str]:
    return [name for name, is_there in PACKAGES.items() if not is_there()]


def install_packages(names: list[str]) -> None:
    """Debian's way. Raises SystemFailure that names them where there is no apt, or it fails."""
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise SystemFailure(
            f"missing: {', '.join(names)} (as Debian calls them): install what your system has for them, then again"
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "-y", "--no-install-recommends", *names]
    done = subprocess.run(install, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:  # the lists may be old, or empty
        subprocess.run([*apt, "update"], stdin=subprocess.DEVNULL, capture_output=True, env=env, check=False)
        done = subprocess.run(install, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
        raise SystemFailure(f"cannot install {', '.join(names)}: {last}")


def has_systemd() -> bool:
    return os.path.isdir("/run/systemd/system") and shutil.which("systemctl") is not None


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def has_group(name: str) -> bool:
    """Whether the machine knows a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _has_module(name: str) -> bool:
    return subprocess.run(["/usr/bin/python3", "-ISc", f"import {name}"], capture_output=True, check=False).returncode == 0


def _has_library(name: str) -> bool:
    folders = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", f"/usr/lib/{platform.machine()}-linux-gnu")
    return any(Path(folder, name).exists() for folder in folders)

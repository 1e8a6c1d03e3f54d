"""A Debian 12 root file system as a tar, made by debootstrap from whatever archive this machine installs from.

Made once per machine and kept below /var/cache/carrack-tests; tests that need a real distribution import it as an image.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.rig.once import made_once

_SUITE = "bookworm"
_VERSION = 1
_KEPT_OUT = ("./proc/*", "./sys/*", "./dev/*", "./var/cache/apt/archives/*.deb")


@cache
def debian_root() -> Path:
    """The tar of a minimal Debian with apt configured as this machine's is. Half a minute the first time."""
    return made_once(f"{_SUITE}-{_VERSION}.tar", _make)


def archive_url() -> str:
    """Where this machine gets Debian's packages from."""
    for path in sorted(Path("/etc/apt").glob("sources.list.d/*.sources")):
        for line in path.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt").glob("sources.list.d/*.list"))):
        for line in path.read_text().splitlines() if path.exists() else ():
            words = [word for word in line.split() if not word.startswith("[") and not word.endswith("]")]
            if words[:1] == ["deb"]:
                return words[1]
    return "http://deb.debian.org/debian"


def _make(made: Path) -> None:
    root = made.with_name(f"making-{os.getpid()}")
    try:
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", _SUITE, str(root), archive_url()]
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        # A snapshot mirror's lists are older than apt believes in.
        (root / "etc/apt/apt.conf.d/99tests").write_text('Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n')
        half = made.with_suffix(f".{os.getpid()}")
        excluded = [f"--exclude={pattern}" for pattern in _KEPT_OUT]
        subprocess.run(["tar", "-C", str(root), *excluded, "--numeric-owner", "-cf", str(half), "."], check=True, timeout=300)
        half.rename(made)
    finally:
        shutil.rmtree(root, ignore_errors=True)

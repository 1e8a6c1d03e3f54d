"""Programs that Debian 12 has not: those of a later Debian, with the libraries they want, unpacked into a folder of their own.

Made once per machine from whatever archive it installs from, and kept below /var/cache/carrack-tests.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.rig.debian import archive_url
from tests.rig.once import made_once

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpacked(name: str, suite: str, *packages: str, finish: Callable[[Path, Path], None] | None = None) -> Path:
    """Where the packages are unpacked, with all that they depend on; the folder stays at this place. Some seconds the first time.

    `finish` is called with the folder while it is made, and with the place where it will be.
    """
    return made_once(name, lambda folder: _make(folder, suite, packages, finish))


def _make(folder: Path, suite: str, packages: tuple[str, ...], finish: Callable[[Path, Path], None] | None) -> None:
    """By apt with settings, lists and a status of its own: nothing of this machine's is read or changed but its keyring."""
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    apt = making / "apt"
    try:
        for name in ("lists/partial", "archives/partial"):
            (apt / name).mkdir(parents=True)
        (apt / "status").touch()
        (apt / "sources.list").write_text(f"deb [signed-by={_KEYRING} check-valid-until=no] {archive_url()} {suite} main\n")
        settings = {
            "Dir::Etc::SourceList": apt / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": apt / "lists",
            "Dir::State::status": apt / "status",
            "Dir::Cache": apt,
            "APT::Sandbox::User": "root",
            "APT::Keep-Downloaded-Packages": "true",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Check-Date": "false",
            "Acquire::Retries": "3",
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        for words in (["update"], ["install", "-y", "--no-install-recommends", "--download-only", *packages]):
            done = subprocess.run(["apt-get", *options, *words], capture_output=True, check=False, text=True, timeout=300)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        archives = sorted((apt / "archives").glob("*.deb"))
        for wanted in packages:
            assert any(archive.name.startswith(f"{wanted}_") for archive in archives), archives
        for archive in archives:
            subprocess.run(["dpkg-deb", "-x", str(archive), str(making)], check=True, timeout=60)
        shutil.rmtree(apt)
        if finish is not None:
            finish(making, folder)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)

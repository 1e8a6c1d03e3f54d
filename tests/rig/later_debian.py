"""Programs that Debian 12 has not, from a later release: their packages unpacked into a folder of their own, nothing installed.

By apt with settings, lists and a status of its own: of this machine's only the keyring and the archive's address are used.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.rig.debian import archive_url

SUITE = "forky"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpack_packages(folder: Path, *packages: str, with_libraries: bool, finish: Callable[[Path], None] | None = None) -> None:
    """Make `folder` of the packages (and all they depend on), whole or not at all; `finish` is given it before it has its name."""
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    apt = making / "apt"
    try:
        for package in _downloaded(apt, packages, with_libraries=with_libraries):
            subprocess.run(["dpkg-deb", "-x", str(package), str(making)], check=True, timeout=60)
        shutil.rmtree(apt)
        if finish is not None:
            finish(making)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _downloaded(apt: Path, packages: tuple[str, ...], *, with_libraries: bool) -> list[Path]:
    archives = apt / "archives"
    for path in (apt / "lists/partial", archives / "partial"):
        path.mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={_KEYRING} check-valid-until=no] {archive_url()} {SUITE} main\n")
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
    fetch = ["install", "-y", "--no-install-recommends", "--download-only"] if with_libraries else ["download"]
    for words in (["update"], [*fetch, *packages]):
        done = subprocess.run(["apt-get", *options, *words], cwd=archives, capture_output=True, check=False, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = sorted(archives.glob("*.deb"))
    assert all(any(path.name.startswith(f"{package}_") for path in found) for package in packages), found
    return found

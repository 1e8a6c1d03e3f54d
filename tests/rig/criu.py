"""CRIU, which Debian 12 has not: that of Debian 14 with the libraries it wants, unpacked into a folder of its own. (Debian 13 has
4.1.1, which knows no kernel after 6.15: it cannot write out a TCP socket there.)

Made once per machine from whatever archive it installs from, and kept below /var/cache/carrack-tests. A daemon finds it by PATH.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.rig.debian import archive_url
from tests.rig.once import made_once

_SUITE = "forky"
_VERSION = 1
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_WRAPPER = """#!/bin/sh
exec {folder}/usr/lib64/ld-linux-x86-64.so.2 --library-path {folder}/usr/lib/x86_64-linux-gnu {folder}/usr/sbin/criu "$@"
"""


def criu_path() -> str:
    """A PATH with criu in front."""
    return f"{criu_folder()}/bin:{os.environ['PATH']}"


@cache
def criu_folder() -> Path:
    """Where criu is unpacked; it works at this place only. Some seconds the first time."""
    return made_once(f"criu-{_SUITE}-{_VERSION}", _make)


def _make(folder: Path) -> None:
    """By apt with settings, lists and a status of its own: nothing of this machine's is read or changed but its keyring."""
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    apt = making / "apt"
    try:
        for name in ("lists/partial", "archives/partial"):
            (apt / name).mkdir(parents=True)
        (apt / "status").touch()
        (apt / "sources.list").write_text(f"deb [signed-by={_KEYRING} check-valid-until=no] {archive_url()} {_SUITE} main\n")
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
        for words in (["update"], ["install", "-y", "--no-install-recommends", "--download-only", "criu"]):
            done = subprocess.run(["apt-get", *options, *words], capture_output=True, check=False, text=True, timeout=300)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        packages = sorted((apt / "archives").glob("*.deb"))
        assert any(package.name.startswith("criu_") for package in packages), packages
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", str(package), str(making)], check=True, timeout=60)
        shutil.rmtree(apt)
        wrapper = making / "bin/criu"
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(_WRAPPER.format(folder=folder))
        wrapper.chmod(0o755)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)

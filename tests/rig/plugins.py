"""Plugins of the docker command line that Debian 12 has not: Compose v2 and buildx, those of Debian 14. They want nothing but libc.

Unpacked once per machine below /var/cache/carrack-tests. `install_plugins` puts them where one configuration folder finds them, so
that every `docker compose` of a test is the one of the test.
"""

from functools import cache
from pathlib import Path

from tests.rig.later_debian import SUITE, unpack_packages
from tests.rig.once import made_once

_VERSION = 1
_PACKAGES = ("docker-compose", "docker-buildx")
_FOLDER = "usr/libexec/docker/cli-plugins"


@cache
def plugin_folder() -> Path:
    """The folder of `docker-compose` and `docker-buildx`. Some seconds the first time."""
    return made_once(f"docker-plugins-{SUITE}-{_VERSION}", _make) / _FOLDER


def install_plugins(docker_config: Path, *names: str) -> None:
    """Make `docker NAME` the plugin, for clients whose DOCKER_CONFIG is that folder."""
    folder = docker_config / "cli-plugins"
    folder.mkdir(exist_ok=True)
    for name in names:
        link = folder / f"docker-{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(plugin_folder() / link.name)


def remove_plugins(docker_config: Path, *names: str) -> None:
    """Have `docker NAME` be no plugin any more: with buildx, `docker build` is another command."""
    for name in names:
        (docker_config / "cli-plugins" / f"docker-{name}").unlink(missing_ok=True)


def _make(folder: Path) -> None:
    unpack_packages(folder, *_PACKAGES, with_libraries=False)

"""buildx and Compose 2 as plugins of the docker command line, from Debian 14: Debian 12 has neither."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.rig.engine import Engine
from tests.rig.later_debian import unpacked

_PLUGINS = ("docker-buildx", "docker-compose")


@cache
def plugins_folder() -> Path:
    """Where the plugins are. Some seconds the first time."""
    return unpacked("docker-plugins-forky-1", "forky", *_PLUGINS) / "usr/libexec/docker/cli-plugins"


@contextmanager
def plugged_in(engine: Engine) -> Iterator[None]:
    """Have the engine's users find them."""
    folder = engine.folder / "home/cli-plugins"
    folder.mkdir()
    try:
        for name in _PLUGINS:
            (folder / name).symlink_to(plugins_folder() / name)
        yield
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

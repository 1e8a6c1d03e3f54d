"""Docker's CLI plugins (`docker-compose`, `docker-buildx`): found in the plugin folders and run with our environment.

A plugin is a program `docker-NAME` that answers `docker-cli-plugin-metadata` with JSON. `carrack compose …` becomes the plugin
with the same arguments; it finds the daemon by DOCKER_HOST, which is set for it from the chosen endpoint.
"""

from __future__ import annotations

import os

from carrack.cli.failure import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.session import Session

SYSTEM_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def _folders(session: Session) -> list[str]:
    extra = session.config.document.get("cliPluginsExtraDirs")
    chosen = [folder for folder in extra if isinstance(folder, str)] if isinstance(extra, list) else []
    return [*chosen, os.path.join(session.config.directory, "cli-plugins"), *SYSTEM_FOLDERS]


def find_plugin(session: Session, name: str) -> str:
    """The plugin's path, or an empty text. `compose` may also be a `docker-compose` on PATH."""
    if not name.replace("-", "").replace("_", "").isalnum():
        return ""
    for folder in _folders(session):
        path = os.path.join(folder, f"docker-{name}")
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    if name == "compose":
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            path = os.path.join(folder, "docker-compose")
            if folder and os.access(path, os.X_OK):
                return path
    return ""


def run_plugin(session: Session, words: list[str]) -> None:
    """Becomes the plugin named by the first word; returns only when there is none of that name."""
    path = find_plugin(session, words[0])
    if not path:
        return
    environment = dict(os.environ)
    environment["DOCKER_HOST"] = session.endpoint().text
    environment["DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"] = PROGRAM
    arguments = words if os.path.dirname(path) in _folders(session) else words[1:]
    session.out.flush()
    os.execve(path, [path, *arguments], environment)


def list_plugins(session: Session) -> list[dict[str, Any]]:
    """The plugins there are, each as it describes itself, for `info`."""
    found: dict[str, dict[str, Any]] = {}
    for folder in _folders(session):
        for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            name = entry.removeprefix("docker-")
            path = os.path.join(folder, entry)
            if name == entry or name in found or not os.access(path, os.X_OK):
                continue
            facts = _described(path)
            if facts is not None:
                fields = ("SchemaVersion", "Vendor", "Version", "ShortDescription")
                found[name] = {**{field: facts.get(field, "") for field in fields}, "Name": name, "Path": path}
    return list(found.values())


def _described(path: str) -> Any:
    """What a plugin says of itself; None when it says nothing that can be understood."""
    import subprocess  # 14 ms: for those who have plugins

    from carrack.client.codec import decode

    try:
        return decode(subprocess.run([path, "docker-cli-plugin-metadata"], capture_output=True, timeout=10, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None

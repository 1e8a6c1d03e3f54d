"""The query of POST /build, from the flags of `carrack build`."""

from __future__ import annotations

import os

from carrack.cli.images.build_options import read_caches, read_resources
from carrack.client.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_NUMBERS = {
    "memory": "memory",
    "memory-swap": "memswap",
    "shm-size": "shmsize",
    "cpu-shares": "cpushares",
    "cpu-period": "cpuperiod",
    "cpu-quota": "cpuquota",
}
_TEXTS = {"cpuset-cpus": "cpusetcpus", "cpuset-mems": "cpusetmems", "cgroup-parent": "cgroupparent", "target": "target"}
_SWITCHES = {"no-cache": "nocache", "force-rm": "forcerm", "pull": "pull", "squash": "squash", "quiet": "q"}


def build_query(session: Session, parsed: Parsed, dockerfile: str) -> dict[str, str | list[str]]:
    """The query of POST /build."""
    query: dict[str, str | list[str]] = {"version": "1"}
    for flag, name in _NUMBERS.items():
        if parsed.number(flag):
            query[name] = str(parsed.number(flag))
    query |= read_resources(parsed.items("resource"))
    for flag, name in _TEXTS.items():
        if parsed.text(flag):
            query[name] = parsed.text(flag)
    for flag, name in _SWITCHES.items():
        if parsed.flag(flag):
            query[name] = "1"
    if not parsed.flag("rm"):
        query["rm"] = "0"
    if parsed.text("isolation").lower() not in ("", "default"):
        query["isolation"] = parsed.text("isolation")
    if parsed.text("network") not in ("", "default"):
        query["networkmode"] = parsed.text("network")
    for flag, name in (("tag", "t"), ("security-opt", "securityopt"), ("add-host", "extrahosts")):
        if parsed.items(flag):
            query[name] = parsed.items(flag)
    if dockerfile:
        query["dockerfile"] = dockerfile
    documents: dict[str, Any] = {
        "ulimits": list(parsed.value("ulimit")),
        "buildargs": _build_arguments(session, parsed),
        "labels": {key: value for key, _, value in [text.partition("=") for text in parsed.items("label")]},
        "cachefrom": [each["Attributes"].get("ref", "") for each in read_caches(parsed.items("cache-from"))],
    }
    for name, value in documents.items():
        if value:
            query[name] = encode(value, escape_html=True, sort=True)
    platforms = parsed.items("platform") or [os.environ.get("DOCKER_DEFAULT_PLATFORM", "")]
    if any(platforms):
        query["platform"] = ",".join(_platform(each) for text in platforms for each in text.split(",")).lower()
    return query


def _platform(text: str) -> str:
    """``local`` is the platform of who asks."""
    if text != "local":
        return text
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386"}


def _build_arguments(session: Session, parsed: Parsed) -> dict[str, str | None]:
    from carrack.cli.containers.create import configured_proxies

    arguments: dict[str, str | None] = {}
    for text in parsed.items("build-arg"):
        name, equals, value = text.partition("=")
        arguments[name] = value if equals else None
    for name, value in configured_proxies(session).items():
        arguments.setdefault(name, value)
    return arguments

"""`carrack version`."""

from __future__ import annotations

import sys

from carrack import __version__
from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.inspection import wrap
from carrack.cli.render.table import align
from carrack.client.engine import NEWEST_VERSION
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


def client_version(session: Session, *, negotiated: bool) -> dict[str, Any]:
    """What this program says of itself. `negotiated` adds the API version agreed with the daemon."""
    import os

    machine = os.uname().machine
    facts: dict[str, Any] = {
        "Version": __version__,
        "DefaultAPIVersion": NEWEST_VERSION,
        "PythonVersion": sys.version.partition(" ")[0],
        "Os": sys.platform,
        "Arch": _MACHINES.get(machine, machine),
        "Context": session.context_name(),
    }
    if negotiated:
        try:
            facts["ApiVersion"] = session.engine.version
        except CarrackError:
            facts["ApiVersion"] = NEWEST_VERSION
    return facts


def _server_version(session: Session) -> dict[str, Any]:
    server: dict[str, Any] = session.engine.json("GET", "/version")
    components = server.setdefault("Components", []) or []
    engine = [component for component in components if component.get("Name") == "Engine"]
    for component in engine:
        details = component.get("Details") or {}
        if details.get("BuildTime"):
            details["BuildTime"] = ansi_date(details["BuildTime"])
    if not engine:
        fields = ("ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "BuildTime")
        details = {field: str(server.get(field) or "") for field in fields}
        details["BuildTime"] = ansi_date(details["BuildTime"])
        details["Experimental"] = "true" if server.get("Experimental") else "false"
        components.append({"Name": "Engine", "Version": server.get("Version"), "Details": details})
    server["Components"] = components
    return server


def ansi_date(text: str) -> str:
    """`Fri May 30 12:07:14 2025` for an RFC 3339 moment; anything else as it is."""
    import time

    from carrack.cli.render.units import parse_rfc3339

    try:
        parse_rfc3339(text)
        moment = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return text
    day = time.strftime("%d", moment).lstrip("0").rjust(2)
    return time.strftime("%a %b ", moment) + day + time.strftime(" %H:%M:%S %Y", moment)


def _print_version(session: Session, client: dict[str, Any], server: dict[str, Any] | None) -> None:
    api = client["ApiVersion"]
    downgraded = f" (downgraded from {NEWEST_VERSION})" if api != NEWEST_VERSION else ""
    lines = [
        "Client:",
        f" Version:\t{client['Version']}",
        f" API version:\t{api}{downgraded}",
        f" Python version:\t{client['PythonVersion']}",
        f" OS/Arch:\t{client['Os']}/{client['Arch']}",
        f" Context:\t{client['Context']}",
    ]
    if server is not None:
        name = (server.get("Platform") or {}).get("Name") or ""
        lines += ["", f"Server:{f' {name}' if name else ''}"]
        for component in server["Components"]:
            lines += [f" {component['Name']}:", *_component_lines(component)]
    session.out.write(align("\n".join(lines) + "\n", minimum=20, padding=1))


def _component_lines(component: dict[str, Any]) -> list[str]:
    details = component.get("Details") or {}
    if component["Name"] != "Engine":
        return [f"  Version:\t{component.get('Version') or ''}", *[f"  {key}:\t{details[key]}" for key in sorted(details)]]
    return [
        f"  Version:\t{component.get('Version') or ''}",
        f"  API version:\t{details.get('ApiVersion', '')} (minimum version {details.get('MinAPIVersion', '')})",
        f"  Go version:\t{details.get('GoVersion', '')}",
        f"  Git commit:\t{details.get('GitCommit', '')}",
        f"  Built:\t{details.get('BuildTime', '')}",
        f"  OS/Arch:\t{details.get('Os', '')}/{details.get('Arch', '')}",
        f"  Experimental:\t{details.get('Experimental', '')}",
    ]


def render_format(template: str, value: dict[str, Any]) -> str:
    """A --format on one document: `json` or a template. Raises CommandFailure."""
    from carrack.cli.render.template import TemplateError, parse_template

    try:
        compiled = parse_template("{{json .}}" if template == "json" else template)
    except TemplateError as error:
        raise CommandFailure(f"template parsing error: {error}", 64) from None
    try:
        return compiled.render(wrap(value), strict=True)
    except TemplateError as error:
        raise CommandFailure(str(error)) from None


def _version(session: Session, parsed: Parsed) -> None:
    template = parsed.text("format")
    client = client_version(session, negotiated=True)
    failure: CarrackError | None = None
    server: dict[str, Any] | None = None
    try:
        server = _server_version(session)
    except CarrackError as error:
        failure = error
    if template:
        session.out.line(render_format(template, {"Client": client, "Server": server}))
    else:
        _print_version(session, client, server)
    if failure:
        raise failure


COMMANDS = (
    Command(
        "version",
        "[OPTIONS]",
        "Print the versions of client and daemon",
        _version,
        at_most=0,
        flags="-f, --format string Print with a template: 'json' or 'TEMPLATE'",
    ),
)

"""The `plugin` commands: the engine's managed plugins (drivers that run as containers), as thin clients of its API."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.images.names import Name
from carrack.cli.images.transfer import check_trust, read_name, show_progress
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.logins import header_for
from carrack.cli.pruning import confirm
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import ellipsis
from carrack.cli.several import for_every
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Row = tuple[dict[str, Any], bool]


def plugin_path(name: str, action: str = "") -> str:
    """The API path of a plugin and what to do with it. Raises CommandFailure for a blank name."""
    if not name.strip():
        raise CommandFailure("invalid plugin name or ID: value is empty")
    return f"/plugins/{percent_encode(name, keep='/:')}{action}"


def fetch_plugin(session: Session, name: str) -> bytes:
    """The plugin's document as the daemon wrote it. Raises ApiError."""
    return session.engine.request("GET", plugin_path(name, "/json")).read_all()


def _description(row: Row) -> str:
    text = str((row[0].get("Config") or {}).get("Description") or "").replace("\n", "").replace("\r", "")
    return ellipsis(text, 45) if row[1] else text


NOUN = Noun(
    "*plugin.pluginContext",
    {
        "ID": ("ID", lambda row: row[0]["Id"][:12] if row[1] else row[0]["Id"]),
        "Name": ("NAME", lambda row: row[0]["Name"]),
        "Description": ("DESCRIPTION", _description),
        "Enabled": ("ENABLED", lambda row: bool(row[0].get("Enabled"))),
        "PluginReference": ("", lambda row: row[0].get("PluginReference") or ""),
    },
)

_TABLE = Noun(
    NOUN.kind,
    {**NOUN.fields, "Enabled": ("ENABLED", lambda row: "true" if row[0].get("Enabled") else "false")},
)


def _list(session: Session, parsed: Parsed) -> None:
    plugins = session.engine.json("GET", "/plugins", filters_query(parsed.filters())) or []
    plugins.sort(key=lambda plugin: str(plugin["Name"]))
    quiet = parsed.flag("quiet")
    template = parsed.text("format") or ("" if quiet else session.config.text("pluginsFormat"))
    rows = [(plugin, not parsed.flag("no-trunc")) for plugin in plugins]
    noun = _TABLE if template in ("", "table") else NOUN
    columns = ("ID", "Name", "Description", "Enabled")
    print_rows(session.out, noun, rows, template=template, columns=columns, quiet="ID" if quiet else "")


def _inspect(session: Session, parsed: Parsed) -> None:
    inspect_each(session.out, parsed.arguments, parsed.text("format"), lambda name: fetch_plugin(session, name))


def _enable(session: Session, parsed: Parsed) -> None:
    seconds = parsed.number("timeout")
    if seconds < 0:
        raise CommandFailure(f"negative timeout {seconds} is invalid")
    name = parsed.arguments[0]
    session.engine.order("POST", plugin_path(name, "/enable"), {"timeout": str(seconds)})
    session.out.line(name)


def _disable(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    session.engine.order("POST", plugin_path(name, "/disable"), {"force": "1"} if parsed.flag("force") else None)
    session.out.line(name)


def _remove(session: Session, parsed: Parsed) -> None:
    def remove(name: str) -> None:
        session.engine.order("DELETE", plugin_path(name), {"force": "1"} if parsed.flag("force") else None)
        session.out.line(name)

    for_every(parsed.arguments, remove)


def _set(session: Session, parsed: Parsed) -> None:
    name, *settings = parsed.arguments
    session.engine.order("POST", plugin_path(name, "/set"), document=settings)


def _login_header(session: Session, name: Name) -> dict[str, str]:
    return {"X-Registry-Auth": header_for(session.config, name.server)}


def _push(session: Session, parsed: Parsed) -> None:
    check_trust(parsed)
    name = read_name(parsed.arguments[0])
    if name.digest:
        raise CommandFailure(f"invalid name: {parsed.arguments[0]}")
    name = name.with_default_tag()
    path = plugin_path(name.familiar, "/push")
    with session.engine.request("POST", path, headers=_login_header(session, name)) as response:
        show_progress(response.documents(), session.out)


def _privileges(session: Session, remote: str, shown: str, headers: dict[str, str], *, granted: bool) -> list[dict[str, Any]]:
    """What the plugin wants, once the user has agreed to it. Raises CommandFailure when the user does not."""
    wanted: list[dict[str, Any]] = session.engine.json("GET", "/plugins/privileges", {"remote": remote}, headers=headers) or []
    if granted or not wanted:
        return wanted
    session.out.line(f'Plugin "{shown}" is requesting the following privileges:')
    for privilege in wanted:
        session.out.line(f" - {privilege['Name']}: [{' '.join(privilege.get('Value') or ())}]")
    if not confirm(session, "Do you grant the above permissions?"):
        raise CommandFailure(f"permission denied while installing plugin {remote}")
    return wanted


def _remote(text: str) -> tuple[Name, str]:
    """(the name, how the daemon is told of it)."""
    name = read_name(text)
    return name, f"{name.full_name}{f':{name.tag}' if name.tag else ''}{f'@{name.digest}' if name.digest else ''}"


def _install(session: Session, parsed: Parsed) -> None:
    check_trust(parsed)
    text, *settings = parsed.arguments
    alias = read_name(parsed.text("alias")).with_default_tag().familiar if parsed.text("alias") else ""
    name, remote = _remote(text)
    headers = _login_header(session, name)
    privileges = _privileges(session, remote, text, headers, granted=parsed.flag("grant-all-permissions"))
    query = {"remote": remote, "name": alias}
    session.out.flush()
    with session.engine.request("POST", "/plugins/pull", query, document=privileges, headers=headers) as response:
        local = response.headers.get("docker-plugin-name") or alias
        show_progress(response.documents(), session.out)
    try:
        if settings:
            session.engine.order("POST", plugin_path(local, "/set"), document=settings)
        if not parsed.flag("disable"):
            session.engine.order("POST", plugin_path(local, "/enable"), {"timeout": "0"})
    except CarrackError:
        if local.strip():  # a plugin that does not come up is not left half installed
            session.engine.order("DELETE", plugin_path(local))
        raise
    session.out.line(f"Installed plugin {text}")


def _upgrade(session: Session, parsed: Parsed) -> None:
    check_trust(parsed)
    plugin = session.engine.json("GET", plugin_path(parsed.arguments[0], "/json"))
    if plugin.get("Enabled"):
        raise CommandFailure("the plugin must be disabled before upgrading")
    local = str(plugin["Name"])
    before = str(plugin.get("PluginReference") or "")
    old, _ = _remote(before)
    text = parsed.arguments[1] if len(parsed.arguments) > 1 else before
    name, remote = _remote(text)
    new = name.with_default_tag()
    session.out.line(f"Upgrading plugin {local} from {old.with_default_tag().familiar} to {new.familiar}")
    same = new.familiar == old.with_default_tag().familiar
    if not parsed.flag("skip-remote-check") and not same and not confirm(session, "Plugin images do not match, are you sure?"):
        return
    headers = _login_header(session, name)
    shown = text if len(parsed.arguments) > 1 else before
    privileges = _privileges(session, remote, shown, headers, granted=parsed.flag("grant-all-permissions"))
    session.out.flush()
    path = plugin_path(local, "/upgrade")
    with session.engine.request("POST", path, {"remote": remote}, document=privileges, headers=headers) as response:
        show_progress(response.documents(), session.out)
    session.out.line(f"Upgraded plugin {local} to {shown}")


def _create(session: Session, parsed: Parsed) -> None:
    import os

    from carrack.cli.archives import tar_pieces
    from carrack.cli.files import os_error_text, read_file
    from carrack.client.codec import decode

    text, folder = parsed.arguments[0], os.path.abspath(parsed.arguments[1])
    read_name(text)
    try:
        os.lstat(folder)
    except OSError as error:
        raise CommandFailure(os_error_text(error, "lstat")) from None
    try:
        decode(read_file(os.path.join(folder, "config.json")))
    except OSError as error:
        raise CommandFailure(os_error_text(error)) from None
    except ValueError as error:
        raise CommandFailure(f"failed to unmarshal config.json: {error}") from None

    def entries() -> Any:
        for place, folders, files in os.walk(folder):
            if place != folder:
                yield place, os.path.relpath(place, folder)
            links = [name for name in folders if os.path.islink(os.path.join(place, name))]
            for name in sorted([*files, *links]):
                yield os.path.join(place, name), os.path.relpath(os.path.join(place, name), folder)

    def own_by_root(entry: Any) -> None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""

    pieces = tar_pieces(entries(), adjust=own_by_root)
    if parsed.flag("compress"):
        pieces = _compressed(pieces)
    session.engine.request("POST", "/plugins/create", {"name": text}, content=pieces, media_type="application/x-tar").read_all()
    session.out.line(text)


def _compressed(pieces: Any) -> Any:
    import zlib

    packer = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


_TRUST = "--disable-content-trust bool=true Do not verify the plugin's signature"
_GRANT = "--grant-all-permissions bool Grant everything it asks for, without a question"

COMMANDS = (
    Command(
        "plugin ls",
        "[OPTIONS]",
        "List plugins",
        _list,
        at_most=0,
        aliases="plugin ls, plugin list",
        flags="""
        -f, --filter filter Show only what matches (e.g. "enabled=true")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
            --no-trunc bool Print everything whole
        -q, --quiet bool    Print ids only
        """,
    ),
    Command(
        "plugin inspect", "[OPTIONS] PLUGIN [PLUGIN...]", "Print everything about plugins", _inspect, at_least=1, flags=FORMAT_FLAG
    ),
    Command(
        "plugin enable",
        "[OPTIONS] PLUGIN",
        "Turn a plugin on",
        _enable,
        at_least=1,
        at_most=1,
        flags="--timeout int=30 Seconds it may take to answer",
    ),
    Command(
        "plugin disable",
        "[OPTIONS] PLUGIN",
        "Turn a plugin off",
        _disable,
        at_least=1,
        at_most=1,
        flags="-f, --force bool Turn it off even while it is in use",
    ),
    Command(
        "plugin rm",
        "[OPTIONS] PLUGIN [PLUGIN...]",
        "Remove plugins",
        _remove,
        at_least=1,
        aliases="plugin rm, plugin remove",
        flags="-f, --force bool Remove them even when they are on",
    ),
    Command("plugin set", "PLUGIN KEY=VALUE [KEY=VALUE...]", "Change a plugin's settings", _set, at_least=2),
    Command("plugin push", "[OPTIONS] PLUGIN[:TAG]", "Push a plugin to a registry", _push, at_least=1, at_most=1, flags=_TRUST),
    Command(
        "plugin install",
        "[OPTIONS] PLUGIN [KEY=VALUE...]",
        "Install a plugin from a registry",
        _install,
        at_least=1,
        flags=f"--alias string Name to give it here\n--disable bool Do not turn it on\n{_TRUST}\n{_GRANT}",
    ),
    Command(
        "plugin upgrade",
        "[OPTIONS] PLUGIN [REMOTE]",
        "Replace a plugin by what a registry has now",
        _upgrade,
        at_least=1,
        at_most=2,
        needs="1.26",
        flags=f"{_TRUST}\n{_GRANT}\n--skip-remote-check bool Do not ask whether it may come from another repository",
    ),
    Command(
        "plugin create",
        "[OPTIONS] PLUGIN PLUGIN-DATA-DIR",
        "Make a plugin from a folder with config.json and rootfs",
        _create,
        at_least=2,
        flags="--compress bool Send the folder compressed",
    ),
)

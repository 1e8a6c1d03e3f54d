"""`carrack login` and `carrack logout`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.images.names import HUB_SERVER
from carrack.cli.logins import erase_login, find_login, store_login
from carrack.client.failure import ApiUnauthorized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_HUB_NAMES = ("", "docker.io", "index.docker.io", "registry-1.docker.io")


def server_key(argument: str) -> str:
    """The key of a registry in the user's logins."""
    host = argument.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB_SERVER if host in _HUB_NAMES or argument == HUB_SERVER else host


def _login(session: Session, parsed: Parsed) -> None:
    argument = parsed.arguments[0] if parsed.arguments else ""
    name, password = parsed.text("username"), parsed.text("password")
    if parsed.changed("password"):
        session.err.line("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        session.err.flush()
        if parsed.flag("password-stdin"):
            raise CommandFailure("conflicting options: cannot specify both --password and --password-stdin")
    if parsed.flag("password-stdin"):
        if not name:
            raise CommandFailure("Must provide --username with --password-stdin")
        password = session.input.read_all().decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    server = server_key(argument)
    login = _known_login(session, server) if not name and not password else {}
    if not login:
        login = {"username": name, "password": password, "serveraddress": server}
        _ask(session, login)
    answer = session.engine.json("POST", "/auth", document=login) or {}
    if answer.get("IdentityToken"):
        login = {**login, "password": "", "identitytoken": answer["IdentityToken"]}
    helper = session.config.table("credHelpers").get(server) or session.config.text("credsStore")
    store_login(session.config, server, login)
    if not helper:
        session.err.line(
            f"\nWARNING! Your credentials are stored unencrypted in '{session.config.path}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
        session.err.flush()
    session.out.line(answer.get("Status") or "Login Succeeded")


def _known_login(session: Session, server: str) -> dict[str, str]:
    """The login kept from before, if the registry still takes it."""
    login = find_login(session.config, server)
    if not login.get("username") and not login.get("identitytoken"):
        return {}
    session.out.line("Authenticating with existing credentials...")
    session.out.flush()
    try:
        session.engine.json("POST", "/auth", document=login)
    except ApiUnauthorized:
        session.err.line("Stored credentials invalid or expired")
        session.err.flush()
        return {}
    return login


def _ask(session: Session, login: dict[str, str]) -> None:
    if login["username"] and login["password"]:
        return
    if not session.input.is_terminal:
        raise CommandFailure("Error: Cannot perform an interactive login from a non TTY device")
    if not login["username"]:
        session.out.write("Username: ")
        session.out.flush()
        login["username"] = _read_line(session)
        if not login["username"]:
            raise CommandFailure("Error: Non-null Username Required")
    if not login["password"]:
        login["password"] = read_secret(session, "Password: ")
        if not login["password"]:
            raise CommandFailure("Error: Password Required")


def _read_line(session: Session) -> str:
    line = b""
    while not line.endswith(b"\n"):
        letter = session.input.read(1)
        if not letter:
            break
        line += letter
    return line.decode("utf-8", "surrogateescape").strip()


def read_secret(session: Session, prompt: str) -> str:
    """Reads a line from the terminal without showing it."""
    import termios

    session.out.write(prompt)
    session.out.flush()
    mode = termios.tcgetattr(session.input.fd)
    hidden = [*mode]
    hidden[3] &= ~termios.ECHO
    termios.tcsetattr(session.input.fd, termios.TCSADRAIN, hidden)
    try:
        return _read_line(session)
    finally:
        termios.tcsetattr(session.input.fd, termios.TCSADRAIN, mode)
        session.out.line()


def _logout(session: Session, parsed: Parsed) -> None:
    argument = parsed.arguments[0] if parsed.arguments else ""
    server = server_key(argument)
    shown = argument or server
    if server != HUB_SERVER:
        shown = server
    erase_login(session.config, server)
    session.out.line(f"Removing login credentials for {shown}")


COMMANDS = (
    Command(
        "login",
        "[OPTIONS] [SERVER]",
        "Log in to a registry",
        _login,
        at_most=1,
        flags="""
        -p, --password string     Password or personal access token
            --password-stdin bool Read the password from stdin
        -u, --username string     User name
        """,
    ),
    Command("logout", "[SERVER]", "Log out from a registry", _logout, at_most=1),
)

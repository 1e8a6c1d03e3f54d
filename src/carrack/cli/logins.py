"""The user's registry logins: config.json's `auths`, credential stores and helpers, as the API's X-Registry-Auth."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.config import Config

    Login = dict[str, str]

NOT_FOUND = "credentials not found in native keychain"


def encode_login(login: Login) -> str:
    """A login as the header's value: base64url of its JSON."""
    from binascii import b2a_base64

    from carrack.client.codec import encode

    text = b2a_base64(encode(login, escape_html=True).encode(), newline=False).decode()
    return text.replace("+", "-").replace("/", "_")


def header_for(config: Config, server: str) -> str:
    """The X-Registry-Auth for a registry; that of an empty login when the user has none there."""
    return encode_login(find_login(config, server))


def find_login(config: Config, server: str) -> Login:
    """The login for a registry, from its helper, the store, or the file; empty when there is none."""
    helper = str(config.table("credHelpers").get(server) or config.text("credsStore"))
    if helper:
        return _ask_helper(helper, server)
    for key, entry in config.table("auths").items():
        if key == server or _host_of(key) == server:
            return _read_entry(key, entry)
    return {}


def all_logins(config: Config) -> dict[str, Login]:
    """Every login the user has, by registry: what a build may need."""
    logins = {key: _read_entry(key, entry) for key, entry in config.table("auths").items()}
    store = config.text("credsStore")
    for server in list(logins) if store else []:
        logins[server] = _ask_helper(store, server) or logins[server]
    for server, helper in config.table("credHelpers").items():
        found = _ask_helper(str(helper), server)
        if found:
            logins[server] = found
    return {server: login for server, login in logins.items() if login}


def store_login(config: Config, server: str, login: Login) -> None:
    """Keeps a login where the user's settings say. Raises CommandFailure."""
    helper = str(config.table("credHelpers").get(server) or config.text("credsStore"))
    auths = config.document.setdefault("auths", {})
    if helper:
        from carrack.client.codec import encode

        secret = login.get("identitytoken") or login.get("password", "")
        name = "<token>" if login.get("identitytoken") else login.get("username", "")
        _run_helper(helper, "store", encode({"ServerURL": server, "Username": name, "Secret": secret}))
        auths[server] = {}
    else:
        from binascii import b2a_base64

        entry: dict[str, str] = {}
        if login.get("username") or login.get("password"):
            entry["auth"] = b2a_base64(f"{login.get('username', '')}:{login.get('password', '')}".encode(), newline=False).decode()
        if login.get("identitytoken"):
            entry["identitytoken"] = login["identitytoken"]
        auths[server] = entry
    config.save()


def erase_login(config: Config, server: str) -> bool:
    """Forgets a login; false when there was none."""
    helper = str(config.table("credHelpers").get(server) or config.text("credsStore"))
    auths = config.table("auths")
    known = [key for key in auths if key == server or _host_of(key) == server]
    if helper:
        _run_helper(helper, "erase", server)
    for key in known:
        del auths[key]
    if known:
        config.save()
    return bool(known or helper)


def _host_of(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _read_entry(server: str, entry: Any) -> Login:
    login: Login = {}
    if not isinstance(entry, dict):
        raise CommandFailure(f"invalid auth configuration file: the entry of {server} is no object")
    if entry.get("auth"):
        from binascii import Error, a2b_base64

        try:
            name, _, password = a2b_base64(str(entry["auth"])).decode().partition(":")
        except (Error, UnicodeDecodeError):
            raise CommandFailure(f"invalid auth configuration file: the entry of {server} is not base64") from None
        login = {"username": name, "password": password.strip("\0")}
    for key in ("identitytoken", "registrytoken"):
        if entry.get(key):
            login[key] = str(entry[key])
    return {**login, "serveraddress": server} if login else {}


def _ask_helper(helper: str, server: str) -> Login:
    from carrack.client.codec import decode

    answer = _run_helper(helper, "get", server)
    if not answer:
        return {}
    try:
        document = dict(decode(answer))
    except (TypeError, ValueError):
        raise CommandFailure(f"error getting credentials - err: docker-credential-{helper} gave no JSON object") from None
    name, secret = str(document.get("Username", "")), str(document.get("Secret", ""))
    if name == "<token>":
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": name, "password": secret, "serveraddress": server}


def _run_helper(helper: str, action: str, text: str) -> str:
    """The helper's answer; empty when it knows no such login. Raises CommandFailure."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, action], input=text.encode(), capture_output=True, check=False)
    except OSError:
        raise CommandFailure(
            f'error getting credentials - err: exec: "{program}": executable file not found in $PATH, out: ``'
        ) from None
    output = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return output
    if NOT_FOUND in output:
        return ""
    raise CommandFailure(
        f"error {action}ting credentials - err: exit status {done.returncode}, out: `{output}`".replace(
            "storeting", "storing"
        ).replace("eraseting", "erasing")
    )

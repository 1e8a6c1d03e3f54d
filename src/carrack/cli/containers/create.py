"""Making a container for `run` and `create`: the image pulled when it is missing, the request sent, the id kept."""

from __future__ import annotations

import os

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text
from carrack.cli.images.names import Name, parse_any
from carrack.client.failure import ApiNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.containers.spec import Spec
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

PULL_CHOICES = ("always", "missing", "never")
CREDENTIALS_FOLDER = "/run/secrets/docker"


def check_pull_choice(choice: str) -> None:
    """Refuses a --pull that means nothing."""
    if choice not in (*PULL_CHOICES, ""):
        raise CommandFailure(f'invalid pull option: \'{choice}\': must be one of "always", "missing" or "never"')


def configured_proxies(session: Session) -> dict[str, str]:
    """The proxy variables config.json wants in every container, in both spellings."""
    proxies = session.config.table("proxies")
    if not proxies:
        return {}
    chosen = proxies.get(session.endpoint().text) or proxies.get("default") or {}
    if not isinstance(chosen, dict):
        raise CommandFailure(f"error parsing config file: {session.config.path}: proxies: want an object")
    names = {
        "httpProxy": "HTTP_PROXY",
        "httpsProxy": "HTTPS_PROXY",
        "noProxy": "NO_PROXY",
        "ftpProxy": "FTP_PROXY",
        "allProxy": "ALL_PROXY",
    }
    variables: dict[str, str] = {}
    for key, name in names.items():
        if chosen.get(key):
            variables[name] = variables[name.lower()] = str(chosen[key])
    return variables


class CidFile:
    """The file of --cidfile: refused when it exists, removed again when no container came of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        if not path:
            return
        if os.path.exists(path):
            raise CommandFailure(f"container ID file found, make sure the other container isn't running or delete {path}")
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CommandFailure(f"failed to create the container ID file: {os_error_text(error)}") from None

    def close(self, identity: str) -> None:
        """Writes the id, or removes the file when there is none."""
        if self._fd == -1:
            return
        try:
            if identity:
                os.write(self._fd, identity.encode())
            else:
                os.unlink(self._path)
        finally:
            os.close(self._fd)
            self._fd = -1


def create_container(session: Session, parsed: Parsed, spec: Spec) -> str:
    """Creates the container and returns its id. Raises CommandFailure, ApiError, ConnectionFailed."""
    cid_file = CidFile(parsed.text("cidfile"))
    identity = ""
    try:
        identity = _create(session, parsed, spec)
    finally:
        cid_file.close(identity)
    return identity


def _create(session: Session, parsed: Parsed, spec: Spec) -> str:
    try:
        name = parse_any(spec.config["Image"])
    except ValueError as error:
        raise CommandFailure(str(error)) from None
    if name is not None:
        name = name.with_default_tag()
    logins = _share_api_socket(session, spec) if parsed.flag("use-api-socket") else {}
    if parsed.changed("disable-content-trust") or os.environ.get("DOCKER_CONTENT_TRUST"):
        from carrack.cli.images.transfer import check_trust

        check_trust(parsed)
    platform = parsed.text("platform")
    fit_version(session, spec)
    pull = parsed.text("pull")
    if pull == "always" and name is not None:
        _pull(session, parsed, name)
    spec.host_config["ConsoleSize"] = list(session.out.size())
    query: dict[str, str] = {}
    if platform and session.engine.speaks("1.41"):
        from carrack.cli.images.platforms import normal_platform

        query["platform"] = normal_platform(platform)
    if parsed.text("name"):
        query["name"] = parsed.text("name")
    document = spec.document()
    try:
        answer = session.engine.json("POST", "/containers/create", query, document=document)
    except ApiNotFound:
        if name is None or pull != "missing":
            raise
        if not parsed.flag("quiet"):
            session.err.line(f"Unable to find image '{name.familiar}' locally")
            session.err.flush()
        _pull(session, parsed, name)
        answer = session.engine.json("POST", "/containers/create", query, document=document)
    warnings: list[str] = list(answer.get("Warnings") or ())
    for address in spec.host_config["Dns"]:
        if address.startswith("127.") or address == "::1":
            warnings.append(f"Localhost DNS ({address}) may fail in containers.")
            break
    for warning in warnings:
        session.err.line(f"WARNING: {warning}")
    identity: str = answer["Id"]
    if logins:
        _put_logins(session, identity, logins)
    return identity


def _pull(session: Session, parsed: Parsed, name: Name) -> None:
    from carrack.cli.images.transfer import pull_image

    stream = None if parsed.flag("quiet") else session.err
    pull_image(session, name, platform=parsed.text("platform"), show_on=stream)


def fit_version(session: Session, spec: Spec) -> None:
    """Drops or refuses what the daemon's API version has no field for, as Docker's client does."""
    engine = session.engine
    config, host_config = spec.config, spec.host_config

    def need(version: str, what: str) -> None:
        if not engine.speaks(version):
            raise CommandFailure(f'"{what}" requires API version {version}, but the Docker daemon API version is {engine.version}')

    if "StopTimeout" in config:
        need("1.25", "stop timeout")
    if config.get("Healthcheck", {}).get("StartInterval"):
        need("1.44", "specify health-check start interval")
    if any(endpoint["MacAddress"] for endpoint in spec.networks.values()):
        need("1.44", "specify mac-address per network")
    if engine.speaks("1.42"):
        host_config.pop("KernelMemory", None)
    if engine.speaks("1.44"):
        config.pop("MacAddress", None)
    for mount in () if engine.speaks("1.44") else host_config.get("Mounts", ()):
        if mount.get("BindOptions", {}).get("ReadOnlyForceRecursive"):
            raise CommandFailure("bind-recursive=readonly requires API v1.44 or later")


def _share_api_socket(session: Session, spec: Spec) -> dict[str, Any]:
    """--use-api-socket: the daemon's socket as a bind mount, and the logins to put beside it."""
    endpoint = session.endpoint()
    if endpoint.scheme != "unix":
        raise CommandFailure(
            f"flag --use-api-socket can only be used with unix sockets: docker endpoint {endpoint.text} incompatible"
        )
    mount = {"Type": "bind", "Source": endpoint.path, "Target": "/var/run/docker.sock", "BindOptions": {}}
    spec.host_config.setdefault("Mounts", []).append(mount)
    variables: list[str] = spec.config["Env"] or []
    if any(variable.startswith("DOCKER_CONFIG=") for variable in variables):
        return {}
    from carrack.cli.logins import all_logins

    logins = all_logins(session.config)
    if logins:
        spec.config["Env"] = [*variables, f"DOCKER_CONFIG={CREDENTIALS_FOLDER}"]
    return logins


def _put_logins(session: Session, identity: str, logins: dict[str, Any]) -> None:
    import io
    import tarfile
    from base64 import b64encode

    from carrack.client.codec import encode

    auths: dict[str, dict[str, str]] = {}
    for server, login in logins.items():
        pair = f"{login.get('username', '')}:{login.get('password', '')}".encode()
        auths[server] = (
            {"auth": b64encode(pair).decode()} if login.get("username") else {"identitytoken": login.get("identitytoken", "")}
        )
    content = encode({"auths": auths}).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(f"{CREDENTIALS_FOLDER}/config.json".lstrip("/"))
        entry.size, entry.mode = len(content), 0o600
        tar.addfile(entry, io.BytesIO(content))
    session.engine.request(
        "PUT", f"/containers/{identity}/archive", {"path": "/"}, content=archive.getvalue(), media_type="application/x-tar"
    ).read_all()

"""What every command gets: the standard streams, the user's settings, and the daemon, connected when first used."""

from __future__ import annotations

import os

from carrack import __version__
from carrack.cli.config import Config
from carrack.cli.console import Input, Output
from carrack.cli.failure import CommandFailure
from carrack.client.endpoint import DEFAULT_HOST, DOCKER_SOCKET, Endpoint, TlsFiles, parse_endpoint
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.client.engine import Engine

USER_AGENT = f"Carrack-Client/{__version__}"

GLOBAL_FLAGS = """
        --config string         Folder of the client's configuration files (default "~/.docker")
    -c, --context string        Context to reach the daemon with, instead of DOCKER_HOST and "context use"
    -D, --debug bool            Say more about what goes on
    -H, --host list             Daemon socket to connect to
    -l, --log-level string=info Logging level ("debug", "info", "warn", "error", "fatal")
        --tls bool              Use TLS; implied by --tlsverify
        --tlscacert string      Trust only certificates signed by this CA (default "~/.docker/ca.pem")
        --tlscert string        TLS certificate file (default "~/.docker/cert.pem")
        --tlskey string         TLS key file (default "~/.docker/key.pem")
        --tlsverify bool        Use TLS and verify the remote
    -v, --version bool          Print version information and quit
"""
"""What may stand before every command: one table for the parser, help, completion and the reference pages."""


class Session:
    """One run of the program. `given` are the global flags in front of the command."""

    def __init__(self, given: Parsed) -> None:
        self.given = given
        self.out = Output(1)
        self.err = Output(2)
        self.input = Input(0)
        self.config = Config(given.text("config"))
        self.debug = given.flag("debug") or given.text("log-level") in ("debug", "trace")
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The daemon chosen by flags, environment and context."""
        if self._engine is None:
            self._engine = self.new_engine()
        return self._engine

    def new_engine(self) -> Engine:
        """Another client of the same daemon, for what must not wait for the first (signals beside a stream)."""
        from carrack.client.engine import Engine

        pinned = os.environ.get("DOCKER_API_VERSION", "").removeprefix("v")
        if self._engine is not None:
            pinned = self._engine.version
        headers = {name: str(value) for name, value in self.config.table("HttpHeaders").items() if name.lower() != "user-agent"}
        engine = Engine(self.endpoint(), headers=headers, version=pinned, user_agent=USER_AGENT)
        if self.debug:
            engine.trace = self._trace
        return engine

    def _trace(self, text: str) -> None:
        self.err.line(f"DEBUG {text}")
        self.err.flush()

    def endpoint(self) -> Endpoint:
        """Where the daemon is. -H and --context come first, then CARRACK_HOST, DOCKER_HOST, the contexts, the default socket."""
        hosts = self.given.items("host")
        if len(hosts) > 1:
            raise CommandFailure("specify only one -H")
        if hosts and self.given.changed("context"):
            raise CommandFailure("conflicting options: cannot specify both --host and --context")
        host = hosts[0] if hosts else ""
        context = self.given.text("context")
        if not host and not context:
            host = os.environ.get("CARRACK_HOST") or os.environ.get("DOCKER_HOST") or ""
        if not host:
            context = self.context_name()
            if context != "default":
                from carrack.cli.contexts.store import context_endpoint

                try:
                    return context_endpoint(self.config.directory, context)
                except CommandFailure as error:
                    raise CommandFailure(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None
        try:
            endpoint = parse_endpoint(host or DEFAULT_HOST, tls=self._tls())
        except CarrackError as error:
            raise CommandFailure(f"Failed to initialize: unable to resolve docker endpoint: {error}") from None
        if not host and not os.path.exists(endpoint.path) and os.path.exists(DOCKER_SOCKET):
            endpoint.hint = (
                f"\nA Docker daemon listens at unix://{DOCKER_SOCKET}: set DOCKER_HOST=unix://{DOCKER_SOCKET} to use it."
            )
        elif not host and not os.path.exists(endpoint.path):
            endpoint.hint = _how_to_start()
        return endpoint

    def context_name(self) -> str:
        """The context in use; `default` stands for what the environment says."""
        if self.given.changed("context"):
            return self.given.text("context")
        if self.given.items("host") or os.environ.get("CARRACK_HOST") or os.environ.get("DOCKER_HOST"):
            return "default"
        return os.environ.get("DOCKER_CONTEXT") or self.config.text("currentContext") or "default"

    def detach_keys(self, given: str) -> str:
        """The key sequence of --detach-keys, or of config.json."""
        return given or self.config.text("detachKeys")

    def _tls(self) -> TlsFiles | None:
        given = self.given
        directory = os.environ.get("DOCKER_CERT_PATH") or self.config.directory
        verify = given.flag("tlsverify") if given.changed("tlsverify") else bool(os.environ.get("DOCKER_TLS_VERIFY"))
        wanted = given.flag("tls") or verify or given.changed("tlsverify") or bool(os.environ.get("DOCKER_TLS"))
        if not wanted:
            return None

        def file(flag: str, name: str) -> str:
            return given.text(flag) if given.changed(flag) else os.path.join(directory, name)

        return TlsFiles(file("tlscacert", "ca.pem"), file("tlscert", "cert.pem"), file("tlskey", "key.pem"), verify=verify)


def _how_to_start() -> str:
    """For a machine on which nobody listens at the default address."""
    if os.path.exists("/opt/carrack/current"):
        return " Start it: systemctl start carrackd" if os.path.isdir("/run/systemd/system") else " Start it: carrackd &"
    return ""

"""`carrack system certs`, and what else is done once on a machine: one subcommand each."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from carrack.errors import CarrackError, InvalidParameter


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 0 when it did its work, 1 when it could not, 2 when it was asked wrongly. One sentence, no traceback."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except CarrackError as error:
        _complain(error.message)
        return 2 if isinstance(error, InvalidParameter) else 1
    except BrokenPipeError:  # whoever read us has read enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for what is still buffered
        return 0
    except OSError as error:
        _complain(f"{error.filename or 'cannot go on'}: {(error.strerror or str(error)).lower()}")
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="carrack system", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_certs(commands.add_parser("certs", help="make a CA, the daemon's certificate and clients' certificates"))
    _add_install(commands.add_parser("install", help="install Carrack on this machine, or upgrade it"))
    _add_uninstall(commands.add_parser("uninstall", help="take Carrack off this machine"))
    _add_migrate(commands.add_parser("migrate-from-docker", help="bring images, volumes and containers over from a dockerd"))
    return parser


def _add_migrate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Bring images, networks, volumes and (stopped) containers over from a dockerd, by its API. What is there already stays as "
        "it is; nothing is changed on the other side. Stop what writes to volumes first: they are read as they are."
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--from", dest="source", default="unix:///var/run/docker.sock", metavar="HOST", help="default %(default)s")
    parser.add_argument("--to", default="unix:///run/carrack/carrack.sock", metavar="HOST", help="default %(default)s")
    parser.set_defaults(run=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    from carrack.client.endpoint import parse_endpoint
    from carrack.client.engine import Engine
    from carrack.setup.migrate import Migration

    source, target = Engine(parse_endpoint(options.source)), Engine(parse_endpoint(options.to))
    if "carrack" in source.json("GET", "/version")["Version"]:
        raise InvalidParameter(f"{options.source} is Carrack itself: name the dockerd with --from")
    same_host = options.source.startswith("unix://") and options.to.startswith("unix://")
    return 0 if Migration(source, target, _say, dry_run=options.dry_run, same_host=same_host).run() else 1


def _add_install(parser: argparse.ArgumentParser) -> None:
    parser.description = "Install, or upgrade: run twice it changes nothing, and running containers notice nothing."
    parser.add_argument("--docker-socket", default="auto", metavar="auto|yes|no", help="listen on /run/docker.sock too")
    parser.add_argument("--as-docker", action="store_true", help="make `docker` a name of carrack")
    parser.add_argument("--no-start", action="store_true", help="neither enable nor start the service")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="take the Python libraries from this folder, not from the network"
    )
    parser.add_argument("--rollback", action="store_true", help="go back to the version before")
    parser.set_defaults(run=_install)


def _add_uninstall(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--purge", action="store_true", help="remove images, containers, volumes and the configuration too")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_uninstall)


def _install(options: argparse.Namespace) -> int:
    from carrack.setup import install

    wishes = install.Wishes(options.docker_socket, options.as_docker, not options.no_start, options.wheels, options.rollback)
    install.install(wishes, _say)
    return 0


def _uninstall(options: argparse.Namespace) -> int:
    from carrack.setup import install

    install.uninstall(purge=options.purge, yes=options.yes, say=_say)
    return 0


def _add_certs(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make what TCP with mutual TLS needs. What is there and still good stays as it is."
    parser.add_argument("--directory", metavar="DIR", default="/etc/carrack/tls", help="where (default %(default)s)")
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="name or address clients use (default: this machine's)"
    )
    parser.add_argument("--client", action="append", default=[], metavar="NAME", help="a client of that name (default client)")
    parser.add_argument("--days", type=int, default=825, help="how long certificates are good (default %(default)s)")
    parser.set_defaults(run=_certs)


def _certs(options: argparse.Namespace) -> int:
    from carrack.setup import certificates

    if options.days < 1:
        raise InvalidParameter("--days: want at least 1")
    hosts = [*options.host, *(host for host in certificates.default_hosts() if host not in options.host)]
    made = certificates.make(
        certificates.Wanted(Path(options.directory).absolute(), hosts, options.client or ["client"], options.days)
    )
    for path in made.written:
        _say(f"wrote {path}")
    if not made.written:
        _say(f"everything is there already in {options.directory}")
    client = made.clients[0]
    files = f"--tlscacert {made.ca} --tlscert {made.server_certificate} --tlskey {made.server_key}"
    _say("")
    _say("The daemon:   carrackd -H fd:// -H tcp://0.0.0.0:2376 --tlsverify" + _unless_default(options.directory, " " + files))
    _say(f"A client:     copy {client} to it, then")
    _say(f"              DOCKER_HOST=tcp://{hosts[0]}:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={client} carrack version")
    _say(f"Keep {made.ca.parent}/ca-key.pem secret: who has it can make certificates that open this daemon, which is root.")
    return 0


def _unless_default(directory: str, text: str) -> str:
    return "" if directory == "/etc/carrack/tls" else text


def _say(text: str) -> None:
    print(text)  # noqa: T201  # a command line


def _complain(text: str) -> None:
    print(f"carrack system: {text}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

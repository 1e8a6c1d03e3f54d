"""`carrack registry serve | gc | scrub`: the registry as a program. It needs no daemon."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import asdict

import msgspec

from carrack.errors import CarrackError, InvalidParameter
from carrack.registry.collect import Collection, CollectionRules
from carrack.registry.config import DEFAULT_ROOT, RegistryConfig, TlsConfig, TokenConfig, read_config
from carrack.registry.scrub import scrub
from carrack.registry.storage.filesystem import FilesystemStorage


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; 0 when it did its work, 1 when it failed or found corruption, 2 when it was asked wrongly."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.debug else logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        status: int = options.run(options)
    except CarrackError as error:
        print(f"carrack registry: {error.message}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, InvalidParameter) else 1
    except OSError as error:
        print(f"carrack registry: {error.filename or 'store'}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="carrack registry", description="A private OCI registry")
    parser.add_argument("-D", "--debug", action="store_true", help="log more")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="serve a registry until SIGTERM"))
    gc = commands.add_parser("gc", help="remove what nothing refers to; the server may run meanwhile")
    _add_store(gc)
    gc.add_argument("-n", "--dry-run", action="store_true", help="only report what would go")
    gc.add_argument("--rules", default="", metavar="JSON", help="grace_seconds, upload_seconds, retention (over those of --config)")
    gc.set_defaults(run=_gc)
    check = commands.add_parser("scrub", help="verify every stored byte; put corrupt blobs aside")
    _add_store(check)
    check.add_argument("-n", "--dry-run", action="store_true", help="only report")
    check.set_defaults(run=_scrub)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="JSON configuration; flags win over it")
    parser.add_argument("--root", metavar="DIR", help=f"where blobs are stored (default {DEFAULT_ROOT})")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_store(parser)
    parser.add_argument(
        "--listen",
        action="append",
        metavar="HOST:PORT",
        help="default 127.0.0.1:5000; with users and TLS every address (repeatable)",
    )
    parser.add_argument("--metrics-listen", metavar="HOST:PORT", help="serve /metrics and /healthz there")
    parser.add_argument("--insecure", action="store_true", default=None, help="let others reach a registry without users or TLS")
    parser.add_argument("--htpasswd", metavar="FILE", help="users and bcrypt passwords")
    parser.add_argument("--realm", help="name shown when a password is asked for")
    parser.add_argument("--token-realm", metavar="URL", help="where clients get bearer tokens")
    parser.add_argument("--token-service", metavar="NAME", help="the audience tokens must have")
    parser.add_argument("--token-issuer", metavar="NAME", help="the issuer tokens must have")
    parser.add_argument(
        "--token-key", action="append", metavar="FILE", help="JWK set or PEM with the issuer's public keys (repeatable)"
    )
    parser.add_argument("--access-rules", metavar="FILE", help="who may pull, create, push, delete where")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="ask clients for certificates of this authority")
    parser.add_argument("--no-delete", dest="delete", action="store_false", default=None, help="refuse every deletion")
    parser.add_argument("--sparse-indexes", action="store_true", default=None, help="take indexes whose manifests are not all here")
    parser.add_argument("--max-blob-bytes", type=int, metavar="N", help="refuse larger blobs")
    parser.add_argument("--max-connections", type=int, metavar="N", help="refuse further clients beyond (default 4096)")
    parser.add_argument("--access-log", metavar="FILE", help="JSON lines; - (default) for standard output, empty for none")
    parser.add_argument("--gc-interval", type=int, metavar="SECONDS", help="collect by itself this often; 0: never (default a day)")
    parser.add_argument(
        "--shutdown-seconds", type=float, metavar="N", help="how long running requests may take to end (default 300)"
    )
    parser.add_argument("--ready-fd", type=int, default=-1, metavar="FD", help="write the bound addresses there once listening")
    parser.set_defaults(run=_serve)


def _config(options: argparse.Namespace) -> RegistryConfig:
    """The file's configuration with the flags over it."""
    config = read_config(options.config) if options.config else RegistryConfig()
    for name in RegistryConfig.__struct_fields__:
        value = getattr(options, name, None)
        if value is not None and name not in ("token", "tls", "garbage"):
            setattr(config, name, value)
    return config


def _serve(options: argparse.Namespace) -> int:
    from carrack.registry.serve import run

    config = _config(options)
    if options.gc_interval is not None:
        config.garbage.interval_seconds = options.gc_interval
    if options.tls_cert or options.tls_key or options.tls_client_ca:
        if not (options.tls_cert and options.tls_key):
            raise InvalidParameter("--tls-cert and --tls-key go together")
        config.tls = TlsConfig(options.tls_cert, options.tls_key, options.tls_client_ca or "")
    token = (options.token_realm, options.token_service, options.token_issuer, options.token_key)
    if any(token):
        if not all(token):
            raise InvalidParameter("--token-realm, --token-service, --token-issuer and --token-key go together")
        config.token = TokenConfig(*token)
    run(config, ready_fd=options.ready_fd)
    return 0


def _existing_store(config: RegistryConfig) -> FilesystemStorage:
    if not os.path.isdir(config.root):
        raise InvalidParameter(f"registry root {config.root}: no such directory")
    return FilesystemStorage(config.root)


def _gc(options: argparse.Namespace) -> int:
    config = _config(options)
    rules = config.garbage.rules
    if options.rules:
        try:
            rules = msgspec.json.decode(options.rules, type=CollectionRules)
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"--rules: {error}") from error
    rules.validate()
    collection = Collection(_existing_store(config), rules, dry_run=options.dry_run)
    report = collection.run()
    print(msgspec.json.encode({**asdict(report), "bytes_freed": report.bytes_freed}).decode())  # noqa: T201
    return 0


def _scrub(options: argparse.Namespace) -> int:
    report = scrub(_existing_store(_config(options)), dry_run=options.dry_run)
    print(msgspec.json.encode(asdict(report)).decode())  # noqa: T201
    return 1 if report.corrupt or report.missing else 0


if __name__ == "__main__":
    sys.exit(main())

"""The TLS that TCP sockets of carrackd speak: Docker's flags, and one sentence for each file that will not do."""

from __future__ import annotations

import ssl

from carrack.daemon.config import DaemonConfig
from carrack.errors import InvalidParameter


def server_context(config: DaemonConfig) -> ssl.SSLContext | None:
    """What the configuration asks for; None without TLS. Raises InvalidParameter."""
    if not config.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_files(context, config)
    if config.tls_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_files(context: ssl.SSLContext, config: DaemonConfig) -> None:
    """Load certificate, key and CA, also again: later connections get the new ones. Raises InvalidParameter."""
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_password)
    except (OSError, ValueError) as error:
        pair = f"(cert: {config.tls_certificate!r}, key: {config.tls_key!r})"
        raise InvalidParameter(f"could not load X509 key pair {pair}: {_reason(error)}{_advice(error)}") from error
    if config.tls_verify:
        try:
            context.load_verify_locations(config.tls_ca)
        except OSError as error:
            raise InvalidParameter(f"could not read CA certificate {config.tls_ca!r}: {_reason(error)}{_advice(error)}") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted: carrackd cannot ask for its password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "the key does not belong to the certificate" if error.reason == "KEY_VALUES_MISMATCH" else "no valid PEM file"
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _advice(error: Exception) -> str:
    return " (`carrack system certs` makes what is needed)" if isinstance(error, FileNotFoundError) else ""

"""TLS to a daemon, with a half-close that keeps the reading side open (RFC 8446 section 6.1).

`ssl.SSLSocket.unwrap` waits for the peer's close_notify and drops what the container still prints, so the TLS engine runs on
memory buffers here and the socket is ours.
"""

from __future__ import annotations

import _socket
import os
import ssl

from carrack.client.failure import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.client.endpoint import Endpoint, TlsFiles

_RECORD_BYTES = 16384 + 512


class TlsStream:
    """A `ByteStream` over TLS. Owns the socket under it."""

    def __init__(self, stream: _socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._socket = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = b""
        self._held = b""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def handshake(self) -> None:
        """Agrees on keys. Raises ssl.SSLError, OSError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._more()
            else:
                self._flush()
                return

    @property
    def pending(self) -> bool:
        """Whether decrypted bytes, or a whole record, wait already."""
        return bool(self._held) or bool(self._tls.pending()) or bool(self._incoming.pending)

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv(self, size: int, /) -> bytes:
        if self._held:
            taken, self._held = self._held[:size], self._held[size:]
            return taken
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                if not self._more():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def sendall(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view[: 1 << 20]) :]
            self._flush()

    def send_some(self, data: bytes, /) -> int:
        """Encrypts one piece once the piece before it has left; 0 while the kernel takes no more."""
        if not self._flush_some():
            return 0
        sent = self._tls.write(data[:16384])
        self._flush_some()
        return sent

    def _flush_some(self) -> bool:
        self._unsent += self._outgoing.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent, _socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return False
        return True

    def shutdown(self, how: int, /) -> None:
        """Sends close_notify; reading goes on until the daemon sends its own."""
        try:
            while piece := self._tls.read(1 << 16):  # OpenSSL's shutdown looks for an answer, and loses the output it finds
                self._held += piece
        except ssl.SSLError:
            pass
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass  # the answer to our close_notify comes after the output, if ever
        self._flush()

    def close(self) -> None:
        self._socket.close()

    def _flush(self) -> None:
        data, self._unsent = self._unsent + self._outgoing.read(), b""
        if data:
            self._socket.sendall(data)

    def _more(self) -> bool:
        data = self._socket.recv(_RECORD_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)


def open_tls(stream: _socket.socket, endpoint: Endpoint) -> TlsStream:
    """Puts TLS on a connected socket. Raises ConnectionFailed when the two sides cannot agree."""
    assert endpoint.tls is not None
    wrapped = TlsStream(stream, _context(endpoint.tls), endpoint.tls.server_name or endpoint.host)
    try:
        wrapped.handshake()
    except (ssl.SSLError, OSError) as error:
        stream.close()
        raise ConnectionFailed(f"error during connect: tls handshake with {endpoint.text}: {error}") from error
    return wrapped


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if files.verify:
        if files.authority and os.path.exists(files.authority):
            context = ssl.create_default_context(cafile=files.authority)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.certificate and os.path.exists(files.certificate):
        try:
            context.load_cert_chain(files.certificate, files.key or None)
        except (ssl.SSLError, OSError) as error:
            raise ConnectionFailed(f"could not load X509 key pair: {error}") from error
    return context

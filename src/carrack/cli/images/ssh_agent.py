"""ssh agents that a build may use (``--ssh``): the user's own, or one of ours that holds keys from files.

Of either a step may ask two things: which keys there are, and a signature (draft-ietf-sshm-ssh-agent). Everything else (adding
and removing keys, locking) is refused here, so that no Dockerfile can change the agent of who builds it.
"""

from __future__ import annotations

import os
import socket
import stat

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_FAILURE, _LIST, _KEYS, _SIGN, _SIGNATURE = 5, 11, 12, 13, 14
_RSA_SHA2_256, _RSA_SHA2_512 = 2, 4
_MESSAGE_LIMIT_BYTES = 256 << 10
_KEY_LIMIT_BYTES = 100 << 10
_REFUSED = bytes((_FAILURE,))


class SocketAgent:
    """The agent that listens at a path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self) -> Callable[[bytes], bytes]:
        """A conversation with it: gives an answer to each message. Raises OSError."""
        agent = socket.socket(socket.AF_UNIX)
        try:
            agent.connect(self._path)
        except BaseException:
            agent.close()
            raise

        def ask(message: bytes) -> bytes:
            agent.sendall(_framed(message))
            return read_message(agent.recv) or _REFUSED

        return ask


class KeyAgent:
    """An agent in this process, with keys from files."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Raises CommandFailure for a file that is no key, or one behind a passphrase."""
        from carrack.cli.programs import need

        need("cryptography", "cryptography")
        self._keys = {}
        for path in paths:
            key, blob = _read_key(path)
            self._keys[blob] = (key, os.path.basename(path))

    def open(self) -> Callable[[bytes], bytes]:
        """See `SocketAgent.open`."""
        return self._answer

    def _answer(self, message: bytes) -> bytes:
        if message[0] == _LIST:
            listed = b"".join(_string(blob) + _string(name.encode()) for blob, (_, name) in self._keys.items())
            return bytes((_KEYS,)) + len(self._keys).to_bytes(4, "big") + listed
        blob, rest = _take(message[1:])
        data, rest = _take(rest)
        found = self._keys.get(blob)
        signature = _sign(found[0], blob, data, int.from_bytes(rest[:4], "big")) if found is not None else b""
        return bytes((_SIGNATURE,)) + _string(signature) if signature else _REFUSED


Agent = SocketAgent | KeyAgent


def open_agent(identity: str, text: str) -> Agent:
    """The agent of ``--ssh id=text``: a socket's path, or those of keys. Raises CommandFailure."""
    paths = [path for path in text.split(",") if path]
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise CommandFailure(f"ssh agent {identity}: {path}: {(error.strerror or '').lower()}") from None
        if stat.S_ISSOCK(mode):
            if len(paths) > 1:
                raise CommandFailure(f"ssh agent {identity}: only one socket can be given, and no keys beside it")
            return SocketAgent(path)
    return KeyAgent(paths)


def serve(receive: Callable[[int], bytes], send: Callable[[bytes], Any], agent: Agent, first: bytes = b"") -> None:
    """Answer a step until it hangs up; `first` is what it has said so far. Raises OSError."""
    held = first

    def read(size: int) -> bytes:
        nonlocal held
        if not held:
            return receive(size)
        given, held = held[:size], held[size:]
        return given

    ask = agent.open()
    while message := read_message(read):
        send(_framed(ask(message) if message[0] in (_LIST, _SIGN) else _REFUSED))


def read_message(receive: Callable[[int], bytes]) -> bytes:
    """One message without its length; "" at the end of the stream, and for what is none."""
    length = int.from_bytes(_exactly(receive, 4), "big")
    return _exactly(receive, length) if 0 < length <= _MESSAGE_LIMIT_BYTES else b""


def _exactly(receive: Callable[[int], bytes], size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = receive(size - len(found))
        if not piece:
            return b""
        found += piece
    return found


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _take(content: bytes) -> tuple[bytes, bytes]:
    """A string at the beginning, and what follows."""
    end = 4 + int.from_bytes(content[:4], "big")
    return content[4:end], content[end:]


def _number(value: int) -> bytes:
    return _string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _read_key(path: str) -> tuple[Any, bytes]:
    """A private key and its public half as ssh writes it."""
    from binascii import a2b_base64

    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        with open(path, "rb") as file:
            content = file.read(_KEY_LIMIT_BYTES)
    except OSError as error:
        raise CommandFailure(f"open {path}: {(error.strerror or '').lower()}") from None
    is_ssh = b"OPENSSH PRIVATE KEY" in content
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    try:
        key = load(content, None)
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except TypeError:
        raise CommandFailure(f"failed to parse {path}: it is protected by a passphrase; add it to an ssh-agent") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = "; add it to an ssh-agent" if b"ENCRYPTED" in content else ""
        raise CommandFailure(f"failed to parse {path}: {str(error) or 'no key that is known here'}{hint}") from None
    return key, a2b_base64(public.split()[1])


def _sign(key: Any, blob: bytes, data: bytes, flags: int) -> bytes:
    """A signature as ssh writes it: the algorithm's name, then the signature's own form. "" where only SHA-1 would do."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    name = _take(blob)[0]
    if isinstance(key, rsa.RSAPrivateKey):
        chosen: hashes.HashAlgorithm
        if flags & _RSA_SHA2_512:
            name, chosen = b"rsa-sha2-512", hashes.SHA512()
        elif flags & _RSA_SHA2_256:
            name, chosen = b"rsa-sha2-256", hashes.SHA256()
        else:
            return b""
        return _string(name) + _string(key.sign(data, padding.PKCS1v15(), chosen))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digests = {256: hashes.SHA256(), 384: hashes.SHA384()}
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digests.get(key.curve.key_size, hashes.SHA512()))))
        return _string(name) + _string(_number(r) + _number(s))
    return _string(name) + _string(key.sign(data))

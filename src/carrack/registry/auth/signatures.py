"""Keys that sign tokens: read from JWK sets (RFC 7517) and PEM files, used by the algorithms of RFC 7518 and RFC 8037 they are for.

`cryptography` is imported when the first key is read: a registry without token authentication never pays for it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from carrack.errors import InvalidParameter

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_SMALLEST_RSA_BITS = 2048
Verify = Callable[[str, bytes, bytes], bool]


class TokenMalformed(Exception):
    """A token that is not to be believed; the text says why."""


@dataclass(frozen=True, slots=True)
class SignatureKey:
    """One configured public key."""

    key_id: str
    algorithms: frozenset[str]
    verify: Verify

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signed`, by an algorithm this key is for."""
        return algorithm in self.algorithms and self.verify(algorithm, signed, signature)


class _Jwk(msgspec.Struct):
    kty: str
    kid: str = ""
    use: str = ""
    alg: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    n: str = ""
    e: str = ""


class _JwkSet(msgspec.Struct):
    keys: list[_Jwk]


def decode_segment(text: str) -> bytes:
    """base64url without padding (RFC 7515, 2). Raises TokenMalformed."""
    if "=" in text or "+" in text or "/" in text:
        raise TokenMalformed("it is not base64url")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenMalformed("it is not base64url") from error


def read_keys(content: bytes) -> list[SignatureKey]:
    """The keys of a JWK set, or of a PEM file of public keys and certificates. Raises InvalidParameter."""
    try:
        keys = _read_jwk_set(content) if content.lstrip().startswith(b"{") else _read_pem(content)
    except (ValueError, TokenMalformed, msgspec.DecodeError) as error:
        raise InvalidParameter(f"no usable keys: {error}") from error
    if not keys:
        raise InvalidParameter("no usable keys: want a JWK set, or PEM public keys or certificates")
    return keys


def _read_jwk_set(content: bytes) -> list[SignatureKey]:
    return [_from_jwk(jwk) for jwk in msgspec.json.decode(content, type=_JwkSet).keys if jwk.use in ("", "sig")]


def _from_jwk(jwk: _Jwk) -> SignatureKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    def number(text: str) -> int:
        return int.from_bytes(decode_segment(text), "big")

    key: Any
    if jwk.kty == "RSA":
        key = rsa.RSAPublicNumbers(number(jwk.e), number(jwk.n)).public_key()
    elif jwk.kty == "EC" and jwk.crv in ("P-256", "P-384"):
        curve: ec.EllipticCurve = ec.SECP256R1() if jwk.crv == "P-256" else ec.SECP384R1()
        key = ec.EllipticCurvePublicNumbers(number(jwk.x), number(jwk.y), curve).public_key()
    elif jwk.kty == "OKP" and jwk.crv == "Ed25519":
        key = ed25519.Ed25519PublicKey.from_public_bytes(decode_segment(jwk.x))
    else:
        raise ValueError(f"key type {jwk.kty} {jwk.crv} is not supported")
    return _key(key, jwk.kid, jwk.alg)


def _read_pem(content: bytes) -> list[SignatureKey]:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    keys: list[SignatureKey] = []
    for block in content.split(b"-----BEGIN ")[1:]:
        pem = b"-----BEGIN " + block
        if block.startswith(b"CERTIFICATE"):
            keys.append(_key(load_pem_x509_certificate(pem).public_key(), "", ""))
        elif block.startswith((b"PUBLIC KEY", b"RSA PUBLIC KEY")):
            keys.append(_key(load_pem_public_key(pem), "", ""))
        else:
            raise ValueError(f"PEM block {block.split(b'-----')[0].decode('ascii', 'replace')} is no public key")
    return keys


def _key(key: object, key_id: str, algorithm: str) -> SignatureKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _SMALLEST_RSA_BITS:
            raise ValueError(f"RSA key of {key.key_size} bits is too small")
        algorithms, verify = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")), _rsa(key)
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
        algorithms, verify = frozenset(("ES256" if key.curve.name == "secp256r1" else "ES384",)), _ecdsa(key)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        algorithms, verify = frozenset(("EdDSA",)), _believing(key.verify)
    else:
        raise ValueError(f"keys of type {type(key).__name__} are not supported")
    return SignatureKey(key_id, algorithms & {algorithm} if algorithm else algorithms, verify)


def _believing(check: Callable[[bytes, bytes], None]) -> Verify:
    """From cryptography's way (an exception) to ours (an answer)."""
    from cryptography.exceptions import InvalidSignature

    def verify(_algorithm: str, signed: bytes, signature: bytes) -> bool:
        try:
            check(signature, signed)
        except InvalidSignature:
            return False
        return True

    return verify


def _rsa(key: RSAPublicKey) -> Verify:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    by_name: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
        "256": hashes.SHA256,
        "384": hashes.SHA384,
        "512": hashes.SHA512,
    }

    def verify(algorithm: str, signed: bytes, signature: bytes) -> bool:
        function = by_name[algorithm[2:]]()
        pss = padding.PSS(padding.MGF1(function), padding.PSS.DIGEST_LENGTH)
        try:
            key.verify(signature, signed, pss if algorithm.startswith("PS") else padding.PKCS1v15(), function)
        except InvalidSignature:
            return False
        return True

    return verify


def _ecdsa(key: EllipticCurvePublicKey) -> Verify:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    size = (key.key_size + 7) // 8
    function = hashes.SHA256() if size == 32 else hashes.SHA384()

    def verify(_algorithm: str, signed: bytes, signature: bytes) -> bool:
        if len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        try:
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(function))
        except InvalidSignature:
            return False
        return True

    return verify

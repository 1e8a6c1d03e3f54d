"""A token service of the tests' own: keys, and tokens that say whatever a test wants said."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

REALM, SERVICE, ISSUER = "https://auth.example/token", "registry.example", "auth.example"
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int) -> str:
    return segment(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def new_key(kind: str) -> PrivateKey:
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1() if kind == "ES256" else ec.SECP384R1())
    return rsa.generate_private_key(65537, 2048)


def jwk(key: PrivateKey, **fields: str) -> dict[str, str]:
    """The public half as a JSON Web Key."""
    public = key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": segment(public.public_bytes_raw()), **fields}
    if isinstance(public, ec.EllipticCurvePublicKey):
        size = public.key_size // 8
        point = public.public_numbers()
        curve = "P-256" if size == 32 else "P-384"
        return {
            "kty": "EC",
            "crv": curve,
            "x": segment(point.x.to_bytes(size, "big")),
            "y": segment(point.y.to_bytes(size, "big")),
            **fields,
        }
    numbers = public.public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **fields}


def pem(key: PrivateKey) -> bytes:
    """The public half as PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: PrivateKey, algorithm: str, signed: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = key.key_size // 8
        function: hashes.HashAlgorithm = hashes.SHA256() if size == 32 else hashes.SHA384()
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(function)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm.startswith("PS"):
        return key.sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256())
    return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def claims(*grants: tuple[str, str], **fields: object) -> dict[str, object]:
    """Good claims that grant ``(repository, "pull,push")``, with some changed."""
    now = time.time()
    access = [{"type": "repository", "name": name, "actions": actions.split(",")} for name, actions in grants]
    return {"iss": ISSUER, "aud": SERVICE, "sub": "ann", "exp": now + 300, "nbf": now - 5, "iat": now, "access": access, **fields}


def token(key: PrivateKey, algorithm: str, said: object, **header: object) -> str:
    """A signed token."""
    head = segment(json.dumps({"alg": algorithm, "typ": "JWT", **header}).encode())
    signed = f"{head}.{segment(json.dumps(said).encode())}"
    return f"{signed}.{segment(sign(key, algorithm, signed.encode()))}"


def service_options(*key_files: Path) -> list[str]:
    options = ["--token-realm", REALM, "--token-service", SERVICE, "--token-issuer", ISSUER]
    for file in key_files:
        options += ["--token-key", str(file)]
    return options

"""Content identity, after image-spec `descriptor.md` (Digests). Nothing here opens a file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from carrack.errors import InvalidParameter

_DIGEST = re.compile(r"([a-z0-9]+(?:[.+_-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_ENCODED = {"sha256": re.compile(r"[a-f0-9]{64}"), "sha512": re.compile(r"[a-f0-9]{128}")}


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The name of some bytes, written ``algorithm:encoded``."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:…`` or ``sha512:…``. Raises InvalidParameter on any other text."""
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise InvalidParameter("invalid digest format: want algorithm:hex")
        algorithm, encoded = match.groups()
        shape = _ENCODED.get(algorithm)
        if shape is None:
            raise InvalidParameter(f"unsupported digest algorithm {algorithm!r}")
        if shape.fullmatch(encoded) is None:
            raise InvalidParameter(f"invalid {algorithm} digest: wrong length or letters")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: bytes) -> Digest:
        """The sha256 digest of bytes in memory."""
        import hashlib

        return cls("sha256", hashlib.sha256(content).hexdigest())

    @property
    def short(self) -> str:
        """The twelve letters people read."""
        return self.encoded[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


def chain_id(diff_ids: list[Digest] | tuple[Digest, ...]) -> Digest | None:
    """The name of a stack of layers, lowest first (image-spec `config.md`, Layer ChainID); None for no layer."""
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = diff_id if chain is None else Digest.of(f"{chain} {diff_id}".encode())
    return chain

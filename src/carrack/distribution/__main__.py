"""A registry client as a program: `carrack manifest` runs it, since the command line itself knows no registry.

It reads one JSON order from stdin, does it, and writes one JSON answer to stdout: `{"failure": …, "kind": …}` when it could not.

    {"order": "fetch", "name": NAME, "insecure": BOOL, "login": X-REGISTRY-AUTH}
        → {"media_type": TEXT, "digest": TEXT, "raw": BASE64, "images": [{"media_type", "digest", "size", "raw", "config"}]}
    {"order": "push", "name": NAME, …, "media_type": TEXT, "raw": BASE64,
     "parts": [{"digest", "media_type", "raw", "from", "blobs"}]}
        → {"digest": TEXT}, after a line `{"pushed": DIGEST}` for each part
"""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from typing import Any

import msgspec

from carrack.distribution.credentials import Credentials, decode_header
from carrack.distribution.endpoints import RegistryOptions
from carrack.distribution.registry import Registries
from carrack.distribution.repository import Repository
from carrack.errors import CarrackError, NotFound
from carrack.oci.descriptor import Index, Manifest, decode_manifest
from carrack.oci.digest import Digest
from carrack.oci.reference import Reference

_CONFIG_LIMIT_BYTES = 8 << 20


def main() -> int:
    """Does the order on stdin."""
    order = msgspec.json.decode(sys.stdin.buffer.read())
    try:
        answer = _fetch(order) if order["order"] == "fetch" else _push(order)
    except CarrackError as error:
        _write({"failure": str(error), "kind": type(error).__name__})
        return 1
    _write(answer)
    return 0


def _write(document: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    sys.stdout.buffer.flush()


def _connect(order: dict[str, Any]) -> tuple[Registries, Reference, Credentials]:
    reference = Reference.parse(order["name"]).with_default_tag()
    insecure = (reference.domain,) if order.get("insecure") else ()
    return Registries(RegistryOptions(insecure=insecure)), reference, decode_header(order.get("login") or "")


def _fetch(order: dict[str, Any]) -> dict[str, Any]:
    """A manifest, and, when it is an index, the manifests in it, each with its image's configuration."""
    registries, reference, credentials = _connect(order)
    wanted = str(reference.digest or reference.tag)
    repository, (descriptor, content) = registries.find(reference, credentials, lambda found: found.manifest(wanted))
    answer: dict[str, Any] = {"media_type": descriptor.media_type, "digest": descriptor.digest, "raw": _text(content), "images": []}
    document = decode_manifest(content, descriptor.media_type)
    if isinstance(document, Manifest):
        image = {"media_type": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size, "raw": _text(content)}
        answer["images"].append({**image, "config": _text(_config(repository, document))})
        return answer
    for entry in document.manifests:
        found, raw = repository.manifest(entry.digest)
        inner = decode_manifest(raw, found.media_type)
        if isinstance(inner, Index):
            continue
        image = {"media_type": found.media_type, "digest": entry.digest, "size": len(raw), "raw": _text(raw)}
        answer["images"].append({**image, "config": _text(_config(repository, inner))})
    return answer


def _config(repository: Repository, manifest: Manifest) -> bytes:
    pieces, _ = repository.blob(manifest.config.name)
    content = b""
    for piece in pieces:
        content += piece
        if len(content) > _CONFIG_LIMIT_BYTES:
            return b"{}"
    return content


def _push(order: dict[str, Any]) -> dict[str, Any]:
    """Puts the manifests of an index, their blobs mounted from where they are, and then the index itself."""
    registries, reference, credentials = _connect(order)
    wanted = str(reference.tag or reference.digest)

    def ask(repository: Repository) -> Digest:
        for part in order["parts"]:
            for blob in part["blobs"] if part["from"] != reference.path else ():
                digest = Digest.parse(blob)
                if not repository.has_blob(digest) and not repository.mount(digest, part["from"]):
                    raise NotFound(f"blob {digest} is not in {part['from']}: push the image to this registry first")
            repository.put_manifest(part["digest"], part["media_type"], b64decode(part["raw"]))
            _write({"pushed": part["digest"]})
        return repository.put_manifest(wanted, order["media_type"], b64decode(order["raw"]))

    _, digest = registries.find(reference, credentials, ask, push=True)
    return {"digest": str(digest)}


def _text(content: bytes) -> str:
    return b64encode(content).decode()


if __name__ == "__main__":
    sys.exit(main())

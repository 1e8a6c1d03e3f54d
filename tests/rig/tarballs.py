"""Archives for tests, made with the standard library's tarfile and by hand, and images packed in each of the known formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, object]


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member: a file with content, or what `type` says."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mtime = 1_700_000_000
    for key, value in fields.items():
        setattr(member, key, value)
    return member, content


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", **{"type": tarfile.DIRTYPE, "mode": 0o755, **fields})


def symlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", **{"type": tarfile.SYMTYPE, "linkname": target, **fields})


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pieces(content: bytes, size: int = 100_000) -> Iterator[bytes]:
    """Content as a body arrives: bit by bit."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


@dataclass
class Packed:
    """An image in the making: layers, configuration, and the archives that hold it."""

    layers: list[bytes]
    """Uncompressed, lowest first."""
    tags: list[str] = field(default_factory=list)
    config: Json = field(default_factory=dict)
    architecture: str = "amd64"
    compressed: list[bytes] | None = None
    """The layers as blobs, when they are not plain."""

    @property
    def blobs(self) -> list[bytes]:
        return self.compressed if self.compressed is not None else self.layers

    @property
    def raw_config(self) -> bytes:
        document: Json = {
            "architecture": self.architecture,
            "os": "linux",
            "created": "2024-01-02T03:04:05.678901234Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": f"step {n}"} for n, _ in enumerate(self.layers)],
        }
        return json.dumps(document).encode()

    @property
    def id(self) -> str:
        return digest(self.raw_config)

    def gzipped(self) -> Packed:
        compressed = [gzip.compress(layer, 1, mtime=0) for layer in self.layers]
        return Packed(self.layers, self.tags, self.config, self.architecture, compressed)

    @property
    def manifest(self) -> bytes:
        kind = "application/vnd.oci.image.layer.v1.tar"
        document: Json = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", self.raw_config),
            "layers": [_descriptor(kind + _suffix(blob), blob) for blob in self.blobs],
        }
        return json.dumps(document).encode()

    def manifest_item(self, paths: Iterable[str] | None = None) -> Json:
        return {
            "Config": _path(self.raw_config),
            "RepoTags": self.tags or None,
            "Layers": list(paths) if paths is not None else [_path(blob) for blob in self.blobs],
        }

    def descriptor(self, name: str = "") -> Json:
        descriptor = _descriptor("application/vnd.oci.image.manifest.v1+json", self.manifest)
        descriptor["platform"] = {"architecture": self.architecture, "os": "linux"}
        if name:
            descriptor["annotations"] = {"io.containerd.image.name": name}
        return descriptor

    def members(self) -> dict[str, bytes]:
        """The blobs of its OCI layout."""
        return {_path(content): content for content in (self.raw_config, self.manifest, *self.blobs)}


STATEMENT = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
PREDICATE = "https://slsa.dev/provenance/v1"
"""What the attestation of `multi_platform` says, and of what kind it is."""


def docker_archive(*images: Packed) -> bytes:
    """What `docker save` made before version 25."""
    files: dict[str, bytes] = {}
    items: list[Json] = []
    for image in images:
        config_name = f"{hashlib.sha256(image.raw_config).hexdigest()}.json"
        paths = [f"{hashlib.sha256(b'v1' + blob).hexdigest()}/layer.tar" for blob in image.blobs]
        files[config_name] = image.raw_config
        for path, blob in zip(paths, image.blobs, strict=True):
            files[path] = blob
            files[path.replace("layer.tar", "VERSION")] = b"1.0"
            files[path.replace("layer.tar", "json")] = b"{}"
        items.append({"Config": config_name, "RepoTags": image.tags or None, "Layers": paths})
    return archive({**files, "manifest.json": json.dumps(items).encode(), "repositories": b"{}"})


def oci_archive(images: Mapping[str, Packed], *, index: Json | None = None, more: Mapping[str, bytes] | None = None) -> bytes:
    """An OCI image layout as a tar: name → image (the name may be empty)."""
    document = index or {"schemaVersion": 2, "manifests": [image.descriptor(name) for name, image in images.items()]}
    files = {path: content for image in images.values() for path, content in image.members().items()}
    return archive(
        {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(document).encode(), **files, **(more or {})}
    )


def dual_archive(*images: Packed) -> bytes:
    """What `docker save` makes now: both formats at once."""
    entries = [image.descriptor(f"docker.io/library/{tag}") for image in images for tag in image.tags]
    files = {path: content for image in images for path, content in image.members().items()}
    return archive(
        {
            **files,
            "index.json": json.dumps({"schemaVersion": 2, "manifests": entries}).encode(),
            "manifest.json": json.dumps([image.manifest_item() for image in images]).encode(),
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        }
    )


def multi_platform(name: str, *images: Packed, attestation: bool = False) -> bytes:
    """An OCI layout of one index with an image per platform, perhaps with an attestation beside them."""
    manifests = [image.descriptor() for image in images]
    more: dict[str, bytes] = {}
    if attestation:
        described, contents = attesting(images[0])
        more = {_path(content): content for content in contents}
        manifests.append(described)
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
    ).encode()
    target = _descriptor("application/vnd.oci.image.index.v1+json", index)
    target["annotations"] = {"io.containerd.image.name": name}
    files = {path: content for image in images for path, content in image.members().items()}
    return archive(
        {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [target]}).encode(),
            _path(index): index,
            **files,
            **more,
        }
    )


def attesting(image: Packed) -> tuple[Json, tuple[bytes, bytes, bytes]]:
    """A statement about an image, as BuildKit puts it: what the index says of it; its manifest, configuration and layer."""
    statement = _descriptor("application/vnd.in-toto+json", STATEMENT)
    proof = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
            "layers": [{**statement, "annotations": {"in-toto.io/predicate-type": PREDICATE}}],
        }
    ).encode()
    described = _descriptor("application/vnd.oci.image.manifest.v1+json", proof)
    described["platform"] = {"architecture": "unknown", "os": "unknown"}
    described["annotations"] = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": digest(image.manifest),
    }
    return described, (proof, b"{}", STATEMENT)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of plain files."""
    return tar(*(entry(name, content) for name, content in files.items()))


def _descriptor(media_type: str, content: bytes) -> Json:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def _path(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def _suffix(blob: bytes) -> str:
    if blob[:2] == b"\x1f\x8b":
        return "+gzip"
    return "+zstd" if blob[:4] == b"\x28\xb5\x2f\xfd" else ""

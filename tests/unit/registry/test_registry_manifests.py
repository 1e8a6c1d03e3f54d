"""What is read from manifests, and which documents are refused."""

from __future__ import annotations

import json

import pytest

from carrack.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from carrack.oci.digest import Digest
from carrack.registry.errors import ManifestInvalid, ManifestTooLarge
from carrack.registry.manifests import OCI_ARTIFACT, SCHEMA1_SIGNED, read_manifest, stored_facts, stored_media_type

ONE, TWO, THREE = (Digest.of(text) for text in (b"1", b"2", b"3"))


def part(content: Digest, **fields: object) -> dict[str, object]:
    return {"mediaType": "application/x", "digest": str(content), "size": 1, **fields}


def image(**fields: object) -> bytes:
    document = {"schemaVersion": 2, "config": part(ONE), "layers": [part(TWO)], **fields}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def index(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": [part(ONE), part(TWO)], **fields}).encode()


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_names_its_config_and_layers(media_type: str) -> None:
    facts = read_manifest(image(mediaType=media_type), media_type)
    assert facts.media_type == media_type
    assert facts.references == (ONE, TWO)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_names_its_manifests(media_type: str) -> None:
    facts = read_manifest(index(mediaType=media_type), media_type)
    assert (facts.blobs, facts.manifests) == ((), (ONE, TWO))


def test_an_artifact_manifest_names_its_blobs() -> None:
    content = json.dumps({"mediaType": OCI_ARTIFACT, "artifactType": "application/sbom", "blobs": [part(TWO)]}).encode()
    facts = read_manifest(content, OCI_ARTIFACT)
    assert (facts.blobs, facts.artifact_type) == ((TWO,), "application/sbom")


def test_an_artifact_type_falls_back_to_the_config_type() -> None:
    assert read_manifest(image(), OCI_MANIFEST).artifact_type == "application/x"
    assert read_manifest(image(artifactType="application/y"), OCI_MANIFEST).artifact_type == "application/y"
    assert read_manifest(index(), OCI_INDEX).artifact_type == ""


def test_subject_and_annotations_are_read() -> None:
    facts = read_manifest(image(subject=part(THREE), annotations={"a": "b"}), OCI_MANIFEST)
    assert (facts.subject, facts.annotations) == (THREE, {"a": "b"})
    assert THREE not in facts.references


def test_layers_that_live_elsewhere_need_not_be_here() -> None:
    foreign = part(THREE, mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", urls=["https://example.com/x"])
    assert THREE not in read_manifest(image(layers=[part(TWO), foreign]), DOCKER_MANIFEST).references
    plain = part(THREE, urls=["https://example.com/x"])
    assert THREE in read_manifest(image(layers=[plain]), OCI_MANIFEST).references


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", OCI_MANIFEST),
        (b"{", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b'"x"', OCI_MANIFEST),
        (b"\xff\xfe", OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
        (image(mediaType=OCI_MANIFEST), DOCKER_MANIFEST),
        (image(mediaType=7), OCI_MANIFEST),
        (image(manifests=[]), OCI_MANIFEST),
        (index(layers=[]), OCI_INDEX),
        (image(), OCI_INDEX),
        (image(schemaVersion=3), OCI_MANIFEST),
        (image(schemaVersion="2"), OCI_MANIFEST),
        (image(config=None), OCI_MANIFEST),
        (image(layers=None), OCI_MANIFEST),
        (image(layers={}), OCI_MANIFEST),
        (image(layers=[part(ONE, size=-1)]), OCI_MANIFEST),
        (image(layers=[part(ONE, size=10**30)]), OCI_MANIFEST),
        (image(layers=[part(ONE, digest="sha256:../../x")]), OCI_MANIFEST),
        (image(subject=part(ONE, digest="nonsense")), OCI_MANIFEST),
        (image(annotations={"a": 1}), OCI_MANIFEST),
        (json.dumps({"schemaVersion": 1, "fsLayers": []}).encode(), SCHEMA1_SIGNED),
        (image(), "text/plain"),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes, content_type: str) -> None:
    with pytest.raises(ManifestInvalid):
        read_manifest(content, content_type)


def test_a_manifest_beyond_four_mebibytes_is_too_large() -> None:
    with pytest.raises(ManifestTooLarge):
        read_manifest(image(annotations={"a": "x" * (4 << 20)}), OCI_MANIFEST)
    assert read_manifest(image(annotations={"a": "x" * (4 << 20 - 1)}), OCI_MANIFEST)


def test_too_many_descriptors_are_refused() -> None:
    with pytest.raises(ManifestInvalid):
        read_manifest(image(layers=[part(ONE)] * 10_001), OCI_MANIFEST)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        (image(), OCI_MANIFEST),
        (index(), OCI_INDEX),
        (json.dumps({"schemaVersion": 1, "fsLayers": [], "signatures": []}).encode(), SCHEMA1_SIGNED),
    ],
)
def test_a_stored_manifest_tells_its_media_type(content: bytes, media_type: str) -> None:
    assert stored_media_type(content) == media_type


def test_a_stored_schema_1_manifest_still_protects_its_layers() -> None:
    content = json.dumps({"schemaVersion": 1, "fsLayers": [{"blobSum": str(ONE)}, {"blobSum": str(TWO)}]}).encode()
    assert stored_facts(content).blobs == (ONE, TWO)

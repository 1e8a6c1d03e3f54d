"""References, digests, platforms and manifests as the standards write them."""

import json

import pytest

from carrack.errors import InvalidParameter
from carrack.oci.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Index, Manifest, decode_manifest
from carrack.oci.digest import Digest, chain_id
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("me/app:1", "docker.io/me/app:1", "me/app:1"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/a/b:v", "localhost:5000/a/b:v", "localhost:5000/a/b:v"),
        ("index.docker.io/library/n", "docker.io/library/n", "n"),
        ("docker.io/n", "docker.io/library/n", "n"),
        (f"r.example/x@{D}", f"r.example/x@{D}", f"r.example/x@{D}"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("a__b/c.d-e", "docker.io/a__b/c.d-e", "a__b/c.d-e"),
    ],
)
def test_a_short_name_has_one_full_form(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar) == (full, familiar)


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a//b", "a:", "a:b:c", "-a", "a/-b", "x@sha256:1", "a" * 64, "a b", "a/" + "b" * 255, "x:" + "t" * 129]
)
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        Reference.parse(text)


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:xyz", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:" + "a" * 63, "sha256:../" + "a" * 61]
)
def test_a_malformed_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        Digest.parse(text)


def test_a_stack_of_one_layer_is_named_like_the_layer() -> None:
    layer = Digest.parse(D)
    assert chain_id([layer]) == layer
    assert chain_id([layer, layer]) == Digest.of(f"{D} {D}".encode())
    assert chain_id([]) is None


@pytest.mark.parametrize(
    ("wish", "offer", "fits"),
    [
        ("linux/amd64", "linux/x86_64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_a_platform_satisfies_a_wish(wish: str, offer: str, fits: bool) -> None:
    assert Platform.parse(wish).matches(Platform.parse(offer)) is fits


DESCRIPTOR = {"mediaType": "x", "digest": D, "size": 1}
IMAGE: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": DESCRIPTOR, "layers": []}
LIST: dict[str, object] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_a_manifest_and_an_index_are_told_apart() -> None:
    assert isinstance(decode_manifest(json.dumps(IMAGE).encode()), Manifest)
    assert isinstance(decode_manifest(json.dumps(LIST).encode()), Index)


@pytest.mark.parametrize(
    "document",
    [
        IMAGE | LIST,
        LIST | {"mediaType": OCI_MANIFEST},
        IMAGE | {"mediaType": OCI_INDEX},
        IMAGE | {"schemaVersion": 1},
        {"fsLayers": []},
        [],
        IMAGE | {"config": DESCRIPTOR | {"size": -1}},
        IMAGE | {"config": DESCRIPTOR | {"digest": "sha256:1"}},
        IMAGE | {"layers": [{}]},
    ],
)
def test_a_manifest_that_could_be_two_things_or_none_is_refused(document: object) -> None:
    with pytest.raises(InvalidParameter):
        decode_manifest(json.dumps(document).encode())


def test_a_manifest_is_what_its_server_said() -> None:
    with pytest.raises(InvalidParameter, match="not"):
        decode_manifest(json.dumps(IMAGE).encode(), DOCKER_MANIFEST)


def test_a_manifest_nested_too_deeply_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        decode_manifest(b'{"a":' * 100_000)

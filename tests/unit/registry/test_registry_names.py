"""The grammar of repository names, tags and paths: nothing outside it reaches a store."""

from __future__ import annotations

import pytest

from carrack.registry.errors import DigestInvalid, ManifestInvalid, NameInvalid
from carrack.registry.names import Kind, Target, content_digest, is_upload_id, parse_path, repository_name, tag_name, tag_or_digest

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/", Target(Kind.BASE)),
        ("/v2", Target(Kind.BASE)),
        ("/v2/_catalog", Target(Kind.CATALOG)),
        ("/v2/a/tags/list", Target(Kind.TAGS, "a")),
        ("/v2/a/b/c/manifests/latest", Target(Kind.MANIFEST, "a/b/c", "latest")),
        (f"/v2/a/manifests/{DIGEST}", Target(Kind.MANIFEST, "a", DIGEST)),
        (f"/v2/a/blobs/{DIGEST}", Target(Kind.BLOB, "a", DIGEST)),
        ("/v2/a/blobs/uploads/", Target(Kind.UPLOADS, "a")),
        ("/v2/a/blobs/uploads", Target(Kind.UPLOADS, "a")),
        ("/v2/a/blobs/uploads/some-id", Target(Kind.UPLOAD, "a", "some-id")),
        (f"/v2/a/referrers/{DIGEST}", Target(Kind.REFERRERS, "a", DIGEST)),
        ("/v2/tags/list/tags/list", Target(Kind.TAGS, "tags/list")),
        ("/v2/a/manifests/manifests/x", Target(Kind.MANIFEST, "a/manifests", "x")),
        ("/v2/x/blobs/uploads/blobs/" + DIGEST, Target(Kind.BLOB, "x/blobs/uploads", DIGEST)),
    ],
)
def test_each_endpoint_is_found_by_its_path(path: str, target: Target) -> None:
    assert parse_path(path) == target


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2/a", "/v2/a/manifests/", "/v2/a/tags", "/v2//", "/v2/manifests/x", "/health"])
def test_other_paths_are_no_endpoint(path: str) -> None:
    assert parse_path(path) is None


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        "A",
        "a_",
        "_a",
        "a..b",
        "a/.b",
        "a\n",
        "a\x00b",
        "ä",
        "a b",
        "a%2fb",
        ".",
        "a___b",
        "a" * 230,
    ],
)
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        repository_name(name)
    with pytest.raises(NameInvalid):
        parse_path(f"/v2/{name}/tags/list")


@pytest.mark.parametrize("name", ["a", "a/b", "a-b", "a--b", "a.b", "a_b", "a__b", "0/1/2", "a" * 229])
def test_a_name_inside_the_grammar_is_taken(name: str) -> None:
    assert repository_name(name) == name


def test_a_hostile_name_is_judged_quickly() -> None:
    with pytest.raises(NameInvalid):
        repository_name("a-" * 114 + "!")


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a" * 129, "a\n", "ä", "a b", ".."])
def test_a_tag_outside_the_grammar_is_refused(tag: str) -> None:
    with pytest.raises(ManifestInvalid):
        tag_name(tag)


def test_a_reference_with_a_colon_is_a_digest() -> None:
    assert str(tag_or_digest(DIGEST)) == DIGEST
    assert tag_or_digest("v1.0_x-Y") == "v1.0_x-Y"


@pytest.mark.parametrize(
    "text", ["sha256:short", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:../../etc/passwd", "", "sha256:" + "a" * 64 + "\n"]
)
def test_a_digest_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        content_digest(text)


@pytest.mark.parametrize("text", ["..", "x", "00000000-0000-0000-0000-00000000000", "00000000-0000-0000-0000-00000000000G"])
def test_only_ids_of_our_own_shape_are_upload_ids(text: str) -> None:
    assert not is_upload_id(text)

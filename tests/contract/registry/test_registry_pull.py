"""distribution-spec, "Pull" and "Content Discovery", requirement by requirement, against a running server."""

from __future__ import annotations

import json

import pytest

from tests.contract.registry.live_registry import OCI_INDEX, OCI_MANIFEST, Client, LiveRegistry, sha256

ABSENT = sha256(b"nobody has this")


def subject_of(digest: str) -> dict[str, object]:
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": 2}


# end-1


def test_the_base_says_which_protocol_this_is(client: Client) -> None:
    answer = client.get("/v2/")
    assert (answer.status, answer.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")
    assert client.head("/v2/").status == 200


def test_the_base_without_its_slash_leads_to_the_base(client: Client) -> None:
    answer = client.get("/v2")
    assert (answer.status, answer.headers["Location"]) == (301, "/v2/")


# end-2


def test_a_blob_is_pulled_with_its_digest_and_length(client: Client, repo: str) -> None:
    digest = client.push_blob(repo, b"some bytes")
    answer = client.get(f"/v2/{repo}/blobs/{digest}")
    assert (answer.status, answer.body) == (200, b"some bytes")
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Content-Length"] == "10"


def test_a_blob_is_checked_by_head(client: Client, repo: str) -> None:
    digest = client.push_blob(repo, b"some bytes")
    answer = client.head(f"/v2/{repo}/blobs/{digest}")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "10", b"")
    assert answer.headers["Docker-Content-Digest"] == digest


def test_a_blob_the_repository_does_not_hold_is_unknown(client: Client, repo: str) -> None:
    client.push_blob(repo, b"x")
    answer = client.get(f"/v2/{repo}/blobs/{ABSENT}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
    assert client.head(f"/v2/{repo}/blobs/{ABSENT}").status == 404


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=9-100", 206, b"9", "bytes 9-9/10"),
        ("bytes=0-0,5-6", 200, b"0123456789", None),
        ("nonsense", 200, b"0123456789", None),
        ("bytes=10-", 416, b"", "bytes */10"),
    ],
)
def test_a_blob_is_pulled_by_range(
    client: Client, repo: str, header: str, status: int, body: bytes, content_range: str | None
) -> None:
    digest = client.push_blob(repo, b"0123456789")
    answer = client.get(f"/v2/{repo}/blobs/{digest}", Range=header)
    assert (answer.status, answer.body, answer.headers.get("Content-Range")) == (status, body, content_range)


def test_an_interrupted_pull_goes_on_only_in_the_same_blob(client: Client, repo: str) -> None:
    digest = client.push_blob(repo, b"0123456789")
    path = f"/v2/{repo}/blobs/{digest}"
    entity_tag = client.get(path).headers["ETag"]
    assert client.get(path, Range="bytes=5-", If_Range=entity_tag).body == b"56789"
    assert client.get(path, Range="bytes=5-", If_Range='"other"').body == b"0123456789"


def test_what_a_client_has_is_not_sent_again(client: Client, repo: str) -> None:
    blob = f"/v2/{repo}/blobs/{client.push_blob(repo, b'x')}"
    manifest = f"/v2/{repo}/manifests/{client.push_image(repo, 'v1')}"
    for path in (blob, manifest, f"/v2/{repo}/manifests/v1"):
        answer = client.get(path, If_None_Match=client.get(path).headers["ETag"])
        assert (answer.status, answer.body) == (304, b"")
        assert client.get(path, If_None_Match='"something else"').status == 200


# end-3


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_is_pulled_by_tag_and_by_digest(client: Client, repo: str, method: str) -> None:
    document = client.image(repo)
    content = json.dumps(document, indent=3).encode()
    client.put_manifest(repo, "v1", content)
    for reference in ("v1", sha256(content)):
        answer = client.ask(method, f"/v2/{repo}/manifests/{reference}", Accept=OCI_MANIFEST)
        assert answer.status == 200
        assert answer.body == (content if method == "GET" else b"")
        assert answer.headers["Content-Type"] == OCI_MANIFEST
        assert answer.headers["Docker-Content-Digest"] == sha256(content)
        assert answer.headers["Content-Length"] == str(len(content))


def test_a_manifest_that_is_not_there_is_unknown(client: Client, repo: str) -> None:
    client.push_image(repo, "v1")
    for reference in ("v2", ABSENT):
        answer = client.get(f"/v2/{repo}/manifests/{reference}")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert client.head(f"/v2/{repo}/manifests/{reference}").status == 404


def test_a_repository_that_is_not_there_is_not_found(client: Client, repo: str) -> None:
    assert client.get(f"/v2/{repo}/manifests/latest").status == 404
    assert client.get(f"/v2/{repo}/blobs/{ABSENT}").status == 404
    answer = client.get(f"/v2/{repo}/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


# end-8


def test_tags_are_listed_in_byte_order(client: Client, repo: str) -> None:
    for tag in ("b", "a", "C", "10", "9"):
        client.push_image(repo, tag)
    answer = client.get(f"/v2/{repo}/tags/list")
    assert (answer.status, answer.json) == (200, {"name": repo, "tags": ["10", "9", "C", "a", "b"]})
    assert "Link" not in answer.headers


def test_tags_come_page_by_page(client: Client, repo: str) -> None:
    for tag in ("a", "b", "c", "d", "e"):
        client.push_image(repo, tag)
    path, pages = f"/v2/{repo}/tags/list?n=2", []
    while path:
        answer = client.get(path)
        pages.append(answer.json["tags"])
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('; rel="next"')
        path = link.partition(">")[0].removeprefix("<")
    assert pages == [["a", "b"], ["c", "d"], ["e"]]


def test_a_page_may_begin_after_a_tag_that_is_gone(client: Client, repo: str) -> None:
    for tag in ("a", "c"):
        client.push_image(repo, tag)
    assert client.get(f"/v2/{repo}/tags/list?last=b").json["tags"] == ["c"]
    assert client.get(f"/v2/{repo}/tags/list?last=c").json["tags"] == []


def test_a_page_of_none_is_empty_and_has_no_next(client: Client, repo: str) -> None:
    client.push_image(repo, "a")
    answer = client.get(f"/v2/{repo}/tags/list?n=0")
    assert (answer.json["tags"], answer.headers.get("Link")) == ([], None)


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "%D9%A3"])
def test_a_page_of_nonsense_is_refused(client: Client, repo: str, number: str) -> None:
    client.push_image(repo, "a")
    for path in (f"/v2/{repo}/tags/list", "/v2/_catalog"):
        answer = client.get(f"{path}?n={number}")
        assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


def test_the_catalog_pages_through_all_repositories(client: Client, repo: str) -> None:
    names = [f"{repo}/{name}" for name in ("a", "a-b", "a/b", "z")]
    for name in names:
        client.push_blob(name, b"x")
    path, seen = "/v2/_catalog?n=3", []
    while path:
        answer = client.get(path)
        assert len(answer.json["repositories"]) <= 3
        seen += answer.json["repositories"]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert seen == sorted(set(seen))
    assert set(names) <= set(seen)


# end-12


def test_referrers_are_listed_with_type_and_annotations(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    sbom = client.push_image(
        repo, "sbom", "sbom", subject=subject_of(image), artifactType="application/sbom", annotations={"made": "today"}
    )
    answer = client.get(f"/v2/{repo}/referrers/{image}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, OCI_INDEX)
    assert (answer.json["schemaVersion"], answer.json["mediaType"]) == (2, OCI_INDEX)
    size = int(client.head(f"/v2/{repo}/manifests/{sbom}").headers["Content-Length"])
    assert answer.json["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": sbom,
            "size": size,
            "artifactType": "application/sbom",
            "annotations": {"made": "today"},
        }
    ]


def test_a_referrer_without_a_type_has_its_configs(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    client.push_image(repo, "signature", "s", subject=subject_of(image))
    [descriptor] = client.get(f"/v2/{repo}/referrers/{image}").json["manifests"]
    assert descriptor["artifactType"] == "application/vnd.oci.image.config.v1+json"


def test_an_index_that_refers_has_a_type_only_when_it_says_one(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject_of(image)}
    client.put_manifest(repo, "plain", index, OCI_INDEX)
    client.put_manifest(repo, "typed", {**index, "artifactType": "application/x"}, OCI_INDEX)
    descriptors = client.get(f"/v2/{repo}/referrers/{image}").json["manifests"]
    assert sorted(descriptor.get("artifactType", "") for descriptor in descriptors) == ["", "application/x"]


def test_referrers_that_another_registry_took_are_found(shared_registry: LiveRegistry, repo: str) -> None:
    """What was pushed before the API was there, or while registry:2 had the folder again, has no entry under its subject."""
    client = shared_registry.client
    image = client.push_image(repo, "v1")
    folder = shared_registry.root / f"docker/registry/v2/repositories/{repo}"
    for number in (1, 2):
        assert len(client.get(f"/v2/{repo}/referrers/{image}").json["manifests"]) == number - 1
        revisions = folder / "_manifests/revisions/sha256"
        digest = client.push_image(repo, f"r{number}", f"r{number}", subject=subject_of(image))
        encoded = digest.removeprefix("sha256:")
        (folder / f"_referrers/sha256/{image.removeprefix('sha256:')}/sha256/{encoded}/link").unlink()
        (revisions / encoded).rename(revisions / "away")  # and back: as a registry that knows only this directory would
        (revisions / "away").rename(revisions / encoded)
    assert len(client.get(f"/v2/{repo}/referrers/{image}").json["manifests"]) == 2


def test_referrers_are_filtered_by_type(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    for kind in ("application/a", "application/b"):
        client.push_image(repo, kind[-1], kind, subject=subject_of(image), artifactType=kind)
    answer = client.get(f"/v2/{repo}/referrers/{image}?artifactType=application/b")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [descriptor["artifactType"] for descriptor in answer.json["manifests"]] == ["application/b"]


def test_referrers_come_page_by_page(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    pushed = {client.push_image(repo, f"r{n}", f"{n}", subject=subject_of(image)) for n in range(5)}
    path, pages = f"/v2/{repo}/referrers/{image}?n=2", []
    for _ in range(9):
        answer = client.get(path)
        pages.append([descriptor["digest"] for descriptor in answer.json["manifests"]])
        if "Link" not in answer.headers:
            break
        path = answer.headers["Link"].partition(">")[0].removeprefix("<")
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {digest for page in pages for digest in page} == pushed


def test_a_digest_nobody_refers_to_has_an_empty_list(client: Client, repo: str) -> None:
    client.push_image(repo, "v1")
    for name in (repo, f"{repo}/never/pushed"):
        answer = client.get(f"/v2/{name}/referrers/{ABSENT}")
        assert (answer.status, answer.json["manifests"]) == (200, [])


def test_referrers_of_a_malformed_digest_are_refused(client: Client, repo: str) -> None:
    answer = client.get(f"/v2/{repo}/referrers/sha256:short")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_referrers_of_another_repository_are_not_listed(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    client.push_image(f"{repo}/other", "x", "x", subject=subject_of(image))
    assert client.get(f"/v2/{repo}/referrers/{image}").json["manifests"] == []


# Everything else


@pytest.mark.parametrize("path", ["/v2/a/unknown", "/v1/repositories", "/v2/a/manifests/", "/nothing"])
def test_what_is_no_endpoint_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/"),
        ("DELETE", "/v2/_catalog"),
        ("PUT", "/v2/a/tags/list"),
        ("POST", "/v2/a/manifests/v1"),
        ("PUT", f"/v2/a/blobs/{ABSENT}"),
        ("GET", "/v2/a/blobs/uploads/"),
        ("POST", f"/v2/a/referrers/{ABSENT}"),
        ("OPTIONS", "/v2/"),
    ],
)
def test_a_method_that_is_not_offered_is_told_which_are(client: Client, method: str, path: str) -> None:
    answer = client.ask(method, path)
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.headers["Allow"]


def test_head_is_get_without_a_body_everywhere(client: Client, repo: str) -> None:
    digest = client.push_image(repo, "v1")
    upload = client.start_upload(repo)
    paths = ["/v2/", "/v2/_catalog", f"/v2/{repo}/tags/list", f"/v2/{repo}/referrers/{digest}", f"/v2/{repo}/manifests/v1", upload]
    for path in paths:
        got, asked = client.get(path), client.head(path)
        assert (asked.status, asked.body) == (got.status, b""), path
        for name in ("Content-Length", "Content-Type", "Docker-Content-Digest", "ETag", "Range", "Location", "Link"):
            if path != "/v2/_catalog":  # other tests push meanwhile
                assert asked.headers.get(name) == got.headers.get(name), (path, name)


def test_every_answer_names_the_protocol(client: Client, repo: str) -> None:
    for answer in (client.get("/v2/"), client.get("/nothing"), client.get(f"/v2/{repo}/tags/list"), client.ask("POST", "/v2/")):
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"

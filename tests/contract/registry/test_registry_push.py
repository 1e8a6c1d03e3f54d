"""distribution-spec, "Push" and "Content Management", requirement by requirement, against a running server."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.contract.registry.live_registry import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Client, sha256

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ABSENT = sha256(b"nobody has this")
CHUNK = "application/octet-stream"


def holds(client: Client, repo: str, content: bytes) -> bool:
    answer = client.get(f"/v2/{repo}/blobs/{sha256(content)}")
    assert answer.status in (200, 404)
    assert answer.status == 404 or answer.body == content
    return answer.status == 200


# Monolithic: end-4a + end-6, end-4b


def test_an_upload_begins_with_a_place_to_go_on(client: Client, repo: str) -> None:
    answer = client.ask("POST", f"/v2/{repo}/blobs/uploads/")
    assert answer.status == 202
    assert answer.headers["Location"] == f"/v2/{repo}/blobs/uploads/{answer.headers['Docker-Upload-UUID']}"
    assert answer.headers["Range"] == "0-0"


def test_a_blob_is_pushed_by_post_and_put(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    answer = client.ask("PUT", f"{location}?digest={sha256(b'whole')}", b"whole", Content_Type=CHUNK)
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == sha256(b"whole")
    assert client.get(answer.headers["Location"]).body == b"whole"


def test_a_blob_is_pushed_by_one_post(client: Client, repo: str) -> None:
    answer = client.ask("POST", f"/v2/{repo}/blobs/uploads/?digest={sha256(b'at once')}", b"at once", Content_Type=CHUNK)
    assert answer.status == 201
    assert client.get(answer.headers["Location"]).body == b"at once"


def test_one_post_with_a_wrong_digest_leaves_nothing(client: Client, repo: str) -> None:
    answer = client.ask("POST", f"/v2/{repo}/blobs/uploads/?digest={ABSENT}", b"at once")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert not holds(client, repo, b"at once")
    assert client.head(f"/v2/{repo}/blobs/{ABSENT}").status == 404


def test_an_empty_blob_is_a_blob(client: Client, repo: str) -> None:
    client.push_blob(repo, b"")
    assert holds(client, repo, b"")


@pytest.mark.parametrize(
    "digest", ["", "sha256:short", "md5:" + "a" * 32, "sha256:" + "Z" * 64, "..%2F..%2Fetc%2Fpasswd", "sha256:" + "a" * 63 + "%0A"]
)
def test_a_malformed_digest_is_refused_and_the_upload_goes_on(client: Client, repo: str, digest: str) -> None:
    location = client.start_upload(repo)
    answer = client.ask("PUT", f"{location}?digest={digest}", b"x")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert client.ask("PUT", f"{location}?digest={sha256(b'x')}", b"x").status == 201


def test_a_wrong_digest_is_refused_and_nothing_is_kept(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    answer = client.ask("PUT", f"{location}?digest={ABSENT}", b"other bytes")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert client.head(f"/v2/{repo}/blobs/{ABSENT}").status == 404
    assert not holds(client, repo, b"other bytes")


def test_a_blob_named_by_sha512_is_pushed_and_pulled(client: Client, repo: str) -> None:
    digest = "sha512:" + hashlib.sha512(b"long").hexdigest()
    started = client.ask("POST", f"/v2/{repo}/blobs/uploads/?digest-algorithm=sha512")
    assert client.ask("PUT", f"{started.headers['Location']}?digest={digest}", b"long").status == 201
    answer = client.get(f"/v2/{repo}/blobs/{digest}")
    assert (answer.body, answer.headers["Docker-Content-Digest"]) == (b"long", digest)


def test_an_unknown_digest_algorithm_is_refused(client: Client, repo: str) -> None:
    answer = client.ask("POST", f"/v2/{repo}/blobs/uploads/?digest-algorithm=crc32")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


# Chunked: end-5, end-13


def test_a_blob_is_pushed_in_chunks(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    for start, chunk in ((0, b"01234"), (5, b"567"), (8, b"89")):
        last = start + len(chunk) - 1
        answer = client.ask("PATCH", location, chunk, Content_Range=f"{start}-{last}", Content_Type=CHUNK)
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{last}")
        location = answer.headers["Location"]
    assert client.ask("PUT", f"{location}?digest={sha256(b'0123456789')}").status == 201
    assert holds(client, repo, b"0123456789")


def test_the_last_chunk_may_come_with_the_closing_put(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    client.ask("PATCH", location, b"01234", Content_Range="0-4")
    assert client.ask("PUT", f"{location}?digest={sha256(b'0123456789')}", b"56789", Content_Range="5-9").status == 201
    assert holds(client, repo, b"0123456789")


def test_a_stream_of_unknown_length_is_taken(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    pieces = [b"a" * 70_000, b"b" * 3, b"c" * 1_500_000]
    answer = client.ask("PATCH", location, iter(pieces), Transfer_Encoding="chunked")
    assert (answer.status, answer.headers["Range"]) == (202, "0-1570002")
    assert client.ask("PUT", f"{location}?digest={sha256(b''.join(pieces))}").status == 201
    assert holds(client, repo, b"".join(pieces))


@pytest.mark.parametrize("content_range", ["3-7", "6-10", "1000-1004"])
def test_a_chunk_out_of_order_is_refused_with_where_to_go_on(client: Client, repo: str, content_range: str) -> None:
    location = client.start_upload(repo)
    client.ask("PATCH", location, b"01234", Content_Range="0-4")
    answer = client.ask("PATCH", location, b"56789", Content_Range=content_range)
    assert (answer.status, answer.code, answer.headers["Range"]) == (416, "BLOB_UPLOAD_INVALID", "0-4")
    assert answer.headers["Location"] == location
    assert client.ask("PUT", f"{location}?digest={ABSENT}", b"56789", Content_Range=content_range).status == 416
    assert client.ask("PATCH", location, b"56789", Content_Range="5-9").status == 202


def test_the_first_chunk_begins_with_the_first_byte(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    assert client.ask("PATCH", location, b"x", Content_Range="1-1").status == 416


@pytest.mark.parametrize(
    ("content_range", "code"), [("0-3", "SIZE_INVALID"), ("0-9", "SIZE_INVALID"), ("4-0", "BLOB_UPLOAD_INVALID")]
)
def test_a_chunk_must_be_as_long_as_its_range(client: Client, repo: str, content_range: str, code: str) -> None:
    location = client.start_upload(repo)
    answer = client.ask("PATCH", location, b"01234", Content_Range=content_range)
    assert (answer.status, answer.code) == (400, code)
    assert client.get(location).headers["Range"] == "0-0"


@pytest.mark.parametrize("content_range", ["bytes", "a-b", "0-", "0-4,5-9"])
def test_a_malformed_chunk_range_is_refused(client: Client, repo: str, content_range: str) -> None:
    answer = client.ask("PATCH", client.start_upload(repo), b"01234", Content_Range=content_range)
    assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")


def test_a_stream_longer_than_its_range_stops_there(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    for pieces in ([b"01234", b"too much"], [b"56789too", b" much"]):  # the excess may come in a piece of its own or not
        start = 0 if pieces[0].startswith(b"0") else 5
        field = f"{start}-{start + 4}"
        answer = client.ask("PATCH", location, iter(pieces), Content_Range=field, Transfer_Encoding="chunked")
        assert answer.status in (400, 413)
        assert client.get(location).headers["Range"] == f"0-{start + 4}"


def test_an_upload_tells_how_far_it_is(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    client.ask("PATCH", location, b"01234", Content_Range="0-4")
    answer = client.get(location)
    assert (answer.status, answer.headers["Range"], answer.headers["Location"]) == (204, "0-4", location)


def test_an_upload_cut_off_half_way_goes_on(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    connection = client.connect()
    connection.putrequest("PATCH", location)
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"x" * 400_000)
    connection.close()
    content = b"x" * 400_000 + b"y" * 600_000
    answer = client.ask("PATCH", location, b"", Content_Range="5-4")  # waits until the server has let go of the first request
    assert answer.status == 400
    have = int(client.get(location).headers["Range"].split("-")[1]) + 1
    assert 0 < have <= 400_000
    assert client.ask("PUT", f"{location}?digest={sha256(content)}", content[have:], Content_Range=f"{have}-999999").status == 201
    assert holds(client, repo, content)


# end-14, end-11


def test_a_cancelled_upload_is_gone(client: Client, repo: str) -> None:
    location = client.start_upload(repo)
    assert client.delete(location).status == 204
    for answer in (client.get(location), client.delete(location), client.ask("PATCH", location, b"x")):
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("upload", ["unknown", "00000000-0000-0000-0000-000000000000", "..", "%2e%2e"])
def test_an_upload_nobody_began_is_unknown(client: Client, repo: str, upload: str) -> None:
    answer = client.ask("PATCH", f"/v2/{repo}/blobs/uploads/{upload}", b"x")
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_an_upload_is_not_reachable_through_another_repository(client: Client, repo: str) -> None:
    upload = client.start_upload(repo).rpartition("/")[2]
    assert client.get(f"/v2/{repo}/other/blobs/uploads/{upload}").status == 404


def test_a_blob_is_mounted_from_another_repository(client: Client, repo: str) -> None:
    digest = client.push_blob(repo, b"shared")
    answer = client.ask("POST", f"/v2/{repo}/mine/blobs/uploads/?mount={digest}&from={repo}")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
    assert client.get(answer.headers["Location"]).body == b"shared"


@pytest.mark.parametrize("query", [f"mount={ABSENT}&from=test/nowhere", f"mount={ABSENT}"])
def test_a_mount_that_cannot_be_becomes_an_upload(client: Client, repo: str, query: str) -> None:
    answer = client.ask("POST", f"/v2/{repo}/blobs/uploads/?{query}")
    assert answer.status == 202
    assert client.ask("PUT", f"{answer.headers['Location']}?digest={sha256(b'x')}", b"x").status == 201


@pytest.mark.parametrize(
    ("query", "code"), [("mount=junk&from=a", "DIGEST_INVALID"), (f"mount={ABSENT}&from=../a", "NAME_INVALID")]
)
def test_a_malformed_mount_is_refused(client: Client, repo: str, query: str, code: str) -> None:
    answer = client.ask("POST", f"/v2/{repo}/blobs/uploads/?{query}")
    assert (answer.status, answer.code) == (400, code)


# end-7


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_is_pushed_by_tag_and_by_digest(client: Client, repo: str, media_type: str) -> None:
    content = json.dumps({**client.image(repo), "mediaType": media_type}).encode()
    for reference in ("v1", sha256(content)):
        answer = client.put_manifest(repo, reference, content, media_type)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, sha256(content))
        assert client.get(answer.headers["Location"]).body == content
        assert client.get(f"/v2/{repo}/manifests/{reference}").headers["Content-Type"] == media_type


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_is_pushed(client: Client, repo: str, media_type: str) -> None:
    child = {"mediaType": OCI_MANIFEST, "digest": client.push_image(repo, "child"), "size": 2}
    assert (
        client.put_manifest(repo, "v1", {"schemaVersion": 2, "mediaType": media_type, "manifests": [child]}, media_type).status
        == 201
    )
    assert client.get(f"/v2/{repo}/manifests/v1").headers["Content-Type"] == media_type


def test_an_artifact_manifest_is_pushed(client: Client, repo: str) -> None:
    blob = {"mediaType": "text/plain", "digest": client.push_blob(repo, b"sbom"), "size": 4}
    document = {"mediaType": ARTIFACT, "artifactType": "application/sbom", "blobs": [blob]}
    assert client.put_manifest(repo, "v1", document, ARTIFACT).status == 201
    assert client.get(f"/v2/{repo}/manifests/v1").headers["Content-Type"] == ARTIFACT


def test_an_image_that_does_not_say_its_type_has_that_of_its_header(client: Client, repo: str) -> None:
    document = {name: value for name, value in client.image(repo).items() if name != "mediaType"}
    assert client.put_manifest(repo, "v1", document, OCI_MANIFEST + "; charset=utf-8").status == 201
    assert client.get(f"/v2/{repo}/manifests/v1").headers["Content-Type"] == OCI_MANIFEST


def test_one_push_sets_several_tags(client: Client, repo: str) -> None:
    content = json.dumps(client.image(repo)).encode()
    tags = [f"1.{number}" for number in range(12)]
    query = "&".join(f"tag={tag}" for tag in tags)
    answer = client.ask("PUT", f"/v2/{repo}/manifests/{sha256(content)}?{query}", content, Content_Type=OCI_MANIFEST)
    assert answer.status == 201
    assert answer.headers["OCI-Tag"].split(", ") == tags
    assert client.get(f"/v2/{repo}/tags/list").json["tags"] == sorted(tags)


def test_too_many_tags_at_once_are_refused(client: Client, repo: str) -> None:
    content = json.dumps(client.image(repo)).encode()
    query = "&".join(f"tag=t{number}" for number in range(101))
    assert client.ask("PUT", f"/v2/{repo}/manifests/{sha256(content)}?{query}", content, Content_Type=OCI_MANIFEST).status == 414


def test_a_manifest_that_names_missing_blobs_is_refused_whole(client: Client, repo: str) -> None:
    layer = {"mediaType": OCI_LAYER, "digest": ABSENT, "size": 5}
    answer = client.put_manifest(repo, "v1", {**client.image(repo), "layers": [layer]})
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json["errors"][0]["detail"] == [{"digest": ABSENT}]
    assert client.get(f"/v2/{repo}/manifests/v1").status == 404
    assert client.get(f"/v2/{repo}/tags/list").json["tags"] == []


def test_a_manifest_that_names_a_blob_of_another_repository_is_refused(client: Client, repo: str) -> None:
    secret = client.push_blob(f"{repo}/secret", b"secret")
    layer = {"mediaType": OCI_LAYER, "digest": secret, "size": 6}
    answer = client.put_manifest(repo, "v1", {**client.image(repo), "layers": [layer]})
    assert answer.code == "MANIFEST_BLOB_UNKNOWN"
    assert client.head(f"/v2/{repo}/blobs/{secret}").status == 404


def test_a_subject_need_not_be_there(client: Client, repo: str) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": ABSENT, "size": 5}
    answer = client.put_manifest(repo, "v1", client.image(repo, subject=subject))
    assert (answer.status, answer.headers["OCI-Subject"]) == (201, ABSENT)


def test_a_manifest_without_a_subject_has_no_subject_header(client: Client, repo: str) -> None:
    assert "OCI-Subject" not in client.put_manifest(repo, "v1", client.image(repo)).headers


def test_foreign_layers_need_not_be_here(client: Client, repo: str) -> None:
    layer = {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": ABSENT,
        "size": 5,
        "urls": ["https://example.com/layer"],
    }
    assert client.put_manifest(repo, "v1", {**client.image(repo), "layers": [layer]}).status == 201


def test_a_manifest_pushed_under_the_wrong_digest_is_refused(client: Client, repo: str) -> None:
    answer = client.put_manifest(repo, ABSENT, client.image(repo))
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert client.get(f"/v2/{repo}/manifests/{ABSENT}").status == 404


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"schemaVersion":2}', b'{"schemaVersion":1,"fsLayers":[]}']
)
def test_what_is_no_manifest_is_refused(client: Client, repo: str, body: bytes) -> None:
    answer = client.put_manifest(repo, "v1", body)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("tag", [".hidden", "-x", "a" * 129, "a%20b", "%2e%2e", "%00"])
def test_a_malformed_tag_is_refused(client: Client, repo: str, tag: str) -> None:
    answer = client.put_manifest(repo, tag, client.image(repo))
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_a_manifest_of_four_mebibytes_is_taken_and_more_is_too_large(client: Client, repo: str) -> None:
    image = client.image(repo)
    small = json.dumps({**image, "annotations": {"pad": ""}}).encode()
    pad = "x" * ((4 << 20) - len(small))
    assert client.put_manifest(repo, "v1", {**image, "annotations": {"pad": pad}}).status == 201
    content = json.dumps({**image, "annotations": {"pad": pad + "x"}}).encode()
    for headers in ({}, {"Transfer_Encoding": "chunked"}):
        body = iter([content]) if headers else content
        answer = client.ask("PUT", f"/v2/{repo}/manifests/v2", body, Content_Type=OCI_MANIFEST, **headers)
        assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")
    assert client.get(f"/v2/{repo}/manifests/v2").status == 404


def test_a_tag_moves_only_from_where_the_client_saw_it(client: Client, repo: str) -> None:
    old = client.push_image(repo, "v1", "old")
    image = client.image(repo, "new")
    answer = client.put_manifest(repo, "v1", image, If_Match=f'"{ABSENT}"')
    assert answer.status == 412
    assert client.put_manifest(repo, "v1", image, If_None_Match="*").status == 412
    assert client.head(f"/v2/{repo}/manifests/v1").headers["Docker-Content-Digest"] == old
    assert client.put_manifest(repo, "v1", image, If_Match=f'"{old}"').status == 201
    assert client.put_manifest(repo, "v2", image, If_None_Match="*").status == 201
    assert client.put_manifest(repo, "v3", image, If_Match=f'"{old}"').status == 412


# end-9, end-10


def test_a_deleted_tag_leaves_its_manifest(client: Client, repo: str) -> None:
    digest = client.push_image(repo, "v1")
    assert client.delete(f"/v2/{repo}/manifests/v1").status == 202
    assert client.get(f"/v2/{repo}/manifests/v1").status == 404
    assert client.get(f"/v2/{repo}/manifests/{digest}").status == 200
    answer = client.delete(f"/v2/{repo}/manifests/v1")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


def test_a_deleted_manifest_takes_its_tags_with_it(client: Client, repo: str) -> None:
    digest = client.push_image(repo, "v1")
    client.put_manifest(repo, "v2", client.image(repo))
    other = client.push_image(repo, "other", "other")
    assert client.delete(f"/v2/{repo}/manifests/{digest}").status == 202
    for reference in ("v1", "v2", digest):
        assert client.get(f"/v2/{repo}/manifests/{reference}").status == 404
    assert client.get(f"/v2/{repo}/tags/list").json["tags"] == ["other"]
    assert client.get(f"/v2/{repo}/manifests/{other}").status == 200
    assert client.delete(f"/v2/{repo}/manifests/{digest}").status == 404


def test_a_deleted_referrer_is_listed_no_more(client: Client, repo: str) -> None:
    image = client.push_image(repo, "v1")
    referrer = client.push_image(repo, "s", "s", subject={"mediaType": OCI_MANIFEST, "digest": image, "size": 2})
    client.delete(f"/v2/{repo}/manifests/{referrer}")
    assert client.get(f"/v2/{repo}/referrers/{image}").json["manifests"] == []


def test_a_deleted_blob_is_unknown_there_only(client: Client, repo: str) -> None:
    digest = client.push_blob(repo, b"x")
    client.push_blob(f"{repo}/other", b"x")
    assert client.get(f"/v2/{repo}/blobs/{digest}").status == 200
    assert client.delete(f"/v2/{repo}/blobs/{digest}").status == 202
    for answer in (client.get(f"/v2/{repo}/blobs/{digest}"), client.delete(f"/v2/{repo}/blobs/{digest}")):
        assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
    assert client.get(f"/v2/{repo}/other/blobs/{digest}").status == 200


def test_deleting_in_a_repository_that_is_not_there_is_not_found(client: Client, repo: str) -> None:
    for last in ("manifests/v1", f"manifests/{ABSENT}", f"blobs/{ABSENT}"):
        assert client.delete(f"/v2/{repo}/{last}").status == 404


def test_an_oras_artifact_and_its_signature_make_the_whole_round(client: Client, repo: str) -> None:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": client.push_blob(repo, b"{}"), "size": 2}
    part = {"mediaType": "text/plain", "digest": client.push_blob(repo, b"release notes"), "size": 13}
    artifact = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "text/notes", "config": empty, "layers": [part]}
    pushed = client.put_manifest(repo, "notes", artifact).headers["Docker-Content-Digest"]
    signature = {**artifact, "artifactType": "text/signature", "subject": {"mediaType": OCI_MANIFEST, "digest": pushed, "size": 9}}
    answer = client.put_manifest(repo, sha256(json.dumps(signature).encode()), signature)
    assert answer.headers["OCI-Subject"] == pushed
    [found] = client.get(f"/v2/{repo}/referrers/{pushed}?artifactType=text/signature").json["manifests"]
    manifest = client.get(f"/v2/{repo}/manifests/{found['digest']}")
    assert sha256(manifest.body) == found["digest"]
    assert client.get(f"/v2/{repo}/blobs/{manifest.json['layers'][0]['digest']}").body == b"release notes"
    assert manifest.json["config"]["mediaType"] != OCI_CONFIG

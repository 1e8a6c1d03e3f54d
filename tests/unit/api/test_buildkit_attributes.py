"""What BuildKit's clients say by attributes and definitions, as values."""

from __future__ import annotations

import stat

import pytest

from carrack.api.buildkit import attributes, go_modes
from carrack.api.buildkit.attributes import ClientImage, LocalFolder, NamedImage, OtherBuild, Remote
from carrack.api.buildkit.wire.buildkit_pb2 import CacheOptions, CacheOptionsEntry, Definition, Input, Op, SourceOp
from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest


def test_what_buildx_sends_for_a_folder() -> None:
    order = attributes.read(
        "dockerfile.v0",
        {
            "filename": "Dockerfile",
            "build-arg:B": "2",
            "build-arg:A": "1",
            "label:made": "here",
            "no-cache": "",
            "platform": "linux/amd64,linux/arm64",
            "attest:provenance": "mode=min,inline-only=true",
            "local-sessionid:context": "shared",
            "add-hosts": "a=192.0.2.1,b=192.0.2.2",
            "vcs:revision": "abc",
        },
        {},
    )
    assert order.context == LocalFolder("context", "shared")
    assert order.dockerfile == LocalFolder("dockerfile")
    assert list(order.build_arguments) == ["A", "B"]  # always in the same order, or an image would not always be the same
    assert order.no_cache == {"*"}
    assert [str(each) for each in order.platforms] == ["linux/amd64", "linux/arm64"]
    assert order.attestations == {"provenance": {"mode": "min", "inline-only": "true"}}
    assert order.surroundings.extra_hosts == ("a:192.0.2.1", "b:192.0.2.2")


def test_where_contexts_come_from() -> None:
    def context(text: str) -> object:
        return attributes.read("dockerfile.v0", {"context:x": text}, {}).named["x"]

    assert context("local:folder") == LocalFolder("folder")
    assert context("docker-image://alpine:3") == NamedImage("alpine:3")
    assert context("https://example.org/a.git#main") == Remote("https://example.org/a.git#main")
    digest = "sha256:" + "0" * 64
    assert context(f"oci-layout://store:tag@{digest}") == ClientImage("oci:store", Digest.parse(digest))
    order = attributes.read("dockerfile.v0", {"context": "https://example.org/a.git"}, {})
    assert order.context == Remote("https://example.org/a.git")
    assert order.dockerfile is None
    assert (
        attributes.read("dockerfile.v0", {"context": "git@example.org:a", "dockerfilekey": "dockerfile"}, {}).dockerfile is not None
    )


def test_a_result_is_a_definition_that_leads_back_to_it() -> None:
    definition = attributes.result_definition("abc")
    assert attributes.source_of(definition) == OtherBuild("abc")
    order = attributes.read("dockerfile.v0", {"context:base": "input:base"}, {"base": definition})
    assert order.named == {"base": OtherBuild("abc")}


@pytest.mark.parametrize(
    "definition",
    [
        Definition(),
        Definition(ops=[b""]),
        Definition(ops=[Op(source=SourceOp(identifier="local://x")).SerializeToString()]),
        Definition(ops=[Op(inputs=[Input(digest="sha256:none")]).SerializeToString()]),
    ],
)
def test_a_definition_that_is_more_or_less_than_a_source_is_refused(definition: Definition) -> None:
    with pytest.raises(InvalidParameter, match="builds Dockerfiles"):
        attributes.source_of(definition)


def test_dockers_front_end_is_taken_for_ours_and_no_other() -> None:
    attributes.read("gateway.v0", {"source": "docker/dockerfile:1.7", "cmdline": "docker/dockerfile:1.7"}, {})
    attributes.read("gateway.v0", {"source": "docker.io/docker/dockerfile-upstream:master"}, {})
    for source in ("someone/dockerfile", "example.org/docker/dockerfile:1", "docker/other"):
        with pytest.raises(InvalidParameter, match="runs no front ends from images"):
            attributes.read("gateway.v0", {"source": source}, {})


def test_caches() -> None:
    options = CacheOptions(Exports=[CacheOptionsEntry(Type="registry", Attrs={"ref": "a/b"}), CacheOptionsEntry(Type="inline")])
    assert [each.type for each in attributes.caches_to(options)] == ["registry", "inline"]
    with pytest.raises(InvalidParameter, match="unknown cache type 's3'"):
        attributes.caches_to(CacheOptions(Exports=[CacheOptionsEntry(Type="s3")]))
    imports = attributes.read("dockerfile.v0", {"cache-imports": '[{"Type":"registry","Attrs":{"ref":"c/d"}}]'}, {}).cache_from
    assert imports[0].attributes == {"ref": "c/d"}


def test_modes_of_go_and_of_unix() -> None:
    assert go_modes.kind(0o644) == "f"
    assert go_modes.kind(go_modes.DIRECTORY | 0o755) == "d"
    assert go_modes.kind(go_modes.SYMLINK | 0o777) == "l"
    assert go_modes.kind(go_modes.SOCKET) == go_modes.kind(go_modes.DEVICE) == ""
    mode = stat.S_ISUID | stat.S_ISVTX | 0o751
    assert go_modes.permissions(go_modes.of(mode, go_modes.DIRECTORY)) == mode

"""Caches that travel between daemons, and statements on images: what `carrack build` asks for beyond the classic API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeEngine
from tests.rig.builds import built
from tests.rig.engine import CommandLine, Engine, carrack_program

pytestmark = pytest.mark.peer_lacks("carrack build, on its own daemon")

DOCKERFILE = """FROM busybox AS work
COPY input /input
RUN date +%N > /stamp && cat /input >> /stamp
RUN --mount=type=cache,target=/keep echo kept >> /keep/f; wc -l < /keep/f > /count
FROM busybox
COPY --from=work /stamp /count /
RUN cat /stamp > /again
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "input").write_text("input\n")
    return folder


@pytest.fixture
def two(make_engine: MakeEngine) -> tuple[CommandLine, CommandLine]:
    """`carrack` on two daemons that know nothing of each other."""
    first, second = (CommandLine(make_engine(), [carrack_program()]) for _ in range(2))
    return first, second


def stamp(cli: CommandLine, image: str) -> str:
    return cli.ok("run", "--rm", image, "cat", "/again", "/count")


@pytest.mark.observes("docker build --cache-from")
def test_a_cache_in_a_registry_serves_another_daemon(two: tuple[CommandLine, CommandLine], folder: Path, registry: str) -> None:
    first, second = two
    cache = f"type=registry,ref={registry}/cache:1,mode=max"
    built(first, "-t", "made", "--cache-to", cache, str(folder))
    shown = built(second, "-t", "made", "--cache-from", f"type=registry,ref={registry}/cache:1", str(folder))
    assert shown.count("CACHED") >= 5
    assert stamp(second, "made") == stamp(first, "made")
    (folder / "input").write_text("changed\n")
    changed = built(second, "-t", "made", "--cache-from", f"type=registry,ref={registry}/cache:1", str(folder))
    assert "changed" in stamp(second, "made"), changed


def test_a_cache_in_a_folder_serves_another_daemon_with_its_cache_mounts(
    two: tuple[CommandLine, CommandLine], folder: Path, tmp_path: Path
) -> None:
    first, second = two
    place = tmp_path / "cache"
    built(first, "-t", "made", "--cache-to", f"type=local,dest={place},mode=max,mounts=true", str(folder))
    assert json.loads((place / "index.json").read_text())["manifests"]
    shown = built(second, "-t", "made", "--cache-from", f"type=local,src={place}", str(folder))
    assert shown.count("CACHED") >= 5
    assert stamp(second, "made") == stamp(first, "made")
    (folder / "input").write_text("changed\n")
    built(second, "-t", "made", "--cache-from", f"type=local,src={place}", str(folder))
    assert stamp(second, "made").splitlines()[-1] == "2"  # the mount began with what the first daemon had in it


def test_an_inline_cache_travels_in_the_image(two: tuple[CommandLine, CommandLine], folder: Path, registry: str) -> None:
    first, second = two
    name = f"{registry}/app:1"
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY input /input\nRUN date +%N > /again; echo 1 > /count\n")
    built(first, "-t", name, "--cache-to", "type=inline", str(folder))
    first.ok("push", name)
    assert built(second, "-t", "made", "--cache-from", name, str(folder)).count("CACHED") >= 2
    assert stamp(second, "made") == stamp(first, name)


def test_a_cache_that_is_not_there_is_told_and_does_no_harm(engine: Engine, folder: Path, registry: str) -> None:
    cli = CommandLine(engine, [carrack_program()])
    assert "cannot use the cache" in built(cli, "--cache-from", f"{registry}/none:1", str(folder))


def statements(engine: Engine, image: str) -> dict[str, Any]:
    """The statements on an image, by type."""
    found = engine.api("GET", f"/v1.56/images/{image}/attestations?statement=1")
    assert found.status == 200, found.body
    return {each["PredicateType"]: each["Statement"] for each in found.json}


def test_statements_on_request(engine: Engine, folder: Path) -> None:
    cli = CommandLine(engine, [carrack_program()])
    packages = "Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.10-3\n\n"
    (folder / "status").write_text(packages)
    (folder / "Dockerfile").write_text("FROM busybox\nARG TOKEN\nCOPY status /var/lib/dpkg/status\nRUN true\n")
    words = ["--provenance", "mode=max", "--sbom", "true", "--build-arg", "TOKEN=t0k3n", "-t", "stated:1", str(folder)]
    built(cli, *words)
    found = statements(engine, "stated:1")
    provenance, packages_found = found["https://slsa.dev/provenance/v1"], found["https://spdx.dev/Document"]
    digest = json.loads(cli.ok("image", "inspect", "stated:1"))[0]["Descriptor"]["digest"]
    assert provenance["subject"][0]["digest"]["sha256"] != digest.removeprefix("sha256:")  # the image's, not the index's
    definition = provenance["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["request"]["args"]["build-arg:TOKEN"] == "t0k3n"
    assert definition["resolvedDependencies"][0]["uri"].startswith("pkg:docker/busybox@latest")
    assert [each["name"] for each in packages_found["predicate"]["packages"]] == ["hello"]
    built(cli, "--provenance", "mode=min", "--build-arg", "TOKEN=t0k3n", "-t", "stated:2", str(folder))
    assert "t0k3n" not in json.dumps(statements(engine, "stated:2"))


def test_a_cache_that_cannot_be_sent_fails_the_build_unless_its_errors_are_ignored(engine: Engine, folder: Path) -> None:
    cli = CommandLine(engine, [carrack_program()])
    nowhere = "type=registry,ref=127.0.0.1:1/none:1"
    failed = cli("build", "--cache-to", nowhere, str(folder), timeout_seconds=90)
    assert failed.code == 1
    assert "exporting cache to registry" in failed.stderr
    assert "the cache was not exported" in built(cli, "-t", "made", "--cache-to", f"{nowhere},ignore-error=true", str(folder))
    for words, message in {
        "type=registry,ref=a,mode=most": "invalid value 'most' of the cache's mode",
        "type=s3,bucket=b": "unsupported cache type 's3'",
        "type=registry,ref=a,compression=estargz": "invalid value 'estargz'",
        "type=registry,ref=a,oci-mediatypes=false": "OCI image manifest",
    }.items():
        assert message in cli("build", "--cache-to", words, str(folder)).stderr


def test_an_inline_cache_of_several_platforms_serves_each(
    two: tuple[CommandLine, CommandLine], tmp_path: Path, registry: str
) -> None:
    first, second = two
    folder = tmp_path / "cross"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n")
    name, platforms = f"{registry}/cross:1", ["--platform", "linux/amd64,linux/arm64"]
    built(first, "-t", name, "--push", "--cache-to", "type=inline", *platforms, str(folder))
    shown = built(second, "--cache-from", name, "-o", f"type=local,dest={tmp_path / 'out'}", *platforms, str(folder))
    assert shown.count("COPY Dockerfile /") == 2
    assert shown.count("CACHED") >= 3, shown  # the context, and the step of each platform
    assert (tmp_path / "out" / "linux_arm64" / "arm64").is_file()

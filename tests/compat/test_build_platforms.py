"""Builds for several platforms: one index of them, cross builds, programs of another platform, where each output puts them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig.builds import built
from tests.rig.engine import CommandLine, Engine, carrack_program

pytestmark = pytest.mark.peer_lacks("carrack build, on its own daemon")

CROSS = """FROM --platform=$BUILDPLATFORM busybox AS build
RUN echo once > /shared
ARG TARGETPLATFORM
RUN echo "for $TARGETPLATFORM on $(uname -m)" > /made
FROM scratch
COPY --from=build /made /shared /
LABEL of=both
"""
BOTH = "linux/amd64,linux/arm64"


@pytest.fixture
def cli(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(CROSS)
    return folder


def manifests(engine: Engine, name: str) -> dict[str, dict[str, Any]]:
    """The image manifests of a name, by platform."""
    found = engine.api("GET", f"/images/{name}/json?manifests=1").json["Manifests"]
    images = [each for each in found if each["Kind"] == "image"]
    return {"/".join((p["os"], p["architecture"])): each for each in images for p in [each["ImageData"]["Platform"]]}


def content(archive: bytes) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]


@pytest.mark.observes("docker build --platform")
def test_several_platforms_become_one_index_and_what_they_share_is_done_once(
    cli: CommandLine, engine: Engine, folder: Path, tmp_path: Path
) -> None:
    facts = tmp_path / "facts.json"
    shown = built(cli, "--platform", BOTH, "-t", "both", "--metadata-file", str(facts), str(folder))
    assert shown.count("RUN echo once") == 1
    assert "[linux/amd64 build 3/3]" in shown
    assert "[linux/arm64 build" not in shown
    found = manifests(engine, "both")
    assert set(found) == set(BOTH.split(","))
    document = json.loads(facts.read_text())
    assert document["containerimage.descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"
    kept = {key for key in document if key.startswith("buildx.build.provenance")}
    assert kept == {f"buildx.build.provenance/{platform}" for platform in BOTH.split(",")}
    assert document["containerimage.digest"] == engine.api("GET", "/images/both/json").json["Descriptor"]["digest"]
    again = built(cli, "--platform", BOTH, "-t", "both", str(folder))
    assert again.count("CACHED") >= 5
    assert manifests(engine, "both").keys() == found.keys()


def test_each_platform_has_a_directory_of_its_own_in_a_folder_and_in_a_tar(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    out, archive = tmp_path / "out", tmp_path / "out.tar"
    built(cli, "--platform", BOTH, "-o", f"type=local,dest={out}", "-o", f"type=tar,dest={archive}", str(folder))
    assert (out / "linux_arm64" / "made").read_text().startswith("for linux/arm64 on ")
    assert (out / "linux_amd64" / "made").read_text().startswith("for linux/amd64 on ")
    assert content(archive.read_bytes())["linux_arm64/shared"] == b"once\n"
    built(cli, "--platform", "linux/arm64", "-o", f"type=local,dest={out},platform-split=true", str(folder))
    flat = tmp_path / "flat"
    built(cli, "--platform", "linux/arm64", "-o", str(flat), str(folder))
    assert (flat / "made").read_text().startswith("for linux/arm64 on ")


def test_an_archive_of_several_platforms_holds_all_with_their_statements(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    built(cli, "--platform", BOTH, "--provenance=mode=max", "--sbom=true", "-o", f"type=oci,dest={archive}", str(folder))
    files = content(archive.read_bytes())
    target = json.loads(files["index.json"])["manifests"][0]["digest"]
    index = json.loads(files[f"blobs/sha256/{target.partition(':')[2]}"])
    kinds = [(each["platform"]["os"], each["platform"]["architecture"]) for each in index["manifests"]]
    assert kinds == [("linux", "amd64"), ("linux", "arm64"), ("unknown", "unknown"), ("unknown", "unknown")]
    subjects = {each["annotations"]["vnd.docker.reference.digest"] for each in index["manifests"][2:]}
    assert subjects == {each["digest"] for each in index["manifests"][:2]}
    for each in index["manifests"]:
        document = json.loads(files[f"blobs/sha256/{each['digest'].partition(':')[2]}"])
        for blob in (document["config"], *document["layers"]):
            assert f"blobs/sha256/{blob['digest'].partition(':')[2]}" in files


def test_a_base_of_another_platform_comes_from_its_registry_and_takes_no_name_away(
    cli: CommandLine, engine: Engine, folder: Path, registry: str, tmp_path: Path
) -> None:
    base = f"{registry}/base:1"
    built(cli, "--platform", BOTH, "--push", "-t", base, str(folder))
    cli.ok("rmi", "-f", base)
    cli.ok("builder", "prune", "-af")
    cli.ok("pull", base)
    mine = engine.api("GET", f"/images/{base}/json").json["Id"]
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY more /more\n")
    (folder / "more").write_text("more")
    out = tmp_path / "out"
    built(cli, "--platform", BOTH, "-o", f"type=local,dest={out}", str(folder))
    assert (out / "linux_arm64" / "made").read_text().startswith("for linux/arm64")
    assert (out / "linux_arm64" / "more").read_text() == "more"
    assert engine.api("GET", f"/images/{base}/json").json["Id"] == mine
    again = built(cli, "--platform", BOTH, "-t", "app", str(folder))
    assert again.count("CACHED") >= 2
    assert set(manifests(engine, "app")) == set(BOTH.split(","))
    cli.ok("builder", "prune", "-af")
    (folder / "Dockerfile").write_text("FROM app\nCOPY --from=app /made /copied\n")
    built(cli, "--platform", "linux/arm64", "-o", f"type=local,dest={out}", str(folder))
    assert (out / "copied").read_text().startswith("for linux/arm64"), "the blobs of the other platform are unpacked again"


def test_a_step_that_this_machine_cannot_run_says_so_and_how_to_help_it(cli: CommandLine, folder: Path) -> None:
    (folder / "program").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(44))
    (folder / "program").chmod(0o755)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY program /bin/sh\nRUN true\n")
    done = cli("build", "--platform", "linux/riscv64", str(folder), timeout_seconds=60)
    assert done.code == 1
    assert "runs no programs of linux/riscv64" in done.stderr
    assert "binfmt" in done.stderr
    assert "Dockerfile:3" in done.stderr


def test_a_platform_that_is_none_is_refused(cli: CommandLine, folder: Path) -> None:
    done = cli("build", "--platform", "linux/amd64,a/b/c/d", str(folder))
    assert done.code == 1
    assert '"a/b/c/d": cannot parse platform specifier' in done.stderr


def test_a_step_of_another_platform_runs_by_the_emulator_that_the_kernel_knows(cli: CommandLine, folder: Path) -> None:
    """busybox stands for an emulator: it is started with the program's path, whose last part says which applet to be."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(44)
    for name in ("sh", "cat"):
        (folder / name).write_bytes(header)
        (folder / name).chmod(0o755)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY sh cat /bin/\nCOPY Dockerfile /d\nRUN ["/bin/cat", "/d"]\n')
    with emulator_registered("carrack-test-riscv64", header):
        shown = built(cli, "--platform", "linux/riscv64", str(folder))
    assert "COPY sh cat" in shown.partition("RUN")[2]


@contextmanager
def emulator_registered(name: str, header: bytes) -> Iterator[None]:
    """An entry of the kernel's table for as long as this lasts, in a mount of it that nobody else sees."""
    magic = "".join(f"\\x{byte:02x}" for byte in header[:20])
    table = "/proc/sys/fs/binfmt_misc"
    script = f'mount -t binfmt_misc none {table} && printf %s "$0" > {table}/register && echo ready && read end'
    words = ["unshare", "-m", "sh", "-c", script, f":{name}:M::{magic}::/bin/busybox:F"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield
        holder.communicate("end\n", timeout=20)


@pytest.mark.observes("docker build")
def test_an_image_of_a_layout_is_a_context_and_stays_nowhere(
    cli: CommandLine, engine: Engine, folder: Path, tmp_path: Path
) -> None:
    layout, out = tmp_path / "layout", tmp_path / "out"
    built(cli, "--platform", BOTH, "-t", "base:1", "-o", f"type=oci,dest={layout},tar=false", str(folder))
    images = engine.api("GET", "/images/json?all=1").json
    (folder / "Dockerfile").write_text("FROM given\nCOPY --from=given /made /again\n")
    for where in (f"{layout}:1", str(layout)):
        words = ["--build-context", f"given=oci-layout://{where}", "-o", f"type=local,dest={out}", "--platform", BOTH]
        built(cli, *words, str(folder))
        assert (out / "linux_arm64" / "again").read_text().startswith("for linux/arm64")
        assert (out / "linux_amd64" / "made").read_text().startswith("for linux/amd64")
    assert engine.api("GET", "/images/json?all=1").json == images
    refused = cli("build", "--build-context", f"given=oci-layout://{layout}:2", str(folder))
    assert "nothing of 2" in refused.stderr

"""What `carrack build` does beside building, and buildx's newer flags: methods of the front end, limits, annotations, outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from carrack.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from tests.rig.engine import CommandLine, Engine, carrack_program
from tests.rig.web_server import Page, WebServer

pytestmark = pytest.mark.peer_lacks("carrack build, on its own daemon")

DOCKERFILE = """# VERSION is what is built
ARG VERSION=1
# work does it
FROM busybox AS work
ARG VERSION
RUN --mount=type=secret,id=token echo $VERSION
FROM scratch
COPY --from=work /etc/passwd /
cmd x
"""


@pytest.fixture
def cli(engine: Engine) -> CommandLine:
    return CommandLine(engine, [carrack_program()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


def document(registry: str, reference: str) -> Any:
    """A manifest or index as the registry has it."""
    request = Request(f"http://{registry}/v2/noted/manifests/{reference}", headers={"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"})
    with urlopen(request, timeout=20) as answer:
        return json.load(answer)


def test_targets_and_an_outline_are_shown_as_tables(cli: CommandLine, folder: Path) -> None:
    targets = cli.ok("build", "--call", "targets", str(folder)).splitlines()
    assert [line.split(None, 1) for line in targets] == [["TARGET", "DESCRIPTION"], ["work", "does it"], ["(default)"]]
    outline = cli.ok("build", "--call=outline", "--build-arg", "VERSION=2", str(folder))
    assert [line.split() for line in outline.splitlines() if line] == [
        ["BUILD", "ARG", "VALUE", "DESCRIPTION"], ["VERSION", "2", "is", "what", "is", "built"], ["SECRET", "REQUIRED"], ["token"],
    ]  # fmt: skip
    assert "outline" in cli.ok("build", "--call=subrequests.describe", str(folder))
    assert json.loads(cli.ok("build", "--call=targets,format=json", str(folder)))["targets"][0]["name"] == "work"


def test_a_check_shows_each_finding_with_its_place_and_ends_with_1(cli: CommandLine, folder: Path) -> None:
    found = cli("build", "--check", str(folder))
    assert found.code == 1
    assert found.stdout.startswith("Check complete, 2 warnings have been found!\n")
    assert ">>> cmd x" in found.stdout
    document = cli("build", "--call=check,format=json,ignorestatus=1", str(folder))
    assert document.code == 0
    assert {each["ruleName"] for each in json.loads(document.stdout)["warnings"]} == {
        "ConsistentInstructionCasing", "JSONArgsRecommended",
    }  # fmt: skip


def test_limits_of_steps_hold_for_each_and_are_in_no_key(cli: CommandLine, folder: Path) -> None:
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    (folder / "Dockerfile").write_text(f"FROM busybox\nRUN {limit}\n")
    shown = cli("build", "--progress=plain", "--resource", "memory=64m,cpu-quota=50000", str(folder))
    assert f" {64 << 20}\n" in shown.stderr, shown
    assert "CACHED" in cli("build", "--progress=plain", "--resource", "memory=32m", str(folder)).stderr


def test_annotations_go_where_they_are_sent(cli: CommandLine, folder: Path, registry: str) -> None:
    name = f"{registry}/noted:1"
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    flags = ["--annotation", "a=1", "--annotation", "index:b=2", "--annotation", "manifest-descriptor[linux/amd64]:c=3"]
    refused = cli("build", "-t", name, *flags, str(folder))
    assert "index annotations not supported for single platform export" in refused.stderr
    assert cli("build", "-t", name, "--push", "--platform=linux/amd64,linux/arm64", *flags, str(folder)).code == 0
    index = document(registry, "1")
    assert index["annotations"] == {"b": "2"}
    assert [each.get("annotations") for each in index["manifests"]] == [{"c": "3"}, None]
    assert [document(registry, each["digest"])["annotations"] for each in index["manifests"]] == [{"a": "1"}] * 2


def test_a_dockerfile_may_come_from_the_web(cli: CommandLine, folder: Path) -> None:
    (folder / "here").write_text("content")
    server = WebServer()
    server.pages["/D"] = Page(b"FROM scratch\nCOPY here /\nLABEL from=web\n")
    try:
        cli.ok("build", "-t", "web", "-f", server.url("/D"), str(folder))
        assert "404" in cli("build", "-f", server.url("/none"), str(folder)).stderr
    finally:
        server.close()
    assert cli.ok("image", "inspect", "-f", "{{.Config.Labels.from}}", "web") == "web"


def test_an_output_may_clear_its_folder(cli: CommandLine, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "old" / "deep").mkdir(parents=True)
    (out / "stale").write_text("x")
    words = ["build", "-o", f"type=local,dest={out},mode=delete", str(folder)]
    assert "buildx.local.delete" in cli(*words).stderr
    assert (out / "stale").exists()
    assert cli(*words[:-1], "--allow", "buildx.local.delete", str(folder)).code == 0
    assert sorted(path.name for path in out.rglob("*")) == ["passwd"]


def test_failures_show_the_line_to_blame_in_buildkits_words(cli: CommandLine, folder: Path) -> None:
    faults = {
        "FROM busybox\nRUN exit 7\n": (7, 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7', 2),
        "FROM busybox\n\nCOPY none /\n": (1, 'failed to compute cache key: "/none": not found', 3),
        "FROM busybox\nRUM x\n": (1, "unknown instruction: RUM (did you mean RUN?)", 2),
        "FROM busybox AS a\nFROM localhost:1/none\n": (1, "connection refused", 2),
    }
    for text, (code, message, line) in faults.items():
        (folder / "Dockerfile").write_text(text)
        failed = cli("build", "--progress=plain", str(folder))
        assert failed.code == code, failed
        assert message in failed.stderr.splitlines()[-1], failed
        assert f"Dockerfile:{line}" in failed.stderr
        assert text.splitlines()[line - 1] in failed.stderr


def test_plain_progress_keeps_a_step_together_and_ends_with_what_was_made(cli: CommandLine, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\nRUN sleep 1; echo out\n")
    shown = cli("build", "--progress=plain", "-t", "made", str(folder)).stderr
    blocks = [block.splitlines() for block in shown.split("\n\n")]
    assert all(len({line.split()[0] for line in block}) == 1 for block in blocks), shown
    assert blocks[-1][0].endswith("exporting to image"), shown
    assert any("naming to docker.io/library/made:latest done" in line for line in blocks[-1])
    assert any("FROM docker.io/library/busybox:latest@sha256:" in line for line in shown.splitlines())

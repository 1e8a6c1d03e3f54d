"""Attacks on builders that have a number, tried on ours; those on files, contexts and repositories are in test_build_files_*.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig import builds
from tests.rig.archives import Entry, Recipe, docker_archive, tar
from tests.rig.engine import CommandLine, Engine

pytestmark = pytest.mark.peer_lacks("cache mounts are BuildKit's")


@pytest.fixture(autouse=True)
def classic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")


def build(cli: CommandLine, tmp_path: Path, dockerfile: str, *words: str) -> tuple[int, str]:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    done = cli("build", "--no-cache", *words, str(tmp_path))
    return done.code, done.stdout + done.stderr


def test_a_link_left_in_a_cache_mount_does_not_lead_to_the_host(cli: CommandLine, tmp_path: Path) -> None:
    """CVE-2024-23651: what one build leaves in a cache must not become the place that another mounts."""
    marker = tmp_path / f"ct-marker-{os.getpid()}"
    marker.write_text("of the host")
    mount = "--mount=type=cache,id=attack,target=/c"
    code, said = build(cli, tmp_path, f"FROM busybox\nRUN {mount} mkdir /c/d && ln -s / /c/root && ln -s ../../../../../.. /c/up\n")
    assert code == 0, said
    for name in ("root", "up"):
        look = f"RUN --mount=type=cache,id=attack,source={name},target=/m echo seen; cat /m{marker} /m/etc/hostname || true\n"
        code, said = build(cli, tmp_path, f"FROM busybox\n{look}")
        assert "of the host" not in said
        assert Path("/etc/hostname").read_text().strip() not in said.partition("seen")[2]
    code, said = build(
        cli, tmp_path, "FROM busybox\nRUN --mount=type=cache,id=attack,source=d,target=/m echo into the folder > /m/f\n"
    )
    assert code == 0, said


def test_an_image_with_a_forged_history_is_no_cache(cli: CommandLine, images: Images, tmp_path: Path) -> None:
    """CVE-2024-24557: an image that claims to come of the very step is not taken for its result."""
    evil = tar([Entry("answer", b"forged\n")])
    cli.ok(
        "load",
        stdin=docker_archive(Recipe((images.rootfs, evil), ("evil:1",), {"Cmd": ["sh"]}, ("busybox", "RUN echo true > /answer"))),
    )
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo true > /answer\n")
    cli.ok("build", "-t", "mine", "--cache-from", "evil:1", str(tmp_path))
    assert cli.ok("run", "--rm", "mine", "cat", "/answer") == "true"


@pytest.mark.parametrize(
    ("line", "named"),
    [("RUN --security=insecure true", "security.insecure"), ("RUN --network=host true", "network.host")],
)
def test_no_step_takes_what_was_not_granted(cli: CommandLine, tmp_path: Path, line: str, named: str) -> None:
    """CVE-2024-23653: one gate for whatever runs."""
    code, said = build(cli, tmp_path, f"FROM busybox\n{line}\n")
    assert code == 1
    assert f"{named} is not allowed" in said


# CVE-2021-3602, CVE-2025-0495
@pytest.mark.observes("POST /build")
def test_neither_the_daemons_environment_nor_a_password_reaches_a_step_or_a_record(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN env | cut -d= -f1; tr '\\\\0' '\\\\n' </proc/1/environ | cut -d= -f1\nRUN echo $HTTPS_PROXY\n"
    built = builds.build(engine, dockerfile, buildargs={"HTTPS_PROXY": "http://me:hush@127.0.0.1:9"})
    allowed = {"PATH", "HOME", "HOSTNAME", "PWD", "SHLVL", "HTTPS_PROXY", "https_proxy"}
    shown = {line for line in built.text.splitlines() if line in engine.daemon_env()}
    assert shown <= allowed
    assert "PATH" in shown
    for record in ("history", "json"):
        assert b"hush" not in engine.api("GET", f"/images/{built.image}/{record}").body

"""Images to and from a registry of our own: pull, push, login, and running what is not here yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.conftest import Images
from tests.contract.registry.live_registry import LiveRegistry
from tests.rig.archives import Recipe, docker_archive, folder, tar
from tests.rig.engine import CommandLine

pytestmark = pytest.mark.both_clients


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The host of a registry that anyone may write to."""
    running = LiveRegistry(tmp_path / "registry")
    yield f"localhost:{running.ports[0]}"
    running.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """The host of a registry that knows `me` with the password `secret`."""
    users = tmp_path / "users"
    users.write_bytes(b"me:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    running = LiveRegistry(tmp_path / "guarded", "--htpasswd", str(users))
    yield f"localhost:{running.ports[0]}"
    running.close()


def published(cli: CommandLine, images: Images, *names: str) -> None:
    """Have busybox in a registry under these names, and not here."""
    own = tar([folder(f"own-{os.urandom(8).hex()}")])  # no image that is here has it
    cli.ok("load", stdin=docker_archive(Recipe((images.rootfs, own), names, {"Cmd": ["echo", "it came"]})))
    for name in names:
        cli.ok("push", "-q", name)
    cli.ok("rmi", *names)


@pytest.mark.observes("docker push", "docker run --pull", "POST /images/{name}/push", "POST /images/create")
def test_what_was_pushed_and_removed_runs_by_its_name(cli: CommandLine, images: Images, registry: str) -> None:
    published(cli, images, f"{registry}/team/app:1")
    ran = cli("run", "--rm", f"{registry}/team/app:1")
    assert (ran.code, ran.stdout.splitlines()[-1]) == (0, "it came")
    assert f"Unable to find image '{registry}/team/app:1' locally" in ran.stderr


@pytest.mark.observes("docker pull")
def test_a_pull_tells_the_digest_and_what_it_did(cli: CommandLine, images: Images, registry: str) -> None:
    published(cli, images, f"{registry}/app:1")
    first = cli.ok("pull", f"{registry}/app:1")
    assert "Pulling from app" in first
    assert "Pull complete" in first
    assert "Digest: sha256:" in first
    assert f"Status: Downloaded newer image for {registry}/app:1" in first
    assert f"Status: Image is up to date for {registry}/app:1" in cli.ok("pull", f"{registry}/app:1")


@pytest.mark.observes("docker pull --quiet")
def test_a_quiet_pull_gives_the_name_only(cli: CommandLine, images: Images, registry: str) -> None:
    published(cli, images, f"{registry}/app:1")
    assert cli.ok("pull", "-q", f"{registry}/app:1") == f"{registry}/app:1"


@pytest.mark.observes("docker pull --all-tags")
def test_every_tag_comes_when_asked(cli: CommandLine, images: Images, registry: str) -> None:
    published(cli, images, f"{registry}/app:1", f"{registry}/app:2")
    cli.ok("pull", "-a", f"{registry}/app")
    assert sorted(cli.ok("images", "--format", "{{.Tag}}", f"{registry}/app").split()) == ["1", "2"]


@pytest.mark.observes("docker pull")
def test_an_image_pulled_by_digest_is_found_by_it(cli: CommandLine, images: Images, registry: str) -> None:
    cli.ok("load", stdin=docker_archive(Recipe((images.rootfs,), (f"{registry}/app:1",))))
    digest = cli.ok("push", f"{registry}/app:1").partition("digest: ")[2].split()[0]
    cli.ok("rmi", f"{registry}/app:1")
    cli.ok("pull", f"{registry}/app@{digest}")
    assert cli.ok("run", "--rm", f"{registry}/app@{digest}", "echo", "by digest") == "by digest"


@pytest.mark.observes("docker pull")
def test_a_tag_that_is_not_there_is_said_to_be_so(cli: CommandLine, registry: str) -> None:
    refused = cli("pull", f"{registry}/app:1")
    assert refused.code == 1
    assert "not found" in refused.stderr


@pytest.mark.observes("docker push")
def test_a_name_that_is_not_here_cannot_be_pushed(cli: CommandLine, registry: str) -> None:
    refused = cli("push", f"{registry}/app:1")
    assert refused.code == 1
    assert f"An image does not exist locally with the tag: {registry}/app" in refused.stderr


@pytest.mark.observes("docker login", "docker logout", "POST /auth")
def test_a_login_opens_a_guarded_registry(cli: CommandLine, images: Images, guarded: str) -> None:
    cli.ok("load", stdin=docker_archive(Recipe((images.rootfs,), (f"{guarded}/app:1",))))
    assert cli("push", f"{guarded}/app:1").code == 1
    assert cli("login", "-u", "me", "--password-stdin", guarded, stdin="wrong").code == 1
    assert "Login Succeeded" in cli.ok("login", "-u", "me", "--password-stdin", guarded, stdin="secret")
    cli.ok("push", "-q", f"{guarded}/app:1")
    cli.ok("rmi", f"{guarded}/app:1")
    cli.ok("pull", "-q", f"{guarded}/app:1")
    cli.ok("logout", guarded)
    assert cli("pull", f"{guarded}/app:2").code == 1

"""pull, push, login through the command line, with Carrack's own registry on a port of the engine's host."""

import socket
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.conftest import Images
from tests.rig.archives import Entry, Recipe, docker_archive, tar
from tests.rig.conversation import Pipes
from tests.rig.engine import CommandLine, carrack_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


class Registry:
    """`carrack registry serve` where the engine takes 127.0.0.1 to be."""

    def __init__(self, cli: CommandLine, folder: Path, port: int, *flags: str) -> None:
        self.name = f"127.0.0.1:{port}"
        words = [carrack_program(), "registry", "serve", "--root", str(folder), "--listen", self.name, *flags]
        self._process = Pipes([*cli.engine.host_prefix(), *words], env=cli.engine.env())
        probe = ("curl", "-s", "-o", "/dev/null", f"http://{self.name}/v2/")
        until(lambda: cli.engine.on_host(*probe).code == 0, "the registry to answer")

    def close(self) -> None:
        self._process.process.terminate()
        self._process.wait()
        self._process.close()


@pytest.fixture
def registry(cli: CommandLine, tmp_path: Path, free_port: FreePort) -> Iterator[str]:
    """The name of an open registry."""
    server = Registry(cli, tmp_path / "registry", free_port())
    yield server.name
    server.close()


@pytest.fixture
def locked_registry(cli: CommandLine, tmp_path: Path, free_port: FreePort) -> Iterator[str]:
    """The name of a registry that asks for ada's password."""
    word = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"ada:{word}\n")
    server = Registry(cli, tmp_path / "registry", free_port(), "--htpasswd", str(tmp_path / "users"))
    yield server.name
    server.close()


def made(cli: CommandLine, images: Images, *names: str) -> str:
    recipe = Recipe((images.rootfs, tar([Entry("mark", b"pulled")])), names, {"Cmd": ["cat", "/mark"]})
    cli.ok("load", stdin=docker_archive(recipe))
    return recipe.image_id


@pytest.mark.observes("docker push", "docker pull", "POST /images/{name}/push", "POST /images/create")
def test_what_is_pushed_is_pulled_and_runs(cli: CommandLine, images: Images, registry: str) -> None:
    name = f"{registry}/team/app:1"
    image_id = made(cli, images, name)
    assert "digest: sha256:" in cli.ok("push", name)
    cli.ok("rmi", name)
    assert "Downloaded newer image" in cli.ok("pull", name)
    assert cli.ok("images", "-q", "--no-trunc", name) == image_id
    assert cli.ok("run", "--rm", name) == "pulled"


@pytest.mark.observes("docker run --pull")
def test_run_pulls_what_is_missing(cli: CommandLine, images: Images, registry: str) -> None:
    name = f"{registry}/team/app:1"
    made(cli, images, name)
    cli.ok("push", name)
    cli.ok("rmi", name)
    assert cli.ok("run", "--rm", name).splitlines()[-1] == "pulled"


@pytest.mark.observes("docker pull --quiet", "docker push --quiet", "docker pull --all-tags", "docker push --all-tags")
def test_all_tags_go_and_come_quietly(cli: CommandLine, images: Images, registry: str) -> None:
    names = [f"{registry}/team/app:{tag}" for tag in ("1", "2")]
    made(cli, images, *names)
    cli.ok("push", "-q", "-a", f"{registry}/team/app")
    cli.ok("rmi", *names)
    cli.ok("pull", "-q", "-a", f"{registry}/team/app")
    assert sorted(cli.ok("images", "--format", "{{.Tag}}", f"{registry}/team/app").split()) == ["1", "2"]


@pytest.mark.observes("docker pull")
def test_an_image_can_be_pulled_by_its_digest(cli: CommandLine, images: Images, registry: str) -> None:
    image_id = made(cli, images, f"{registry}/team/app:1")
    digest = cli.ok("push", f"{registry}/team/app:1").split("digest: ")[1].split()[0]
    cli.ok("rmi", f"{registry}/team/app:1")
    cli.ok("pull", f"{registry}/team/app@{digest}")
    assert cli.ok("inspect", "--type", "image", "-f", "{{.Id}}", f"{registry}/team/app@{digest}") == image_id


@pytest.mark.observes("docker pull")
def test_what_the_registry_does_not_have_is_named(cli: CommandLine, registry: str) -> None:
    ended = cli("pull", f"{registry}/team/nothing:1")
    assert ended.code == 1
    assert "not found" in ended.stderr or "manifest unknown" in ended.stderr


@pytest.mark.observes("docker login", "docker login --username", "docker login --password-stdin", "docker logout", "POST /auth")
def test_a_login_opens_a_registry_and_a_logout_closes_it(cli: CommandLine, images: Images, locked_registry: str) -> None:
    name = f"{locked_registry}/team/app:1"
    made(cli, images, name)
    assert cli("push", name).code == 1
    wrong = cli("login", "-u", "ada", "--password-stdin", locked_registry, stdin="guess")
    assert wrong.code == 1
    assert "Login Succeeded" in cli.ok("login", "-u", "ada", "--password-stdin", locked_registry, stdin="secret")
    cli.ok("push", name)
    cli.ok("logout", locked_registry)
    assert cli("push", name).code == 1


def test_a_port_where_nothing_listens_is_said_so(cli: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    with socket.socket() as closed:
        assert closed.connect_ex(("127.0.0.1", port)) != 0
    ended = cli("pull", f"127.0.0.1:{port}/team/app:1")
    assert ended.code == 1
    assert "connection refused" in ended.stderr.lower()

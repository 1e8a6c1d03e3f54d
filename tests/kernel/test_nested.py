"""Engines in containers: carrackd inside a privileged container of carrackd, and a container that drives the engine it runs in."""

from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.archives import Recipe, docker_archive, folder, symlink, tar
from tests.rig.engine import ROOT, CommandLine, Engine, carrack_program

pytestmark = [pytest.mark.root, pytest.mark.peer_lacks("the engine inside is Carrack")]
HOST = [folder(name) for name in ("usr", "etc", "root", "run", "var", "var/lib", "proc", "sys", "dev")]
HOST += [folder("tmp", 0o1777), *(symlink(name, f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64"))]
"""A root that looks like this host once its /usr is bound into it."""


@pytest.fixture
def carrack(engine: Engine) -> CommandLine:
    cli = CommandLine(engine, [carrack_program()])
    cli.ok("load", stdin=docker_archive(Recipe((tar(HOST),), ("hostlike:1",), {"Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin"]})))
    return cli


def like_the_host(*flags: str) -> list[str]:
    binds = [word for path in ("/usr", str(ROOT), "/etc/ld.so.cache", "/etc/ssl") for word in ("-v", f"{path}:{path}:ro")]
    return ["run", *flags, *binds, "hostlike:1"]


@pytest.mark.observes("docker run --privileged", "docker run --volume")
def test_an_engine_runs_in_a_container_of_the_engine(carrack: CommandLine, images: Images, tmp_path: Path) -> None:
    (tmp_path / "busybox.tar").write_bytes(images.base_archive)
    programs = f"{ROOT}/.venv/bin"
    words = like_the_host("-d", "--name", "inner", "--privileged", "-v", "inner:/var/lib/carrack", "-v", f"{tmp_path}:/images:ro")
    carrack.ok(*words, f"{programs}/carrackd")
    inner = ["exec", "inner", f"{programs}/carrack"]
    wait = f"until {programs}/carrack version >/dev/null 2>&1; do sleep 0.1; done"
    carrack.ok("exec", "inner", "timeout", "30", "sh", "-c", wait)
    carrack.ok(*inner, "load", "-q", "-i", "/images/busybox.tar")
    assert carrack.ok(*inner, "run", "--rm", "busybox", "echo", "nested") == "nested"
    assert carrack.ok(*inner, "run", "--rm", "-m", "32m", "busybox", "sh", "-c", "cat /etc/hostname | wc -c") == "13"
    carrack.ok(*inner, "run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/var/www")
    assert carrack.ok("exec", "inner", "curl", "-sS", "http://127.0.0.1:8080/") == "it works"
    # its own containers are ended before it is
    carrack.ok("stop", "-t", "30", "inner")
    assert carrack.ok("inspect", "-f", "{{.State.ExitCode}}", "inner") == "0", carrack.ok("logs", "inner")
    assert "containers are stopped" in carrack("logs", "inner").stderr
    carrack.ok("rm", "-v", "inner")
    carrack.ok("volume", "rm", "inner")


def test_a_container_drives_the_engine_it_runs_in(carrack: CommandLine) -> None:
    socket = carrack.engine.socket
    words = like_the_host("--rm", "-v", f"{socket}:/run/carrack/carrack.sock")
    assert carrack.ok(*words, f"{ROOT}/.venv/bin/carrack", "run", "--rm", "busybox", "echo", "beside") == "beside"

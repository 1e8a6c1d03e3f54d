"""The repository's Dockerfile: built by `carrack build`, and what is built runs containers."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.engine import ROOT, CommandLine, Engine, carrack_program
from tests.rig.vm_image import parts

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.only_full("installs Debian packages and Python libraries in a build"),
    pytest.mark.peer_lacks("the image is of Carrack"),
]


@pytest.fixture
def carrack(engine: Engine, tmp_path: Path) -> CommandLine:
    """With debian:12, made of the root that the virtual machines have."""
    cli = CommandLine(engine, [carrack_program()])
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump / {root}", str(parts().root)], check=True, capture_output=True)
    subprocess.run(["tar", "-C", str(root), "--numeric-owner", "-cf", str(tmp_path / "root.tar"), "."], check=True)
    cli.ok("import", str(tmp_path / "root.tar"), "debian:12", timeout_seconds=200)
    return cli


@pytest.mark.observes("docker build", "docker run --privileged")
def test_the_image_of_our_own_dockerfile_runs_containers(carrack: CommandLine, images: Images, tmp_path: Path) -> None:
    pip = ["--build-arg", f"PIP_CERT={os.environ['PIP_CERT']}"] if "PIP_CERT" in os.environ else []
    carrack.ok("build", "-q", "-t", "carrack", *pip, str(ROOT), timeout_seconds=600)
    (tmp_path / "busybox.tar").write_bytes(images.base_archive)
    words = ["-d", "--privileged", "--name", "inner", "-v", "inner:/var/lib/carrack", "-v", f"{tmp_path}:/images:ro"]
    carrack.ok("run", *words, "carrack")
    carrack.ok(
        "exec", "inner", "timeout", "60", "sh", "-c", "until docker version >/dev/null 2>&1; do sleep 0.1; done", timeout_seconds=90
    )
    carrack.ok("exec", "inner", "docker", "load", "-q", "-i", "/images/busybox.tar")
    assert carrack.ok("exec", "inner", "carrack", "run", "--rm", "busybox", "echo", "nested") == "nested"
    carrack.ok("stop", "-t", "30", "inner")
    carrack.ok("rm", "-v", "inner")
    carrack.ok("volume", "rm", "inner")

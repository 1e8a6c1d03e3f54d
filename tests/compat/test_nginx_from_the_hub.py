"""The mission's own line, ``docker run -d -p 80:80 nginx``: look here, pull if absent, create, isolate, publish, run.

Docker Hub is a registry of ours that a daemon has for its mirror; nginx is Debian's, installed in a container and committed here.
"""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.contract.registry.live_registry import LiveRegistry
from tests.rig.debian import debian_root
from tests.rig.engine import CommandLine, carrack_program, docker_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

INSTALL = (
    "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx-light"
    " && echo 'made here' > /var/www/html/index.html"
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The host of a registry that anyone may write to."""
    running = LiveRegistry(tmp_path / "registry")
    yield f"localhost:{running.ports[0]}"
    running.close()


@pytest.mark.timeout(300)
@pytest.mark.peer_lacks("it lives in a network namespace without a way to the package archive")
@pytest.mark.observes("docker run", "docker run --publish", "docker run --detach", "docker commit", "docker pull", "docker push")
def test_nginx_comes_from_the_hub_and_serves(make_engine: MakeEngine, registry: str, free_port: FreePort) -> None:
    maker = CommandLine(make_engine(), [docker_program()])
    maker.ok("import", str(debian_root()), "debian:bookworm")
    maker.ok("run", "--name", "install", "debian:bookworm", "sh", "-ec", INSTALL, timeout_seconds=240)
    changes = ["-c", 'CMD ["nginx", "-g", "daemon off;"]', "-c", "EXPOSE 80"]
    maker.ok("commit", *changes, "install", f"{registry}/library/nginx:latest")
    maker.ok("push", "-q", f"{registry}/library/nginx:latest", timeout_seconds=120)

    user = make_engine("--registry-mirror", f"http://{registry}")
    for program in (docker_program(), carrack_program()):
        cli, port = CommandLine(user, [program]), free_port()
        ran = cli("run", "-d", "--name", "web", "-p", f"{port}:80", "nginx", timeout_seconds=120)
        assert ran.code == 0, ran.stderr
        assert "Unable to find image 'nginx:latest' locally" in ran.stderr
        assert "Status: Downloaded newer image for nginx:latest" in ran.stderr
        until(lambda: _page(port) == "made here\n", "nginx to serve its page")  # noqa: B023  # asked before the next round
        cli.ok("rm", "-f", "web")
        cli.ok("rmi", "nginx")


def _page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""

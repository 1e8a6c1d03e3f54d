"""`carrack manifest` against a registry: what it prints, what it keeps and what it pushes are Docker's, byte for byte."""

import gzip
import http.client
import json
import os
import shlex
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.rig.command_twins import DOCKER
from tests.rig.commands import Result, run
from tests.rig.conversation import Pipes
from tests.rig.engine import carrack_program
from tests.rig.ports import free_ports
from tests.rig.waiting import until

pytestmark = [pytest.mark.docker_since(28), pytest.mark.skipif(DOCKER is None, reason="no docker command line on PATH")]

DOCKER_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
OCI_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)

STORY = """
inspect {r}/app-amd64:1
inspect -v {r}/app-arm64:1
inspect -v {r}/app-riscv64:1
create {r}/app:multi {r}/app-amd64:1 {r}/app-arm64:1
create {r}/app:multi {r}/app-riscv64:1
create --amend {r}/app:multi {r}/app-riscv64:1
annotate --variant v9 --os-features a,b --os-version 1 {r}/app:multi {r}/app-arm64:1
annotate --arch nope {r}/app:multi {r}/app-arm64:1
annotate --arch s390x --os linux {r}/app:multi {r}/nope:1
inspect {r}/app:multi
inspect -v {r}/app:multi
inspect {r}/app:multi {r}/app-arm64:1
push {r}/app:multi
push --purge {r}/app:multi
inspect {r}/app:multi
inspect -v {r}/app:multi
inspect {r}/nope:1
rm {r}/app:multi
create {r}/app:two {r}/app-amd64:1
rm {r}/app:two x
push {r}/app:nope
create {r}/app:x
annotate x y
inspect UPPER
""".strip().splitlines()


class Hub:
    """A registry with an image for each of three machines."""

    def __init__(self, folder: Path, port: int) -> None:
        self.name = f"127.0.0.1:{port}"
        self._process = Pipes(
            [carrack_program(), "registry", "serve", "--root", str(folder), "--listen", self.name], env=os.environ
        )
        until(lambda: self.ask("GET", "/v2/") == 200, "the registry to answer")
        for machine, types in (("amd64", DOCKER_TYPES), ("arm64", DOCKER_TYPES), ("riscv64", OCI_TYPES)):
            self._put_image(f"app-{machine}", machine, types)

    def close(self) -> None:
        self._process.process.terminate()
        self._process.wait()
        self._process.close()

    def ask(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> int:
        """The status of one request."""
        connection = http.client.HTTPConnection(self.name, timeout=10)
        try:
            connection.request(method, path, body or None, {"Content-Type": media_type} if media_type else {})
            return connection.getresponse().status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    def _put_image(self, repository: str, machine: str, types: tuple[str, str, str]) -> None:
        layer = gzip.compress(machine.encode() * 100, mtime=0)
        facts = {"architecture": machine, "os": "linux", "variant": "v8" if machine == "arm64" else ""}
        config = json.dumps({**facts, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}, "config": {}}).encode()
        blobs = []
        for content, media_type in ((config, types[1]), (layer, types[2])):
            digest = f"sha256:{sha256(content).hexdigest()}"
            target = f"/v2/{repository}/blobs/uploads/?digest={digest}"
            assert self.ask("POST", target, content, "application/octet-stream") == 201
            blobs.append({"mediaType": media_type, "size": len(content), "digest": digest})
        manifest = {"schemaVersion": 2, "mediaType": types[0], "config": blobs[0], "layers": blobs[1:]}
        assert self.ask("PUT", f"/v2/{repository}/manifests/1", json.dumps(manifest).encode(), types[0]) == 201


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    server = Hub(tmp_path_factory.mktemp("hub"), next(free_ports()))
    yield server
    server.close()


def shown(result: Result) -> tuple[int, str, str]:
    return result.code, result.stdout, result.stderr.replace("carrack", "docker")


@pytest.mark.observes(
    "docker manifest annotate",
    "docker manifest annotate --arch",
    "docker manifest annotate --os",
    "docker manifest annotate --os-features",
    "docker manifest annotate --os-version",
    "docker manifest annotate --variant",
    "docker manifest create",
    "docker manifest create --amend",
    "docker manifest create --insecure",
    "docker manifest inspect",
    "docker manifest inspect --insecure",
    "docker manifest inspect --verbose",
    "docker manifest push",
    "docker manifest push --insecure",
    "docker manifest push --purge",
    "docker manifest rm",
)
def test_a_list_is_made_looked_at_and_pushed_as_docker_does_it(hub: Hub, tmp_path: Path) -> None:
    homes = {program: tmp_path / Path(program).name for program in (str(DOCKER), carrack_program())}
    for line in STORY:
        words = shlex.split(line.format(r=hub.name))
        insecure = ["--insecure"] if words[0] in ("inspect", "create", "push") else []
        said = {}
        for program, home in homes.items():
            done = run([program, "manifest", words[0], *insecure, *words[1:]], env={"HOME": str(home), "PATH": "/usr/bin:/bin"})
            kept = {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("manifests/*/*"))}
            said[program] = (shown(done), kept)
        assert said[carrack_program()] == said[str(DOCKER)], line


def test_a_list_that_docker_began_is_pushed(hub: Hub, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    images = [f"{hub.name}/app-amd64:1", f"{hub.name}/app-arm64:1"]
    run([str(DOCKER), "manifest", "create", "--insecure", f"{hub.name}/both:1", *images], env=environment).ok()
    run([carrack_program(), "manifest", "push", "--insecure", f"{hub.name}/both:1"], env=environment).ok()
    seen = json.loads(run([str(DOCKER), "manifest", "inspect", "--insecure", f"{hub.name}/both:1"], env=environment).ok())
    assert [entry["platform"]["architecture"] for entry in seen["manifests"]] == ["amd64", "arm64"]

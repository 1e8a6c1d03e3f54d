"""Our registry under other people's clients, and on other people's data: skopeo, a real dockerd, and Debian's docker-registry."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import bcrypt
import pytest

from tests.contract.registry.live_registry import LiveRegistry, sha256
from tests.contract.registry.tokens import claims, new_key, pem, service_options, token
from tests.rig.dockerd import Dockerd
from tests.rig.engine import ROOT, CommandLine, docker_program
from tests.rig.ports import free_ports
from tests.rig.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (scripts/setup for tests does)")

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """skopeo wants to be told that unsigned images are fine."""
    file = tmp_path_factory.mktemp("skopeo") / "policy.json"
    file.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return file


@pytest.fixture
def skopeo(policy: Path) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        done = subprocess.run(["skopeo", "--policy", str(policy), *arguments], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LiveRegistry]:
    running = LiveRegistry(tmp_path / "registry")
    yield running
    running.close()


class DockerRegistry:
    """Debian's docker-registry on a folder."""

    def __init__(self, root: Path) -> None:
        program = subprocess.run([ROOT / "scripts/registry-peer"], capture_output=True, check=True, text=True).stdout.strip()
        self.port = next(free_ports())
        config = root.parent / "peer.json"
        config.write_text(
            json.dumps(
                {
                    "version": "0.1",
                    "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
                    "http": {"addr": f"127.0.0.1:{self.port}"},
                }
            )
        )
        self.process = subprocess.Popen([program, "serve", str(config)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(self.answers, "docker-registry to answer")

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[Callable[[Path], DockerRegistry]]:
    running: list[DockerRegistry] = []

    def start(root: Path) -> DockerRegistry:
        running.append(DockerRegistry(root))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            each.close()


def layer_of(name: str, size: int) -> tuple[bytes, str]:
    """A gzipped tar with one file, and its diff_id."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, io.BytesIO(hashlib.shake_128(name.encode()).digest(size)))
    return gzip.compress(raw.getvalue(), 1, mtime=0), sha256(raw.getvalue())


def write_layout(directory: Path, *architectures: str) -> str:
    """An OCI layout with an index of one image per architecture (or one image alone); the digest of what its tag `v1` is."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def put(content: bytes, media_type: str, **fields: object) -> dict[str, object]:
        digest = sha256(content)
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content), **fields}

    images = []
    for architecture in architectures:
        layers, diff_ids = [], []
        for name, size in (("shared", 700_000), (f"own-{architecture}", 3_000)):
            content, diff_id = layer_of(name, size)
            layers.append(put(content, OCI + "layer.v1.tar+gzip"))
            diff_ids.append(diff_id)
        config = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {}}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI + "manifest.v1+json",
            "config": put(json.dumps(config).encode(), OCI + "config.v1+json"),
            "layers": layers,
        }
        platform = {"architecture": architecture, "os": "linux"}
        images.append(put(json.dumps(document, indent=2).encode(), OCI + "manifest.v1+json", platform=platform))
    top = images[0]
    if len(images) > 1:
        index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": images}
        top = put(json.dumps(index).encode(), OCI + "index.v1+json")
    top = {**top, "annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    return str(top["digest"])


def contents(directory: Path) -> dict[str, bytes]:
    """What a `dir:` or `oci:` copy holds, by name."""
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "version"}


@pytest.mark.parametrize("architectures", [("amd64",), ("amd64", "arm64")], ids=["image", "index"])
def test_what_skopeo_pushes_it_pulls_byte_for_byte(
    registry: LiveRegistry, skopeo: Callable[..., str], tmp_path: Path, architectures: tuple[str, ...]
) -> None:
    digest = write_layout(tmp_path / "layout", *architectures)
    name = f"docker://127.0.0.1:{registry.ports[0]}/team/app:v1"
    skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:v1", name)
    assert json.loads(skopeo("inspect", "--tls-verify=false", "--raw", name))["schemaVersion"] == 2
    assert registry.client.head("/v2/team/app/manifests/v1").headers["Docker-Content-Digest"] == digest
    by_digest = f"docker://127.0.0.1:{registry.ports[0]}/team/app@{digest}"
    for source in (name, by_digest):
        target = tmp_path / f"back{len(source)}"
        skopeo("copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, f"oci:{target}:v1")
        assert contents(target / "blobs") == contents(tmp_path / "layout/blobs")


def test_skopeo_mounts_lists_and_deletes(registry: LiveRegistry, skopeo: Callable[..., str], tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", "amd64")
    base = f"docker://127.0.0.1:{registry.ports[0]}"
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:v1", f"{base}/one:v1")
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"{base}/one:v1", f"{base}/two:v2")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", f"{base}/two"))["Tags"] == ["v2"]
    skopeo("delete", "--tls-verify=false", f"{base}/two:v2")
    assert registry.client.get("/v2/two/tags/list").json["tags"] == []
    assert registry.client.get("/v2/one/tags/list").json["tags"] == ["v1"]


@pytest.mark.parametrize("form", ["v2s2", "oci"])
def test_skopeo_converts_and_compresses_on_the_way(
    registry: LiveRegistry, skopeo: Callable[..., str], tmp_path: Path, form: str
) -> None:
    write_layout(tmp_path / "layout", "amd64")
    name = f"docker://127.0.0.1:{registry.ports[0]}/app:{form}"
    skopeo(
        "copy",
        "--dest-compress-format",
        "zstd" if form == "oci" else "gzip",
        "--format",
        form,
        "--dest-tls-verify=false",
        f"oci:{tmp_path}/layout:v1",
        name,
    )
    answer = registry.client.get(f"/v2/app/manifests/{form}")
    assert answer.headers["Content-Type"] == (
        DOCKER + "distribution.manifest.v2+json" if form == "v2s2" else OCI + "manifest.v1+json"
    )
    skopeo("copy", "--src-tls-verify=false", name, f"dir:{tmp_path}/back")
    assert (tmp_path / "back/manifest.json").read_bytes() == answer.body


def test_skopeo_signs_in(skopeo: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode())
    write_layout(tmp_path / "layout", "amd64")
    registry = LiveRegistry(tmp_path / "registry", "--htpasswd", str(tmp_path / "users"))
    try:
        name = f"docker://127.0.0.1:{registry.ports[0]}/app:v1"
        skopeo("copy", "--dest-tls-verify=false", "--dest-creds", "ann:secret", f"oci:{tmp_path}/layout:v1", name)
        skopeo("inspect", "--tls-verify=false", "--creds", "ann:secret", name)
        with pytest.raises(AssertionError, match="unauthorized|authentication required"):
            skopeo("inspect", "--tls-verify=false", "--creds", "ann:wrong", name)
    finally:
        registry.close()


class TokenService(ThreadingHTTPServer):
    """Gives ann, with her password, a token for whatever scope she asks for; anybody else one for pulling."""

    def __init__(self) -> None:
        self.key = new_key("ES256")
        self.scopes: list[str] = []
        super().__init__(("127.0.0.1", 0), _TokenAnswers)
        self.realm = f"http://127.0.0.1:{self.server_port}/token"


class _TokenAnswers(BaseHTTPRequestHandler):
    server: TokenService

    def do_GET(self) -> None:
        scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
        self.server.scopes += scopes
        is_ann = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"ann:secret").decode()
        grants = [(scope.split(":")[1], scope.split(":")[2] if is_ann else "pull") for scope in scopes]
        said = token(self.server.key, "ES256", claims(*grants, sub="ann" if is_ann else ""))
        content = json.dumps({"token": said, "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing to the terminal."""


def test_skopeo_gets_its_tokens_from_a_token_service(skopeo: Callable[..., str], tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", "amd64")
    with TokenService() as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        (tmp_path / "key.pem").write_bytes(pem(service.key))
        options = service_options(tmp_path / "key.pem")
        options[options.index("--token-realm") + 1] = service.realm
        registry = LiveRegistry(tmp_path / "registry", *options)
        try:
            name = f"docker://127.0.0.1:{registry.ports[0]}/team/app:v1"
            push = ("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:v1", name)
            with pytest.raises(AssertionError, match=r"unauthorized|authentication required|denied"):
                skopeo(*push)
            skopeo(*push, "--dest-creds", "ann:secret")
            skopeo("copy", "--src-tls-verify=false", name, f"dir:{tmp_path}/back")
            assert "repository:team/app:pull,push" in service.scopes
        finally:
            registry.close()
            service.shutdown()


def test_a_folder_of_docker_registry_is_adopted_and_can_go_back(
    skopeo: Callable[..., str], docker_registry: Callable[[Path], DockerRegistry], tmp_path: Path
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write_layout(tmp_path / "multi", "amd64", "arm64")
    write_layout(tmp_path / "single", "amd64")
    theirs = docker_registry(root)
    base = f"docker://127.0.0.1:{theirs.port}"
    skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{tmp_path}/multi:v1", f"{base}/team/multi:v1")
    skopeo("copy", "--format", "v2s2", "--dest-tls-verify=false", f"oci:{tmp_path}/single:v1", f"{base}/single:docker")
    skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/single:v1", f"{base}/single:oci")
    skopeo(
        "copy", "--all", "--preserve-digests", "--src-tls-verify=false", f"{base}/team/multi:v1", f"oci:{tmp_path}/from-theirs:v1"
    )
    manifests = {tag: urllib.request.urlopen(_request(theirs.port, f"single/manifests/{tag}")).read() for tag in ("docker", "oci")}
    theirs.close()

    ours = LiveRegistry(root)
    try:
        client = ours.client
        assert client.get("/v2/_catalog").json["repositories"] == ["single", "team/multi"]
        assert client.get("/v2/single/tags/list").json["tags"] == ["docker", "oci"]
        for tag, content in manifests.items():
            assert client.get(f"/v2/single/manifests/{tag}").body == content
        assert client.get("/v2/single/manifests/docker").headers["Content-Type"] == DOCKER + "distribution.manifest.v2+json"
        base = f"docker://127.0.0.1:{ours.ports[0]}"
        skopeo(
            "copy", "--all", "--preserve-digests", "--src-tls-verify=false", f"{base}/team/multi:v1", f"oci:{tmp_path}/from-ours:v1"
        )
        assert contents(tmp_path / "from-ours/blobs") == contents(tmp_path / "from-theirs/blobs")
        assert ours.run("scrub")["missing"] == ours.run("gc")["unreadable"] == []
        assert client.get(f"/v2/team/multi/referrers/{sha256(b'none')}").json["manifests"] == []
        client.push_image("added/by/us", "v1")
        assert client.delete("/v2/single/manifests/oci").status == 202
    finally:
        ours.close()

    again = docker_registry(root)
    assert json.load(urllib.request.urlopen(_request(again.port, "_catalog")))["repositories"] == [
        "added/by/us",
        "single",
        "team/multi",
    ]
    assert json.load(urllib.request.urlopen(_request(again.port, "single/tags/list")))["tags"] == ["docker"]
    manifest = json.load(urllib.request.urlopen(_request(again.port, "added/by/us/manifests/v1")))
    layer = manifest["layers"][0]["digest"]
    assert sha256(urllib.request.urlopen(_request(again.port, f"added/by/us/blobs/{layer}")).read()) == layer


def _request(port: int, path: str) -> urllib.request.Request:
    accept = ", ".join((OCI + "manifest.v1+json", OCI + "index.v1+json", DOCKER + "distribution.manifest.v2+json"))
    return urllib.request.Request(f"http://127.0.0.1:{port}/v2/{path}", headers={"Accept": accept})


def test_an_upload_begun_at_docker_registry_ends_at_ours(docker_registry: Callable[[Path], DockerRegistry], tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    theirs = docker_registry(root)
    begin = urllib.request.Request(f"http://127.0.0.1:{theirs.port}/v2/app/blobs/uploads/", method="POST", data=b"")
    upload = urllib.request.urlopen(begin)
    chunk = urllib.request.Request(upload.headers["Location"], method="PATCH", data=b"begun there, ")
    chunk.add_header("Content-Type", "application/octet-stream")
    urllib.request.urlopen(chunk).close()
    theirs.close()
    ours = LiveRegistry(root)
    try:
        content = b"begun there, ended here"
        path = f"/v2/app/blobs/uploads/{upload.headers['Docker-Upload-UUID']}"
        assert ours.client.get(path).headers["Range"] == "0-12"
        answer = ours.client.ask("PUT", f"{path}?digest={sha256(content)}", content[13:], Content_Range=f"13-{len(content) - 1}")
        assert answer.status == 201
        assert ours.client.get(f"/v2/app/blobs/{sha256(content)}").body == content
    finally:
        ours.close()
    assert os.listdir(root) == ["docker"]


@pytest.fixture
def dockerd() -> Iterator[Dockerd]:
    if not (ROOT / ".peer/usr/sbin/dockerd").exists():
        pytest.skip("no dockerd: scripts/peer unpacks one")
    engine = Dockerd(f"reg{os.getpid()}")
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


@pytest.mark.root
def test_a_real_dockerd_pushes_and_pulls(dockerd: Dockerd, tmp_path: Path) -> None:
    """docker import, push, pull by tag and by digest: the image is the same, and what it pushed is what is stored."""
    registry = LiveRegistry(tmp_path / "registry", prefix=dockerd.host_prefix())
    try:
        docker = CommandLine(dockerd, [docker_program()])
        archive = tmp_path / "root.tar"
        archive.write_bytes(gzip.decompress(layer_of("file", 200_000)[0]))
        name = f"127.0.0.1:{registry.ports[0]}/team/app"
        image_id = docker("import", str(archive), f"{name}:v1").ok()
        pushed = docker("push", f"{name}:v1").ok()
        digest = pushed.rsplit("digest: ", 1)[1].split()[0]
        assert sha256(registry.stored(digest).read_bytes()) == digest
        for reference in (f"{name}:v1", f"{name}@{digest}"):
            docker("rmi", "-f", image_id).ok()
            docker("pull", reference).ok()
            assert docker("image", "inspect", "-f", "{{.Id}}", reference).ok() == image_id
        docker("tag", reference, f"{name}/copy:v2").ok()
        assert "Mounted from team/app" in docker("push", f"{name}/copy:v2").ok()
    finally:
        registry.close()


@pytest.mark.root
def test_docker_login_opens_a_registry_with_users(dockerd: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode())
    registry = LiveRegistry(tmp_path / "registry", "--htpasswd", str(tmp_path / "users"), prefix=dockerd.host_prefix())
    try:
        docker = CommandLine(dockerd, [docker_program()])
        archive = tmp_path / "root.tar"
        archive.write_bytes(gzip.decompress(layer_of("file", 1000)[0]))
        host = f"127.0.0.1:{registry.ports[0]}"
        docker("import", str(archive), f"{host}/app:v1").ok()
        assert "no basic auth credentials" in docker("push", f"{host}/app:v1").stderr
        assert "401 Unauthorized" in docker("login", "-u", "ann", "--password-stdin", host, stdin="wrong").stderr
        assert "Login Succeeded" in docker("login", "-u", "ann", "--password-stdin", host, stdin="secret").ok()
        assert "digest: sha256:" in docker("push", f"{host}/app:v1").ok()
    finally:
        registry.close()

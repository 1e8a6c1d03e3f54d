"""Our registry under podman and buildah: what they push, pull, mount, compress, list and sign in to, each against the bytes stored.

Both keep everything below the test's own folder (`vfs`, so that nothing is mounted) and never start a container here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.compat.test_registry_peers import DOCKER, OCI, write_layout
from tests.contract.registry.live_registry import LiveRegistry, sha256

pytestmark = pytest.mark.root

Tool = Callable[..., str]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LiveRegistry]:
    running = LiveRegistry(tmp_path / "registry")
    yield running
    running.close()


def tool(program: str, folder: Path) -> Tool:
    """A program on a store of its own; gives what it printed."""
    home = folder / program
    home.mkdir(exist_ok=True)
    (home / "auth.json").write_text("{}")
    store = ["--root", str(home / "root"), "--runroot", str(home / "run"), "--storage-driver", "vfs"]
    own = [program, *store, *(["--log-level", "error"] if program == "podman" else [])]
    environment = {**os.environ, "HOME": str(home), "REGISTRY_AUTH_FILE": str(home / "auth.json"), "XDG_RUNTIME_DIR": str(home)}

    def run(*arguments: str, refused: bool = False, stdin: str = "") -> str:
        done = subprocess.run(
            [*own, *arguments], capture_output=True, check=False, timeout=90, env=environment, input=stdin.encode()
        )
        said = (done.stdout + done.stderr).decode()
        assert (done.returncode != 0) == refused, f"{program} {arguments}: {said}"
        return said if refused else done.stdout.decode().strip()

    return run


@pytest.fixture
def home() -> Iterator[Path]:
    """podman wants the path of its run directory to have at most 50 characters, and makes a repository's name of it: no underscores
    at its end."""
    folder = Path(f"/tmp/ct-pod{secrets.token_hex(4)}")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def podman(home: Path) -> Tool:
    return tool("podman", home)


@pytest.fixture
def buildah(home: Path) -> Tool:
    return tool("buildah", home)


@pytest.fixture
def image(podman: Tool, home: Path) -> str:
    """The id of an image that podman has. (It makes a name of the path, which may therefore have no capitals.)"""
    write_layout(home / "layout", "amd64")
    return podman("pull", "-q", f"oci:{home}/layout:v1").splitlines()[-1]


def stored(registry: LiveRegistry, name: str, tag: str) -> tuple[str, dict[str, object]]:
    """The digest and document of what the registry holds, its blobs checked byte by byte."""
    answer = registry.client.get(f"/v2/{name}/manifests/{tag}")
    assert answer.status == 200, answer.body
    document = answer.json
    for part in (document["config"], *document["layers"]):
        assert sha256(registry.stored(part["digest"]).read_bytes()) == part["digest"]
    return sha256(answer.body), document


def test_what_podman_pushes_it_pulls_with_the_same_digest(registry: LiveRegistry, podman: Tool, image: str, tmp_path: Path) -> None:
    host = f"127.0.0.1:{registry.ports[0]}"
    podman("push", "--tls-verify=false", "--digestfile", str(tmp_path / "digest"), image, f"{host}/team/app:v1")
    digest, _ = stored(registry, "team/app", "v1")
    assert (tmp_path / "digest").read_text() == digest
    podman("rmi", "-f", image)
    for reference in (f"{host}/team/app:v1", f"{host}/team/app@{digest}"):
        podman("pull", "-q", "--tls-verify=false", reference)
        assert json.loads(podman("image", "inspect", reference))[0]["Id"] == image
        assert digest in podman("image", "inspect", "--format", "{{.RepoDigests}}", reference)


@pytest.mark.parametrize(
    ("form", "compression", "media_type", "layer_type"),
    [
        ("oci", "gzip", OCI + "manifest.v1+json", "tar+gzip"),
        ("oci", "zstd", OCI + "manifest.v1+json", "tar+zstd"),
        ("v2s2", "gzip", DOCKER + "distribution.manifest.v2+json", "tar.gzip"),
    ],
)
def test_every_form_that_podman_pushes_comes_back(
    registry: LiveRegistry, podman: Tool, image: str, form: str, compression: str, media_type: str, layer_type: str
) -> None:
    name = f"127.0.0.1:{registry.ports[0]}/app:{form}-{compression}"
    podman("push", "--tls-verify=false", "--format", form, "--compression-format", compression, image, name)
    answer = registry.client.get(f"/v2/app/manifests/{form}-{compression}")
    assert answer.headers["Content-Type"] == media_type
    assert all(layer["mediaType"].endswith(layer_type) for layer in answer.json["layers"])
    podman("rmi", "-f", image)
    podman("pull", "-q", "--tls-verify=false", name)
    config = json.loads(podman("image", "inspect", name))[0]
    assert len(config["RootFS"]["Layers"]) == 2


def test_podman_mounts_blobs_between_repositories(registry: LiveRegistry, podman: Tool, image: str) -> None:
    host = f"127.0.0.1:{registry.ports[0]}"
    podman("push", "--tls-verify=false", image, f"{host}/one:v1")
    before = {path for path in (registry.root / "docker").rglob("data") if path.parent.parent.parent.name == "sha256"}
    podman("push", "--tls-verify=false", image, f"{host}/two:v1")
    after = {path for path in (registry.root / "docker").rglob("data") if path.parent.parent.parent.name == "sha256"}
    assert after == before
    assert stored(registry, "one", "v1") == stored(registry, "two", "v1")


def test_podman_signs_in_and_out(podman: Tool, image: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode())
    registry = LiveRegistry(tmp_path / "guarded", "--htpasswd", str(tmp_path / "users"))
    try:
        host = f"127.0.0.1:{registry.ports[0]}"
        push = ("push", "--tls-verify=false", image, f"{host}/app:v1")
        podman(*push, refused=True)
        podman("login", "--tls-verify=false", "-u", "ann", "--password-stdin", host, stdin="wrong", refused=True)
        podman("login", "--tls-verify=false", "-u", "ann", "--password-stdin", host, stdin="secret")
        podman(*push)
        podman("logout", host)
        podman("pull", "-q", "--tls-verify=false", f"{host}/app:v1", refused=True)
    finally:
        registry.close()


def test_what_is_not_there_is_said_so(registry: LiveRegistry, podman: Tool) -> None:
    said = podman("pull", "-q", "--tls-verify=false", f"127.0.0.1:{registry.ports[0]}/nothing:v1", refused=True)
    assert "manifest unknown" in said or "name unknown" in said


def test_podman_lists_the_tags_of_a_repository(registry: LiveRegistry, podman: Tool, image: str) -> None:
    host = f"127.0.0.1:{registry.ports[0]}"
    for tag in ("v1", "v2"):
        podman("push", "--tls-verify=false", image, f"{host}/app:{tag}")
    listed = podman("search", "--tls-verify=false", "--list-tags", f"{host}/app")
    assert [line.split()[1] for line in listed.splitlines()] == ["TAG", "v1", "v2"]


def test_what_buildah_commits_and_pushes_podman_pulls(registry: LiveRegistry, buildah: Tool, podman: Tool, tmp_path: Path) -> None:
    name = f"127.0.0.1:{registry.ports[0]}/built:v1"
    container = buildah("from", "scratch")
    (tmp_path / "file").write_text("content")
    buildah("copy", container, str(tmp_path / "file"), "/file")
    buildah("config", "--cmd", "/file", "--label", "made=here", container)
    image = buildah("commit", "-q", container)
    buildah("push", "--tls-verify=false", "--digestfile", str(tmp_path / "digest"), image, f"docker://{name}")
    digest, document = stored(registry, "built", "v1")
    assert (tmp_path / "digest").read_text() == digest
    podman("pull", "-q", "--tls-verify=false", name)
    inspected = json.loads(podman("image", "inspect", name))[0]
    assert (inspected["Digest"], inspected["Labels"]["made"]) == (digest, "here")
    assert document["config"]["digest"] == f"sha256:{inspected['Id']}"  # type: ignore[index]


def test_a_manifest_list_made_by_buildah_holds_each_platform(
    registry: LiveRegistry, buildah: Tool, podman: Tool, tmp_path: Path
) -> None:
    host = f"127.0.0.1:{registry.ports[0]}"
    images = {}
    for architecture in ("amd64", "arm64"):
        container = buildah("from", "scratch")
        (tmp_path / "arch").write_text(architecture)
        buildah("copy", container, str(tmp_path / "arch"), "/arch")
        buildah("config", "--arch", architecture, "--os", "linux", container)
        images[architecture] = buildah("commit", "-q", container)
    buildah("manifest", "create", "both", *images.values())
    buildah("manifest", "push", "--all", "--tls-verify=false", "both", f"docker://{host}/both:v1")
    answer = registry.client.get("/v2/both/manifests/v1")
    assert answer.headers["Content-Type"] in (OCI + "index.v1+json", DOCKER + "distribution.manifest.list.v2+json")
    assert {each["platform"]["architecture"] for each in answer.json["manifests"]} == {"amd64", "arm64"}
    for architecture, image in images.items():
        podman("pull", "-q", "--tls-verify=false", "--platform", f"linux/{architecture}", f"{host}/both:v1")
        assert json.loads(podman("image", "inspect", f"{host}/both:v1"))[0]["Id"] == image.removeprefix("sha256:")
        podman("rmi", "-f", f"{host}/both:v1")

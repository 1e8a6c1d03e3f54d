"""Our pull and push with real registries: Carrack's own, and Debian's docker-registry (root: layers are unpacked)."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from carrack.errors import Unauthorized
from carrack.images.registries import Puller
from carrack.oci.platform import Platform
from tests.compat.test_registry_peers import DockerRegistry
from tests.contract.registry.live_registry import LiveRegistry
from tests.rig import tarballs
from tests.rig.house import House
from tests.rig.tarballs import Packed, entry, tar

pytestmark = pytest.mark.root

LAYERS = [tar(entry("base", os.urandom(3 << 20))), tar(entry("top", os.urandom(100_000)))]


@pytest.fixture(params=["carrack", "docker-registry"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    registry: LiveRegistry | DockerRegistry
    if request.param == "carrack":
        registry = LiveRegistry(tmp_path / "registry")
        port = registry.ports[0]
    else:
        registry = DockerRegistry(tmp_path / "registry")
        port = registry.port
    yield f"localhost:{port}"
    registry.close()


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[tuple[House, House]]:
    """Two machines."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    pair = House(tmp_path / "here"), House(tmp_path / "there")
    yield pair
    for house in pair:
        house.close()


def test_an_image_goes_through_a_registry_unchanged(houses: tuple[House, House], host: str) -> None:
    here, there = houses
    packed = Packed(LAYERS, [f"{host}/team/app:1"]).gzipped()
    here.load(tarballs.oci_archive({f"{host}/team/app:1": packed}))
    here.push(f"{host}/team/app", "1")
    there.pull(f"{host}/team/app", "1")
    sent, got = here.images.get(f"{host}/team/app:1"), there.images.get(f"{host}/team/app:1")
    assert (got.id, got.repo_digests) == (sent.id, sent.repo_digests)
    assert {there.content.read(blob, 8 << 20) for blob in there.content.list()} == set(packed.members().values())


def test_an_image_for_several_platforms_goes_through_whole(houses: tuple[House, House], host: str) -> None:
    here, there = houses
    arm = Packed([LAYERS[1]], architecture="arm64").gzipped()
    here.load(tarballs.multi_platform(f"{host}/app:1", Packed([LAYERS[0]]).gzipped(), arm))
    here.push(f"{host}/app", "1")
    there.pull(f"{host}/app", "1", Platform("linux", "arm64"))
    assert str(there.images.get(f"{host}/app:1").id) == arm.id


def test_a_blob_of_another_repository_is_mounted(houses: tuple[House, House], host: str) -> None:
    here, _ = houses
    here.load(tarballs.docker_archive(Packed(LAYERS, [f"{host}/one:1", f"{host}/two:1"]).gzipped()))
    here.push(f"{host}/one", "1")
    assert "Mounted from one" in here.push(f"{host}/two", "1")


def test_all_tags_come_and_go(houses: tuple[House, House], host: str) -> None:
    here, there = houses
    here.load(tarballs.docker_archive(Packed(LAYERS[1:], [f"{host}/app:1", f"{host}/app:2"])))
    here.push(f"{host}/app")
    there.pull(f"{host}/app")
    assert there.names() == [f"{host}/app:1", f"{host}/app:2"]


def test_docker_hub_is_served_by_a_mirror(houses: tuple[House, House], host: str) -> None:
    here, there = houses
    here.load(tarballs.docker_archive(Packed(LAYERS[1:], [f"{host}/library/nginx:latest"])))
    here.push(f"{host}/library/nginx", "latest")
    there.puller = Puller(there.images, mirrors=(f"http://{host}",))
    assert there.pull("nginx", "latest")[-1] == "Status: Downloaded newer image for nginx:latest"
    assert there.names() == ["nginx:latest"]


def test_a_password_opens_our_registry(houses: tuple[House, House], tmp_path: Path) -> None:
    here, there = houses
    users = tmp_path / "users"
    users.write_bytes(b"me:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    registry = LiveRegistry(tmp_path / "guarded", "--htpasswd", str(users))
    try:
        host = f"localhost:{registry.ports[0]}"
        here.load(tarballs.docker_archive(Packed(LAYERS[1:], [f"{host}/app:1"])))
        with pytest.raises(Unauthorized):
            here.push(f"{host}/app", "1")
        login = base64.urlsafe_b64encode(json.dumps({"username": "me", "password": "secret"}).encode()).decode()
        here.push(f"{host}/app", "1", login)
        there.pull(f"{host}/app", "1", None, login)
        assert there.names() == [f"{host}/app:1"]
        here.puller.login(host, "me", "secret")
        with pytest.raises(Unauthorized):
            here.puller.login(host, "me", "wrong")
    finally:
        registry.close()

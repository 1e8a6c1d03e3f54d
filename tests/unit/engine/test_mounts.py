"""Mounts are read from every spelling Docker has for them."""

import pytest

from carrack.engine import mounts
from carrack.engine.config import BindOptions, ContainerConfig, HostConfig, MountRequest, TmpfsOptions, VolumeOptions
from carrack.engine.container import MountPoint
from carrack.errors import InvalidParameter


def resolve(host: HostConfig, volumes: dict[str, dict[str, str]] | None = None, exists: bool = True) -> list[MountPoint]:
    return mounts.resolve(ContainerConfig(volumes=volumes), host, [], lambda path: exists)


def test_a_host_path_is_a_bind_mount() -> None:
    point = mounts.parse_bind("/src/../data:/dst/:ro,rslave")
    assert (point.type, point.source, point.destination, point.writable, point.propagation) == (
        "bind",
        "/data",
        "/dst",
        False,
        "rslave",
    )


def test_a_name_is_a_volume_that_is_filled_from_the_image() -> None:
    point = mounts.parse_bind("cache:/var/cache")
    assert (point.type, point.name, point.copy_up, point.anonymous) == ("volume", "cache", True, False)


def test_nocopy_leaves_a_volume_empty() -> None:
    assert mounts.parse_bind("cache:/c:nocopy").copy_up is False


def test_a_lone_path_is_an_anonymous_volume() -> None:
    assert mounts.parse_bind("/data").anonymous


@pytest.mark.parametrize(
    "text", ["", ":", "a:b", "/a:b", "/a:/b:bogus", "/a:/b:ro:x", "a/b:/c", "/a:/", "v:/x:rslave", "/a:/b:nocopy", "/a:/b:ro,rw"]
)
def test_a_malformed_bind_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        mounts.parse_bind(text)


def test_two_mounts_at_one_place_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="Duplicate mount point: /x"):
        resolve(HostConfig(binds=["/a:/x", "/b:/x/"]))


def test_an_explicit_mount_takes_the_place_of_the_images_volume() -> None:
    points = resolve(HostConfig(binds=["/a:/data"]), {"/data": {}})
    assert [point.type for point in points] == ["bind"]


def test_a_mount_of_a_missing_host_path_is_refused() -> None:
    host = HostConfig(mounts=[MountRequest("bind", "/nope", "/x")])
    with pytest.raises(InvalidParameter, match='invalid mount config for type "bind": bind source path does not exist: /nope'):
        resolve(host, exists=False)


def test_a_missing_host_path_may_be_made_on_request() -> None:
    host = HostConfig(mounts=[MountRequest("bind", "/nope", "/x", bind_options=BindOptions(create_mountpoint=True))])
    assert resolve(host, exists=False)[0].options == ("create",)


@pytest.mark.parametrize(
    "asked",
    [
        MountRequest("bind", "", "/x"),
        MountRequest("bind", "relative", "/x"),
        MountRequest("volume", "bad/name", "/x"),
        MountRequest("volume", "v", "/x", volume_options=VolumeOptions(subpath="../up")),
        MountRequest("tmpfs", "source", "/x"),
        MountRequest("floppy", "a", "/x"),
        MountRequest("bind", "/a", ""),
    ],
)
def test_a_mount_that_cannot_be_meant_is_refused(asked: MountRequest) -> None:
    with pytest.raises(InvalidParameter, match="invalid mount config|includes invalid characters"):
        resolve(HostConfig(mounts=[asked]))


def test_a_tmpfs_has_its_size_and_mode() -> None:
    host = HostConfig(mounts=[MountRequest("tmpfs", "", "/t", tmpfs_options=TmpfsOptions(size_bytes=4096, mode=0o1777))])
    assert resolve(host)[0].options == ("size=4096", "mode=1777")


def test_an_unknown_tmpfs_option_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid tmpfs option 'owner=me'"):
        resolve(HostConfig(tmpfs={"/t": "owner=me"}))

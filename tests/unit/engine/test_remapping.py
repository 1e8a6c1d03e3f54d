"""The numbers that `--userns-remap` finds in subuid(5) and subgid(5)."""

from pathlib import Path

import pytest

from carrack.engine import remapping
from carrack.engine.config import HostConfig
from carrack.errors import InvalidParameter
from carrack.oci.runtime_spec import IDMapping


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "subuid", tmp_path / "subgid"


def test_a_user_has_all_of_its_ranges_one_after_the_other(files: tuple[Path, Path]) -> None:
    files[0].write_text("# ours\nroot:100000:1000\nnobody:5:1\nroot:300000:500\nbroken:line\n")
    files[1].write_text("0:200000:65536\n")
    found = remapping.find("root", *files)
    assert found.uids == (IDMapping(0, 100000, 1000), IDMapping(1000, 300000, 500))
    assert found.gids == (IDMapping(0, 200000, 65536),)
    assert found.root == (100000, 200000)


def test_the_default_sets_a_range_aside_once_behind_all_others(files: tuple[Path, Path]) -> None:
    files[0].write_text("root:100000:65536")
    first = remapping.find("default", *files)
    assert first.uids == (IDMapping(0, 165536, 65536),)
    assert first.gids == (IDMapping(0, 100000, 65536),)
    assert remapping.find("default", *files) == first
    assert files[0].read_text() == "root:100000:65536\ndockremap:165536:65536\n"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("no-such-user-here", "no user no-such-user-here"),
        ("root:no-such-group", "no group no-such-group"),
        ("root", "no subordinate range"),
        (":root", "invalid value"),
        ("root:", "invalid value"),
    ],
)
def test_what_names_no_range_is_refused(files: tuple[Path, Path], wish: str, message: str) -> None:
    files[0].write_text("" if wish == "root" else "root:100000:65536\n")
    with pytest.raises(InvalidParameter, match=message):
        remapping.find(wish, *files)


def test_only_without_a_remap_or_with_the_hosts_is_privilege_allowed() -> None:
    remap = remapping.Remap((IDMapping(0, 1, 1),), (IDMapping(0, 1, 1),))
    with pytest.raises(InvalidParameter, match="privileged mode is incompatible"):
        remapping.check(HostConfig(privileged=True), remap)
    remapping.check(HostConfig(privileged=True), None)
    remapping.check(HostConfig(privileged=True, userns_mode="host"), remap)


@pytest.mark.parametrize(
    ("file_system", "kernel"),
    [("extfs", "5.19.0"), ("xfs", "6.1.0-13-amd64"), ("btrfs", "6.1.0"), ("tmpfs", "6.18.44"), ("tmpfs", "6.3"), ("zfs", "6.8.0")],
)
def test_a_place_whose_files_can_be_shifted_will_do(file_system: str, kernel: str) -> None:
    remapping.check_place("/var/lib/carrack", file_system, kernel)


@pytest.mark.parametrize(
    ("file_system", "kernel", "message"),
    [
        ("extfs", "5.15.0-91-generic", "needs Linux 5.19, whose overlays can be id-mapped; this is 5.15.0-91-generic"),
        ("tmpfs", "6.1.0", "tmpfs at /data can since Linux 6.3, and this is 6.1.0; ext4, xfs and btrfs can"),
        ("nfs4", "6.18.0", "nfs4 at /data cannot; ext4, xfs and btrfs can"),
        ("fuse.sshfs", "6.18.0", "fuse.sshfs at /data cannot"),
        ("overlay", "6.18.0", "overlay at /data cannot"),
    ],
)
def test_a_place_whose_files_cannot_is_refused_with_what_could(file_system: str, kernel: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        remapping.check_place("/data", file_system, kernel)
    assert message in caught.value.message

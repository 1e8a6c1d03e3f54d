"""Where a container's cgroup is, by its parent's name."""

import pytest

from carrack.engine import cgroup_places
from carrack.errors import InvalidParameter


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("shop.slice", "/shop.slice"),
        ("shop-front-left.slice", "/shop.slice/shop-front.slice/shop-front-left.slice"),
        ("user-1000.slice", "/user.slice/user-1000.slice"),
        ("-.slice", ""),
    ],
)
def test_a_slice_lies_in_those_that_its_name_begins_with(name: str, path: str) -> None:
    assert cgroup_places.path_of_slice(name) == path


@pytest.mark.parametrize("name", ["a--b.slice", "-a.slice", "a-.slice", ".slice", "a b.slice", "ä.slice"])
def test_what_is_no_slices_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        cgroup_places.path_of_slice(name)


@pytest.mark.parametrize(
    ("parent", "slices", "path"),
    [
        ("/carrack", True, "/carrack/c0ffee"),
        ("/mine/deep/", True, "/mine/deep/c0ffee"),
        ("a-b.slice", True, "/a.slice/a-b.slice/carrack-c0ffee.scope/container"),
        ("a-b.slice", False, "/a-b.slice/c0ffee"),
        ("/x/a.slice", True, "/x/a.slice/c0ffee"),
    ],
)
def test_a_container_is_below_its_parent_or_in_a_scope_of_its_slice(parent: str, slices: bool, path: str) -> None:
    assert cgroup_places.place("c0ffee", parent, slices=slices) == path


@pytest.mark.parametrize(
    ("parent", "slices", "only", "message"),
    [
        ("/mine", True, True, 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'),
        (".slice", True, True, "should be a valid slice"),
        ("a--b.slice", True, False, "invalid slice name: a--b.slice"),
        ("/a/../b", False, False, "invalid cgroup parent"),
    ],
)
def test_a_parent_that_cannot_be_is_refused(parent: str, slices: bool, only: bool, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message.replace(".", r"\.")):
        cgroup_places.check(parent, slices=slices, slices_only=only)

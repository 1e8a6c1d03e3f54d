"""Names, sets and Docker's rule for adding and dropping."""

from __future__ import annotations

import pytest

from carrack.errors import InvalidParameter
from carrack.oci.runtime_spec import Capabilities
from carrack.runtime import capabilities


def test_the_default_set_is_dockers_mask() -> None:
    found, unknown = capabilities.masks(Capabilities(bounding=capabilities.DEFAULT))
    assert found is not None
    assert (found.bounding, unknown) == (0xA80425FB, ())


@pytest.mark.parametrize("spelling", ["net_admin", "NET_ADMIN", "CAP_NET_ADMIN", "cap_net_admin"])
def test_a_capability_may_be_spelt_in_four_ways(spelling: str) -> None:
    assert capabilities.normalise(spelling) == "CAP_NET_ADMIN"


def test_an_unknown_capability_is_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match='unknown capability: "CAP_FLY"'):
        capabilities.normalise("fly")


def test_adding_one_keeps_the_default() -> None:
    assert set(capabilities.chosen(["SYS_TIME"], [])) == {*capabilities.DEFAULT, "CAP_SYS_TIME"}


def test_dropping_all_leaves_only_what_is_added() -> None:
    assert capabilities.chosen(["chown"], ["ALL"]) == ("CAP_CHOWN",)


def test_adding_all_but_one_gives_all_but_that_one() -> None:
    assert set(capabilities.NAMES) - set(capabilities.chosen(["ALL"], ["MKNOD"])) == {"CAP_MKNOD"}


def test_a_mask_and_its_names_say_the_same() -> None:
    found, _ = capabilities.masks(Capabilities(effective=capabilities.NAMES))
    assert found is not None
    assert capabilities.named(found.effective) == capabilities.NAMES


def test_a_name_of_a_newer_kernel_is_told_and_left_out() -> None:
    found, unknown = capabilities.masks(Capabilities(permitted=("CAP_CHOWN", "CAP_TOMORROW")))
    assert found is not None
    assert (found.permitted, unknown) == (1, ("CAP_TOMORROW",))

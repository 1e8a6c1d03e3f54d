"""Netlink messages: a length is never less than what it stands for."""

import struct

import pytest

from carrack.kernel import netlink


# CVE-2021-43784
def test_an_attribute_that_is_longer_than_its_length_can_say_is_refused() -> None:
    assert netlink._attribute(1, b"x" * 65531)[:2] == b"\xff\xff"
    with pytest.raises(struct.error):
        netlink._attribute(1, b"x" * 65532)

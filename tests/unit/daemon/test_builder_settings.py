"""`builder` of daemon.json."""

from __future__ import annotations

import pytest

from carrack.daemon.builder_settings import UNBOUNDED, BuilderSettings, read
from carrack.errors import InvalidParameter


def test_nothing_said_is_a_tenth_of_the_disk_and_the_hosts_network_on_request() -> None:
    assert read({}) == BuilderSettings(0, frozenset({"network.host", "device"}))


def test_a_ceiling_is_a_size_or_none() -> None:
    assert read({"gc": {"defaultKeepStorage": "20GB"}}).ceiling_bytes == 20 << 30
    assert read({"gc": {"enabled": False}}).ceiling_bytes == UNBOUNDED


def test_rights_are_given_and_taken() -> None:
    given = read({"entitlements": {"network-host": False, "security-insecure": True, "device": False}})
    assert given.entitlements == {"security.insecure"}


@pytest.mark.parametrize(
    "document",
    [
        {"no": 1},
        {"gc": {"policy": [{"keepStorage": "1GB"}]}},
        {"gc": []},
        {"entitlements": {"no": True}},
        {"gc": {"defaultKeepStorage": True}},
    ],
)
def test_what_has_no_meaning_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        read(document)

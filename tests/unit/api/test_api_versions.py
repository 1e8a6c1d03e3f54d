"""Versions compare as numbers, and bounds are told in Docker's words."""

from __future__ import annotations

import pytest

from carrack.api.versions import at_least, check
from carrack.errors import InvalidParameter


def test_versions_compare_as_numbers() -> None:
    assert at_least("1.24", "1.9")
    assert not at_least("1.9", "1.24")
    assert at_least("1.43", "1.43")


def test_too_old_and_too_new_name_the_bound() -> None:
    with pytest.raises(InvalidParameter, match=r"client version 1\.12 is too old\. Minimum supported API version is 1\.24, please"):
        check("1.12", "1.24", "1.43")
    with pytest.raises(InvalidParameter, match=r"client version 1\.99 is too new\. Maximum supported API version is 1\.43$"):
        check("1.99", "1.24", "1.43")

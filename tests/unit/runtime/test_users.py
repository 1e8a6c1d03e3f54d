"""Who a container's process is, by Docker's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.errors import InvalidParameter
from carrack.runtime import users
from carrack.runtime.users import Account

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:web:/var/www:/bin/sh\n# note\nbroken line\n1000:x:7:8::/seven:\n"
GROUP = b"root:x:0:\nweb:x:34:\naudio:x:29:www,other\nvideo:x:44:other,www\n77:x:5:\n"


@pytest.mark.parametrize(
    ("wish", "account"),
    [
        ("", Account(0, 0, (), "/root")),
        ("root", Account(0, 0, (), "/root")),
        ("www", Account(33, 34, (29, 44), "/var/www")),
        ("33", Account(33, 34, (29, 44), "/var/www")),
        ("www:audio", Account(33, 29, (), "/var/www")),
        ("www:4711", Account(33, 4711, (), "/var/www")),
        ("4711", Account(4711, 0, (), "/")),
        ("4711:4712", Account(4711, 4712, (), "/")),
        (":audio", Account(0, 29, (), "/root")),
        ("1000", Account(7, 8, (), "/seven")),
        ("0:77", Account(0, 5, (), "/root")),
    ],
)
def test_a_user_means_what_docker_takes_it_to_mean(wish: str, account: Account) -> None:
    assert users.resolve(wish, PASSWD, GROUP) == account


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("root:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("0:99999999999999999999999", "uids and gids must be in range 0-2147483647"),
        ("0x0", "unable to find user 0x0: no matching entries in passwd file"),
    ],
)
def test_a_user_that_cannot_be_meant_is_refused_in_dockers_words(wish: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        users.resolve(wish, PASSWD, GROUP)
    assert refused.value.message == message


def test_a_number_too_large_in_the_image_is_no_way_to_become_root() -> None:
    assert users.resolve("evil", b"evil:x:4294967296:4294967296::/:\nevil:x:5:5::/five:\n", b"").uid == 5


def test_an_image_without_passwd_still_has_root() -> None:
    assert users.resolve("", b"", b"") == Account(0, 0, (), "/")


@given(st.binary(max_size=400), st.binary(max_size=400), st.text(max_size=12))
def test_no_file_and_no_wish_gives_anything_but_an_account_in_range_or_a_refusal(passwd: bytes, group: bytes, wish: str) -> None:
    try:
        found = users.resolve(wish, passwd, group)
    except InvalidParameter:
        return
    assert all(0 <= number <= users.LARGEST_ID for number in (found.uid, found.gid, *found.groups))
    assert found.home


@given(st.integers(min_value=0, max_value=users.LARGEST_ID))
def test_every_number_in_range_is_itself(number: int) -> None:
    assert users.resolve(str(number), b"", b"").uid == number

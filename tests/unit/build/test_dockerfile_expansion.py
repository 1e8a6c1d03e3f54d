"""Variables: every form of the reference, and what is refused."""

from __future__ import annotations

import time

import pytest

from carrack.build.dockerfile.expansion import Expansion
from carrack.build.dockerfile.failure import Fault

VALUES = {"x": "foobarbaz", "empty": "", "path": "/a/b/c.tar.gz", "blank": "a b", "star": "a*b"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("$x", "foobarbaz"), ("${x}", "foobarbaz"), ("$none.", "."), (r"\$x", "$x"), ("'$x'", "$x"), ('"$x"', "foobarbaz"),
        ("${none:-y}", "y"), ("${empty:-y}", "y"), ("${empty-y}", ""), ("${x:+y}", "y"), ("${empty:+y}", ""), ("${empty+y}", "y"),
        ("${none+y}", ""), ("${none:-${x}}", "foobarbaz"), ("${x?e}", "foobarbaz"), ("${path#*/}", "a/b/c.tar.gz"),
        ("${path##*/}", "c.tar.gz"), ("${path%.*}", "/a/b/c.tar"), ("${path%%.*}", "/a/b/c"), ("${x/ba?/-}", "foo-baz"),
        ("${x//ba?/-}", "foo--"), ("${path//\\//_}", "_a_b_c.tar.gz"), ("${star/\\*/+}", "a+b"), ("${x#b}", "foobarbaz"),
    ],
)  # fmt: skip
def test_each_form_gives_its_value(source: str, expected: str) -> None:
    assert Expansion(VALUES.get).word(source) == expected


@pytest.mark.parametrize("source", ["${", "${}", "${x", "${x:y}", "'x", '"x', "${none:?}", "${x:#y}", "${x/a}", "${x#\\q}"])
def test_what_is_malformed_is_refused(source: str) -> None:
    with pytest.raises(Fault):
        Expansion(VALUES.get).word(source)


def test_the_demanded_variable_is_named_with_the_given_words() -> None:
    with pytest.raises(Fault, match="none: set it to yes"):
        Expansion(VALUES.get).word("${none:?set it to ${empty:-yes}}")


def test_blanks_of_a_value_divide_words_unless_quoted() -> None:
    assert Expansion(VALUES.get).words('$blank "$blank"') == ("a", "b", "a b")


def test_the_backtick_escapes_when_told_so() -> None:
    assert Expansion(VALUES.get, "`").word("c:\\`$x") == "c:\\$x"


def test_missing_and_found_variables_are_reported() -> None:
    result = Expansion(VALUES.get).expand("$x ${none:-$other}")
    assert (result.found, result.missing) == (frozenset({"x"}), frozenset({"none", "other"}))


def test_a_deep_substitution_is_refused_instead_of_exhausting_the_stack() -> None:
    with pytest.raises(Fault, match="nested too deeply"):
        Expansion(VALUES.get).word("${q:-" * 5000 + "}" * 5000)


def test_a_pattern_of_many_stars_ends_in_time() -> None:
    begun = time.monotonic()
    assert Expansion({"long": "a" * 3000}.get).word("${long##" + "*a" * 40 + "b}") == "a" * 3000
    assert time.monotonic() - begun < 2


def test_a_result_that_grows_without_bound_is_refused() -> None:
    with pytest.raises(Fault, match="larger than"):
        Expansion({"big": "x" * 100_000}.get).word("$big" * 100)

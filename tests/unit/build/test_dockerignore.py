"""Ignore files: the documented rules, and those of Go's matcher beneath."""

from __future__ import annotations

import time

import pytest

from carrack.build.dockerfile.failure import DockerfileError
from carrack.build.dockerfile.ignore import ignore_file_names, read_ignore_file


@pytest.mark.parametrize(
    ("rules", "path", "excluded"),
    [
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "somedir/temp/x", True),
        ("*/temp*", "temporary", False),
        ("*/*/temp*", "a/b/temp", True),
        ("temp?", "tempa", True),
        ("temp?", "temp/", False),
        ("**/*.go", "a.go", True),
        ("**/*.go", "a/b/c.go", True),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("/foo", "foo", True),
        ("foo/", "foo/bar", True),
        ("  foo  ", "foo", True),
        ("a/../b", "b", True),
        ("# foo", "# foo", False),
        (" # foo", "# foo", True),
        ("foo/**", "foo", False),
        ("foo/**", "foo/a/b", True),
        ("**/foo", "foo", True),
        ("**/foo", "x/foo/y", True),
        ("**", "anything", True),
        (".", "x", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("*", "a/b", True),
        ("*\n!a/b", "a/b", False),
        ("*\n!a/b", "a/c", True),
        ("**/a*/**/b*/**/c", "x/a1/y/b2/z/c", True),
        ("**/a*/**/b*/**/c", "x/a1/y/z/c", False),
        ("\ufefffoo", "foo", True),
        ("foo\r\n", "foo", True),
        ("! foo", "foo", False),
        ("*", ".", False),
        ("a+b", "a+b", True),
        ("a.b", "axb", False),
    ],
)
def test_a_path_is_judged(rules: str, path: str, excluded: bool) -> None:
    assert read_ignore_file(rules).excludes(path) is excluded


@pytest.mark.parametrize("pattern", ["[", "[]a]", "a\\", "[a-", "!", "[-x]"])
def test_a_malformed_pattern_is_refused_with_its_line(pattern: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        read_ignore_file(f"fine\n{pattern}\n")
    assert (caught.value.file, caught.value.line) == (".dockerignore", 2)


def test_a_folder_left_out_is_walked_when_an_exception_lies_in_it() -> None:
    rules = read_ignore_file("*\n!a/b/c\n!x*/y")
    assert [rules.may_hold(folder) for folder in ("a", "a/b", "b", "x1")] == [True, True, False, True]


def test_the_dockerfiles_own_ignore_file_comes_first() -> None:
    assert ignore_file_names("docker/app.Dockerfile") == ("docker/app.Dockerfile.dockerignore", ".dockerignore")


def test_a_hostile_pattern_ends_in_time() -> None:
    rules = read_ignore_file("**/" + "*a" * 60 + "b")
    begun = time.monotonic()
    assert rules.excludes("a" * 255) is False
    assert time.monotonic() - begun < 3

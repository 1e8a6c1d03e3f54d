"""The text of a Dockerfile to its syntax tree."""

from __future__ import annotations

import pytest

from carrack.build.dockerfile.failure import DockerfileError, Position
from carrack.build.dockerfile.heredoc import Heredoc
from carrack.build.dockerfile.instructions_of import instructions_of
from carrack.build.dockerfile.syntax import Pair, Statement, parse


def one(text: str) -> Statement:
    (statement,) = parse(text).statements
    return statement


def test_a_continued_line_is_joined_and_knows_its_lines() -> None:
    statement = one("# top\n\nRUN a && \\\n  # comment\n\n  b\n")
    assert statement.arguments == ("a &&   b",)
    assert statement.position == Position(3, 6)


def test_an_empty_continuation_is_reported_by_its_line() -> None:
    assert parse("RUN a \\\n\n b\n").empty_continuations == (3,)


def test_a_doubled_escape_at_the_end_continues_nothing() -> None:
    assert [each.keyword for each in parse("RUN a \\\\\nUSER b\n").statements] == ["RUN", "USER"]


def test_the_escape_directive_changes_the_continuation() -> None:
    tree = parse("# escape=`\nRUN dir c:\\\nRUN a `\n b\n")
    assert [each.arguments for each in tree.statements] == [("dir c:\\",), ("a  b",)]


def test_directives_end_at_the_first_line_that_is_none() -> None:
    tree = parse("# syntax=docker/dockerfile:1\n# check=skip=all\n# a comment\n# escape=`\nFROM x")
    assert tree.directive("syntax") == "docker/dockerfile:1"
    assert tree.directive("check") == "skip=all"
    assert tree.escape == "\\"


def test_a_directive_may_stand_once() -> None:
    with pytest.raises(DockerfileError, match="only one escape parser directive can be used"):
        parse("# escape=`\n# escape=\\\nFROM x")


def test_a_byte_order_mark_is_dropped() -> None:
    assert one("\ufeffFROM x").keyword == "FROM"


def test_flags_lose_their_quotes_and_end_at_a_bare_double_dash() -> None:
    statement = one("COPY --chown='a b' --link -- --from=x /y")
    assert statement.flags == ("--chown=a b", "--link")
    assert statement.arguments == ("--from=x", "/y")


@pytest.mark.parametrize("text", ["RUN ['a']", 'RUN ["a"', "RUN [a]", 'RUN ["a",]', "RUN [NaN]"])
def test_what_is_no_json_array_is_shell_form(text: str) -> None:
    assert one(text).json is False


def test_a_json_array_of_something_else_than_strings_is_refused() -> None:
    with pytest.raises(DockerfileError, match="arrays must be comprised of strings only"):
        parse('RUN ["a", 1]')


def test_env_has_an_old_form_and_a_new_one() -> None:
    assert one("ENV a b c").pairs == (Pair("a", "b c", legacy=True),)
    assert one("ENV a=b c='d e'").pairs == (Pair("a", "b"), Pair("c", "'d e'"))


def test_a_word_of_env_without_equals_is_named_with_its_column() -> None:
    with pytest.raises(DockerfileError, match='can\'t find = in "c"') as caught:
        parse("FROM x\nENV a=b c\n")
    assert (caught.value.line, caught.value.column, caught.value.source) == (2, 9, "ENV a=b c")


def test_the_rendered_error_marks_the_column() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("ENV a=b c\n", "app.Dockerfile")
    assert caught.value.render().splitlines()[:3] == ["app.Dockerfile:1:9", "   1 | ENV a=b c", "               ^"]


def test_several_heredocs_of_one_instruction_follow_each_other() -> None:
    statement = one('COPY <<a <<-"b" /x/\n1\na\n\t2 $y\n\tb\n')
    assert statement.heredocs == (Heredoc("a", content="1\n"), Heredoc("b", expand=False, chomp=True, content="\t2 $y\n"))
    assert statement.heredocs[1].text == "2 $y\n"
    assert statement.position == Position(1, 5)


def test_a_shift_inside_quotes_opens_no_heredoc() -> None:
    assert one('RUN echo "$((1 <<2))"').heredocs == ()


def test_a_heredoc_without_its_end_is_refused() -> None:
    with pytest.raises(DockerfileError, match="unterminated heredoc"):
        parse("RUN <<EOF\necho\n")


def test_onbuild_holds_another_statement_and_its_heredoc() -> None:
    statement = one("ONBUILD RUN <<EOF\nx\nEOF")
    assert statement.trigger is not None
    assert statement.trigger.keyword == "RUN"
    assert statement.heredocs[0].content == "x\n"


@pytest.mark.parametrize("text", ["", "# only\n", "\n\n", "\\\n"])
def test_a_file_without_instructions_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        instructions_of(parse(text))


def test_comments_right_above_belong_to_the_instruction() -> None:
    assert parse("# old\n#\n# base image\nFROM x").statements[0].comments == ("base image",)

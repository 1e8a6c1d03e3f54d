"""What is printed: tables, templates, sizes and durations, JSON, progress."""

from collections.abc import Callable
from typing import Any

import pytest

from carrack.cli.failure import CommandFailure
from carrack.cli.render.formats import print_by_template
from carrack.cli.render.indent import compact, indent
from carrack.cli.render.noun import Noun
from carrack.cli.render.progress import ProgressDisplay, progress_bar
from carrack.cli.render.rows import print_rows
from carrack.cli.render.table import align
from carrack.cli.render.template import TemplateError, parse_template
from carrack.cli.render.units import binary_size, ellipsis, human_duration, human_size, parse_rfc3339


class Page:
    """An output that keeps what it is given."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.text = ""
        self.is_terminal = terminal

    def write(self, text: str) -> None:
        self.text += text

    def line(self, text: str = "") -> None:
        self.text += f"{text}\n"

    def flush(self) -> None:
        """Everything is here already."""

    def size(self) -> tuple[int, int]:
        return (24, 120)


def test_columns_are_ten_wide_at_least_and_three_apart() -> None:
    assert align("ID\tNAME\na\tb\nlonger-than-ten\tc\n") == "ID                NAME\na                 b\nlonger-than-ten   c\n"


def test_the_last_text_of_a_line_is_not_padded() -> None:
    assert align("a\tb\n") == "a         b\n"


def test_wide_characters_take_two_places() -> None:
    assert align("漢字漢字漢字\tx\n1234567890123\tx\n").splitlines()[0] == "漢字漢字漢字    x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5399, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_a_duration_is_told_about(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (1234567, "1.235MB"), (10**15, "1PB")])
def test_sizes_are_decimal_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


def test_memory_is_binary() -> None:
    assert binary_size(1024 * 1024 * 1.5) == "1.5MiB"


def test_text_is_cut_with_an_ellipsis() -> None:
    assert (ellipsis("abcdef", 4), ellipsis("abcd", 4), ellipsis("漢字漢字", 5)) == ("abc…", "abcd", "漢字…")


def test_a_timestamp_keeps_its_nanoseconds() -> None:
    assert parse_rfc3339("2013-01-02T13:23:37.123456789+01:00") == (1357129417, 123456789)


# -- JSON


def test_json_is_laid_out_as_go_does_it() -> None:
    text = '{"a":[1,{"b":"x, {y}\\""}],"c":{},"d":[ ],"e":"\\u003c"}'
    expected = """{
    "a": [
        1,
        {
            "b": "x, {y}\\""
        }
    ],
    "c": {},
    "d": [],
    "e": "\\u003c"
}"""
    assert indent(text) == expected
    assert compact(indent(text)) == text.replace("[ ]", "[]")


# -- templates

DOCUMENT: dict[str, Any] = {
    "Id": "abc",
    "State": {"Status": "running", "Pid": 7, "Paused": False},
    "Args": ["-c", "true"],
    "Labels": {"b": "2", "a": "1"},
    "Empty": [],
    "Nothing": None,
    "Html": "<a>",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Id}}-{{.State.Pid}}", "abc-7"),
        ("{{json .State}}", '{"Status":"running","Pid":7,"Paused":false}'),
        ("{{json .Html}}", '"<a>"'),
        ("{{.Labels}}{{.Args}}{{.Nothing}}", "map[a:1 b:2][-c true]<nil>"),
        ("{{range .Args}}[{{.}}]{{end}}", "[-c][true]"),
        ("{{range $i, $a := .Args}}{{$i}}={{$a}};{{end}}", "0=-c;1=true;"),
        ("{{range $k, $v := .Labels}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ('{{if .State.Paused}}a{{else if eq .Id "abc"}}b{{else}}c{{end}}', "b"),
        ("{{if and .Id (not .Empty)}}yes{{end}}", "yes"),
        ("{{if or .Empty .Nothing}}yes{{else}}no{{end}}", "no"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .Nothing}}x{{else}}{{.Id}}{{end}}", "abc"),
        ('{{index .Args 1}} {{index .Labels "a"}}', "true 1"),
        ("{{len .Args}} {{len .Id}}", "2 3"),
        ('{{join .Args "+"}}', "-c+true"),
        ('{{upper .Id}} {{lower "ABC"}} {{title .Id}}', "ABC abc Abc"),
        ('{{range split "a:b" ":"}}<{{.}}>{{end}}', "<a><b>"),
        ("{{pad .Id 1 2}}|{{truncate .Id 2}}", " abc  |ab"),
        (
            '{{printf "%s %d %5d|%-5s|%05d %q %v %t %.2f %x" .Id 7 7 .Id 7 .Id .Args true 1.5 255}}',
            'abc 7     7|abc  |00007 "abc" [-c true] true 1.50 ff',
        ),
        ("{{println .Id 1}}", "abc 1\n"),
        ('{{print 1 2 "a" "b"}}', "1 2ab"),
        ('{{.Id | printf "%s!" | upper}}', "ABC!"),
        ('{{$x := .Id}}{{$x}}{{$x = "z"}}{{$x}}', "abcz"),
        ("a {{- .Id -}} b", "aabcb"),
        ("{{/* nothing */}}x", "x"),
        ('{{range .Args}}{{if eq . "-c"}}{{continue}}{{end}}{{.}}{{end}}', "true"),
        ("{{range .Args}}{{.}}{{break}}{{end}}", "-c"),
        ("{{(index .Args 0)}}{{(.State).Pid}}", "-c7"),
        ("{{`raw \\n`}}", "raw \\n"),
        ('{{define "t"}}<{{.}}>{{end}}{{template "t" .Id}}', "<abc>"),
        ("{{.Missing}}", "<no value>"),
        ("{{lt 1 2}} {{ge 2 2}} {{ne 1 2}} {{eq 3 1 3}}", "true true true true"),
        ('{{html .Html}} {{urlquery "a b"}}', "&lt;a&gt; a+b"),
        ("{{slice .Id 1 3}}", "bc"),
        ('{{and 1 0}} {{or 0 "x"}}', "0 x"),
        ("{{range $.Args}}{{$.Id}}{{end}}", "abcabc"),
    ],
)
def test_a_template_says(template: str, text: str) -> None:
    assert parse_template(template).render(DOCUMENT) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Id", "template: :1: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("{{if .Id}}x", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{.Id | }}", "template: :1: missing value for command"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
    ],
)
def test_a_template_that_cannot_be_read_is_named_in_gos_words(template: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(template)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Nope}}", 'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"'),
        ("ab\n{{.Id.X}}", 'template: :2:2: executing "" at <.Id.X>: can\'t evaluate field X in type string'),
        ("{{index .Args 9}}", 'template: :1:2: executing "" at <index>: error calling index: reflect: slice index out of range'),
    ],
)
def test_a_template_that_does_not_fit_says_where(template: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(template).render(DOCUMENT, strict=True)
    assert str(caught.value) == text


NOUN = Noun(
    "*formatter.Thing",
    {"ID": ("THING ID", lambda row: row["id"]), "Name": ("NAME", lambda row: row["name"])},
    {"Label": lambda row, name: f"{row['id']}:{name}"},
)
ROWS = [{"id": "1", "name": "one"}, {"id": "2", "name": "<two>"}]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", "THING ID   NAME\n1          one\n2          <two>\n"),
        ("table {{.Name}}\\t{{.ID}}", "NAME      THING ID\none       1\n<two>     2\n"),
        ('table {{.Label "com.my-label"}}', "my label\n1:com.my-label\n2:com.my-label\n"),
        ("table {{upper .Name}}", "NAME\nONE\n<TWO>\n"),
        ("{{.ID}}\\n", "1\n\n2\n\n"),
        ("json", '{"ID":"1","Name":"one"}\n{"ID":"2","Name":"\\u003ctwo\\u003e"}\n'),
        ("{{json .ID}}", '"1"\n"2"\n'),
    ],
)
def test_rows_are_printed_by_format(template: str, text: str) -> None:
    page = Page()
    print_rows(page, NOUN, ROWS, template=template, columns=("ID", "Name"))  # type: ignore[arg-type]
    assert page.text == text


def test_an_unknown_field_is_named_with_its_type() -> None:
    with pytest.raises(CommandFailure) as caught:
        print_by_template(Page(), NOUN, ROWS, "{{.Foo}}")  # type: ignore[arg-type]
    expected = 'template parsing error: template: :1:2: executing "" at <.Foo>: can\'t evaluate field Foo in type *formatter.Thing'
    assert str(caught.value) == expected


# -- progress


def layers() -> list[dict[str, Any]]:
    return [
        {"status": "Pulling from library/x", "id": "latest"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "aa"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "bb"},
        {"status": "Downloading", "progressDetail": {"current": 50, "total": 100}, "progress": "[x]", "id": "aa"},
        {"status": "Pull complete", "progressDetail": {}, "id": "aa"},
        {"status": "Digest: sha256:1"},
    ]


def test_without_a_terminal_each_state_is_a_line_and_bars_are_left_out() -> None:
    page = Page()
    ProgressDisplay(page).show_all(layers())  # type: ignore[arg-type]
    assert (
        page.text
        == "latest: Pulling from library/x\naa: Pulling fs layer\nbb: Pulling fs layer\naa: Pull complete\nDigest: sha256:1\n"
    )


def test_on_a_terminal_each_layer_keeps_its_line() -> None:
    page = Page(terminal=True)
    ProgressDisplay(page).show_all(layers())  # type: ignore[arg-type]
    assert page.text.startswith(
        "latest: Pulling from library/x\n\n\x1b[1A\x1b[2K\raa: Pulling fs layer \r\x1b[1B\n\x1b[1A\x1b[2K\rbb: "
    )
    assert "\x1b[2A\x1b[2K\raa: Downloading [" in page.text


def test_a_failure_in_the_stream_is_the_commands_failure() -> None:
    with pytest.raises(CommandFailure, match="no such layer"):
        ProgressDisplay(Page()).show({"errorDetail": {"message": "no such layer"}, "error": "no such layer"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ({}, ""),
        ({"current": 50, "total": 100}, f"[{'=' * 25}>{' ' * 25}]      50B/100B"),
        ({"current": 5, "units": "files"}, "5 files"),
        ({"current": 200, "total": 100}, f"[{'=' * 50}>]     200B"),
    ],
)
def test_a_bar_shows_how_far_it_is(detail: dict[str, Any], text: str) -> None:
    assert progress_bar(detail, 120) == text


def test_a_narrow_terminal_gets_the_numbers_only() -> None:
    assert progress_bar({"current": 50, "total": 100}, 80) == "     50B/100B"


def test_aux_messages_are_for_programs() -> None:
    seen: list[Any] = []
    keep: Callable[[Any], None] = seen.append
    ProgressDisplay(Page(), on_aux=keep).show({"aux": {"ID": "sha256:1"}})  # type: ignore[arg-type]
    assert seen == [{"ID": "sha256:1"}]

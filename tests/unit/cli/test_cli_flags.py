"""The command line read as pflag reads it."""

import pytest

from carrack.cli.failure import FlagError
from carrack.cli.flags import Parsed, parse, parse_table

TABLE = parse_table(
    """
    -i, --interactive bool      Keep STDIN open
    -t, --tty bool              A terminal
    -p, --publish list          Ports
        --rm bool               Remove
        --name string           Name
    -m, --memory bytes          Memory
    -n, --last int=-1           How many
        --sig-proxy bool=true   Signals
        --net network!network   Hidden
        --network network       Network
        --platform strings      Platforms
    -f, --filter filter         Filters
    """
)


def read(*words: str, interspersed: bool = True) -> Parsed:
    return parse(words, TABLE, interspersed=interspersed)


def test_shorthands_may_stand_together_and_the_last_may_take_a_value() -> None:
    parsed = read("-itp", "80:80", "-p81:81", "-p=82:82")
    assert (parsed.flag("interactive"), parsed.flag("tty")) == (True, True)
    assert parsed.items("publish") == ["80:80", "81:81", "82:82"]


def test_a_bool_takes_a_value_only_behind_an_equals_sign() -> None:
    parsed = read("--rm", "img", "--tty=false", "-i=true")
    assert (parsed.flag("rm"), parsed.flag("tty"), parsed.flag("interactive")) == (True, False, True)
    assert parsed.arguments == ["img"]


def test_the_first_argument_ends_the_flags_when_it_should() -> None:
    assert read("--rm", "img", "-it", "--rm=false", interspersed=False).arguments == ["img", "-it", "--rm=false"]


def test_two_dashes_end_the_flags() -> None:
    assert read("a", "--", "--rm", "-x").arguments == ["a", "--rm", "-x"]


def test_one_dash_is_an_argument() -> None:
    assert read("-").arguments == ["-"]


def test_a_flag_nobody_gave_has_its_default() -> None:
    parsed = read()
    assert (parsed.number("last"), parsed.flag("sig-proxy"), parsed.items("publish"), parsed.text("name")) == (-1, True, [], "")
    assert not parsed.changed("last")


def test_a_hidden_name_sets_the_flag_it_stands_for() -> None:
    assert read("--net", "a", "--network=b").items("network") == ["a", "b"]


def test_comma_lists_are_split_and_quoted_parts_are_not() -> None:
    assert read("--platform", 'a,"b,c"', "--platform=d").items("platform") == ["a", "b,c", "d"]


def test_filters_are_gathered_by_name_in_small_letters() -> None:
    assert read("-f", "Status=a", "-f", "status = b", "-f", "status=a").filters() == {"status": ["a", "b"]}


def test_the_last_of_a_single_value_wins() -> None:
    assert read("--name", "a", "--name=b").text("name") == "b"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=1"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ixt"], "unknown shorthand flag: 'x' in -xt"),
        (["--name"], "flag needs an argument: --name"),
        (["-p"], "flag needs an argument: 'p' in -p"),
        (["-ip"], "flag needs an argument: 'p' in -p"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["--rm=x"], 'invalid argument "x" for "--rm" flag: strconv.ParseBool: parsing "x": invalid syntax'),
        (["-m", "x"], 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (["-n", "x"], 'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["-f", "x"], 'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)'),
        (["--help=x"], 'invalid argument "x" for "--help" flag: strconv.ParseBool: parsing "x": invalid syntax'),
    ],
)
def test_mistakes_are_named_in_pflags_words(words: list[str], text: str) -> None:
    with pytest.raises(FlagError) as caught:
        read(*words)
    assert str(caught.value) == text


@pytest.mark.parametrize("word", ["--help", "-h", "--help=true"])
def test_help_is_asked_for(word: str) -> None:
    assert read("--rm", word, "--no-such-flag").wants_help


def test_a_table_may_give_h_to_a_flag_of_its_own() -> None:
    table = parse_table("-h, --hostname string Host name")
    assert parse(["-h", "box"], table).text("hostname") == "box"

"""What the json-file driver leaves on disk, byte for byte: log shippers read these files, so they are an interface."""

import re
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine

STAMP = re.compile(rb'"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,8}[1-9])?Z"')


def on_disk(cli: CommandLine, script: str, *flags: str) -> list[bytes]:
    """The log's lines, each time replaced by NOW."""
    assert cli("run", "--name", "tale", "--log-driver", "json-file", *flags, "busybox", "sh", "-c", script).code == 0
    content = Path(cli.ok("inspect", "-f", "{{.LogPath}}", "tale")).read_bytes()
    return STAMP.sub(b"NOW", content).splitlines()


@pytest.mark.observes("docker run --log-driver")
def test_a_line_is_an_object_of_log_stream_and_time(cli: CommandLine) -> None:
    assert on_disk(cli, "echo out") == [b'{"log":"out\\n","stream":"stdout",NOW}']


@pytest.mark.observes("docker run --log-driver")
def test_text_is_escaped_as_gos_encoder_does(cli: CommandLine) -> None:
    script = r"""printf 'tab\t cr\r <a href="x">&\\ bell\a esc\033 del\177 \303\251 \342\200\250 end\n'"""
    text = rb"tab\u0009 cr\r \u003ca href=\"x\"\u003e\u0026\\ bell\u0007 esc\u001b del" + b"\x7f \xc3\xa9 " + rb"\u2028 end\n"
    assert on_disk(cli, script) == [b'{"log":"' + text + b'","stream":"stdout",NOW}']


@pytest.mark.observes("docker run --log-driver")
def test_each_byte_that_is_no_utf8_is_replaced(cli: CommandLine) -> None:
    assert on_disk(cli, r"printf 'a\377\342\202b\n'") == [rb'{"log":"a\ufffd\ufffd\ufffdb\n","stream":"stdout",NOW}']


@pytest.mark.observes("docker run --log-driver")
def test_a_last_line_without_end_stays_without(cli: CommandLine) -> None:
    assert on_disk(cli, "printf 'one\\ntwo'") == [b'{"log":"one\\n","stream":"stdout",NOW}', b'{"log":"two","stream":"stdout",NOW}']


@pytest.mark.observes("docker run --log-driver")
@pytest.mark.parametrize(("length", "parts"), [(16383, [16384]), (16384, [16384, 1]), (40000, [16384, 16384, 7233])])
def test_an_overlong_line_is_cut_into_parts_of_16_kib(cli: CommandLine, length: int, parts: list[int]) -> None:
    found = on_disk(cli, f"head -c {length} /dev/zero | tr '\\0' x; echo; echo end")
    texts = [line[len(b'{"log":"') : line.index(b'","stream"')].replace(rb"\n", b"\n") for line in found]
    assert [len(each) for each in texts] == [*parts, 4]


@pytest.mark.observes("docker run --log-opt", "docker run --label", "docker run --env")
def test_attributes_stand_between_stream_and_time(cli: CommandLine) -> None:
    options = ("--log-opt", "labels=tier,<odd>", "--log-opt", "env=COLOUR")
    flags = (*options, "--label", "tier=web", "--label", "<odd>=&", "-e", "COLOUR=red")
    expected = rb'{"log":"x\n","stream":"stdout","attrs":{"\u003codd\u003e":"\u0026","COLOUR":"red","tier":"web"},NOW}'
    assert on_disk(cli, "echo x", *flags) == [expected]


@pytest.mark.observes("docker run --log-opt")
def test_a_full_file_goes_aside_under_a_number(cli: CommandLine) -> None:
    flags = ("--log-opt", "max-size=1k", "--log-opt", "max-file=3")
    on_disk(cli, "for i in $(seq 100); do echo $i; done", *flags)
    path = Path(cli.ok("inspect", "-f", "{{.LogPath}}", "tale"))
    assert sorted(each.name[len(path.name) :] for each in path.parent.glob(f"{path.name}*")) == ["", ".1", ".2"]

"""What the log drivers leave on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.errors import InvalidParameter
from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.logs import json_file
from carrack.shim.logs.opening import open_log
from carrack.shim.logs.record import PARTIAL_BYTES, format_time, format_time_trimmed, parse_time
from carrack.shim.messages import LogPlan
from tests.unit.shim.log_writing import DRIVERS, SECOND, compress_now, plan, read_lines, write, written


def encoded(content: bytes, stream: int = STDOUT, attributes: bytes = b"") -> bytes:
    return json_file.encode_lines(content, stream, 1714557600_120000000, attributes)


def test_json_file_writes_a_line_as_docker_does() -> None:
    assert encoded(b"hello\n") == b'{"log":"hello\\n","stream":"stdout","time":"2024-05-01T10:00:00.12Z"}\n'


def test_json_file_gives_each_line_of_a_read_its_own_record() -> None:
    assert [json.loads(each)["log"] for each in encoded(b"a\n\nb\n", STDERR).splitlines()] == ["a\n", "\n", "b\n"]


def test_json_file_escapes_as_go_does() -> None:
    text = '<a href="x">&\\ \t\r\x01\x7f é \u2028\n'.encode()
    expected = b'\\u003ca href=\\"x\\"\\u003e\\u0026\\\\ \\u0009\\r\\u0001\x7f \xc3\xa9 \\u2028\n'
    assert json_file.escape(text) == expected


def test_json_file_replaces_each_invalid_byte() -> None:
    assert json_file.escape(b"a\xff\xe2\x82b") == b"a\\ufffd\\ufffd\\ufffdb"


def test_json_file_puts_attributes_before_the_time() -> None:
    member = json_file.attributes_member({"b": "2", "a": "1"})
    assert encoded(b"x\n", attributes=member).startswith(b'{"log":"x\\n","stream":"stdout","attrs":{"a":"1","b":"2"},"time":')


@given(st.text())
def test_json_file_keeps_any_text(text: str) -> None:
    logged = "".join(json.loads(each)["log"] for each in encoded(text.encode(errors="replace") + b"\n").splitlines())
    assert logged == text.encode(errors="replace").decode() + "\n"


def test_json_file_cuts_an_overlong_line_into_parts_of_16_kib(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "json-file")
    written(wanted, b"a\n" + b"x" * 40_000 + b"\nb\n")
    logged = [json.loads(each)["log"] for each in Path(wanted.path).read_bytes().splitlines()]
    assert [len(each) for each in logged] == [2, PARTIAL_BYTES, PARTIAL_BYTES, 40_001 - 2 * PARTIAL_BYTES, 2]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_line_that_comes_in_pieces_is_one_record(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, b"one\ntw", b"o", b"\nthree\n")
    assert read_lines(wanted) == [b"one\n", b"two\n", b"three\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_streams_do_not_mix_inside_a_line(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, None)
    write(log, b"out ", stream=STDOUT)
    write(log, b"err\n", stream=STDERR)
    write(log, b"put\n", stream=STDOUT)
    assert read_lines(wanted) == [b"err\n", b"out put\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_end_of_output_ends_an_unfinished_line(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, b"prompt> ")
    assert read_lines(wanted) == [b"prompt> "]


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_endless_line_is_not_held_in_memory(tmp_path: Path, driver: str) -> None:
    log = open_log(plan(tmp_path, driver), None)
    write(log, *[b"x" * 10_000] * 20)
    assert len(log.held(STDOUT)) < PARTIAL_BYTES


@pytest.mark.parametrize("driver", DRIVERS)
def test_files_stay_within_their_number_and_size(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=1000, max_files=3, compress=False)
    written(wanted, *[b"%04d %s\n" % (number, b"x" * 40) for number in range(200)])
    names = sorted(os.listdir(tmp_path))
    assert names == ["container.log", "container.log.1", "container.log.2"]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_read_larger_than_a_file_is_spread_over_files_at_line_ends(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=2000, max_files=50, compress=False)
    everything = [b"%04d\n" % number for number in range(1000)]
    written(wanted, b"".join(everything))
    assert read_lines(wanted) == everything


@pytest.mark.parametrize("driver", DRIVERS)
def test_rotation_loses_the_oldest_lines_only(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=1000, max_files=2, compress=False)
    everything = [b"%04d\n" % number for number in range(500)]
    written(wanted, *everything)
    kept = read_lines(wanted)
    assert kept == everything[-len(kept) :]
    assert len(kept) > 5


@pytest.mark.parametrize("driver", DRIVERS)
def test_rotated_files_are_compressed_and_read_all_the_same(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=1000, max_files=100)
    everything = [b"%04d\n" % number for number in range(500)]
    written(wanted, *everything)
    assert (tmp_path / "container.log.1.gz").exists()
    assert not (tmp_path / "container.log.1").exists()
    assert read_lines(wanted) == everything


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_file_that_is_rotated_while_it_is_compressed_gets_its_new_number(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=1000, max_files=100)
    finished = []
    log = open_log(wanted, lambda source, target, done: finished.append((source, target, done)))
    everything = [b"%04d\n" % number for number in range(300)]
    write(log, *everything)
    while finished:
        compress_now(*finished.pop())
    assert read_lines(wanted) == everything
    assert not list(tmp_path.glob("*.compressing"))
    assert len(list(tmp_path.glob("*.gz"))) > 3


def test_a_log_of_one_file_begins_anew_when_it_is_full(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "local", max_size_bytes=500, max_files=1)
    written(wanted, *[b"%04d\n" % number for number in range(100)])
    assert os.listdir(tmp_path) == ["container.log"]
    assert read_lines(wanted)[-1] == b"0099\n"


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_second_run_writes_on(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, b"first\n")
    written(wanted, b"second\n")
    assert read_lines(wanted) == [b"first\n", b"second\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_record_torn_by_a_killed_writer_is_cut_off(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, b"whole\n", b"torn\n")
    with open(wanted.path, "r+b") as file:
        file.truncate(os.path.getsize(wanted.path) - 7)
    assert read_lines(wanted) == [b"whole\n"]
    written(wanted, b"later\n")
    assert read_lines(wanted) == [b"whole\n", b"later\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_full_disk_loses_records_and_nothing_else(tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, None)
    write(log, b"before\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", lambda fd, parts: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        write(log, b"lost\n")
    write(log, b"after\n")
    assert read_lines(wanted) == [b"before\n", b"after\n"]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("blocked", ["container.log.1", "container.log.next"])
def test_a_log_that_cannot_rotate_is_written_on_and_rotates_once_it_can(tmp_path: Path, driver: str, blocked: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=200, max_files=2)
    log = open_log(wanted, None)
    in_the_way = tmp_path / blocked
    (in_the_way / "inside").mkdir(parents=True)
    told = [b"line %d of many that do not fit\n" % number for number in range(6)]
    write(log, *told)
    (in_the_way / "inside").rmdir()
    in_the_way.rmdir()
    assert read_lines(wanted) == told
    write(log, b"after\n")
    assert (tmp_path / "container.log.1").is_file()
    assert read_lines(wanted) == [*told, b"after\n"]


def test_an_unknown_driver_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="no log driver named 'syslog' is registered"):
        open_log(LogPlan(driver="syslog", path=str(tmp_path / "x")), None)


def test_the_driver_none_leaves_nothing(tmp_path: Path) -> None:
    log = open_log(plan(tmp_path, "none"), None)
    write(log, b"gone\n")
    assert os.listdir(tmp_path) == []


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, SECOND - 1))
def test_times_are_read_back_to_the_nanosecond(seconds: int, fraction: int) -> None:
    nanoseconds = seconds * SECOND + fraction
    assert parse_time(format_time(nanoseconds).decode()) == nanoseconds
    assert parse_time(format_time_trimmed(nanoseconds).decode()) == nanoseconds


def test_a_time_with_an_offset_is_read_in_utc() -> None:
    assert parse_time("2024-05-01T12:00:00.5+02:00") == parse_time("2024-05-01T10:00:00.5Z")

"""Reading logs: tails, spans of time, streams, rendering, and following through rotations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carrack.errors import DataCorrupt, InvalidParameter
from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.logs.opening import open_log
from carrack.shim.logs.reader import Cursor, read, read_rendered
from carrack.shim.logs.record import Batch, LogRequest, Rendering, render
from carrack.shim.logs.writer import Log
from carrack.shim.messages import LogPlan
from tests.unit.shim.log_writing import DRIVERS, SECOND, compress_now, plan, read_lines, write, written

NUMBERS = [b"%04d\n" % number for number in range(300)]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("count", [0, 1, 7, 299, 300, 1000])
@pytest.mark.parametrize("compress", [False, True])
def test_the_tail_is_the_last_lines_over_all_files(tmp_path: Path, driver: str, count: int, compress: bool) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=2000, max_files=100, compress=compress)
    written(wanted, *[b"".join(NUMBERS[at : at + 10]) for at in range(0, 300, 10)])
    assert read_lines(wanted, tail=count) == NUMBERS[len(NUMBERS) - min(count, 300) :]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_tail_counts_the_wanted_stream_only(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, None)
    write(log, b"o1\no2\n", stream=STDOUT)
    write(log, b"e1\ne2\ne3\n", stream=STDERR)
    assert read_lines(wanted, tail=1, stderr=False) == [b"o2\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_tail_is_found_in_a_file_larger_than_any_block(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, *[b"%06d %s\n" % (number, b"x" * 990) for number in range(600)])
    assert [line[:6] for line in read_lines(wanted, tail=400)] == [b"%06d" % number for number in range(200, 600)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_since_and_until_bound_the_time(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, *NUMBERS[:10])
    assert read_lines(wanted, since_nanoseconds=4 * SECOND, until_nanoseconds=6 * SECOND) == NUMBERS[3:6]


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_stream_can_be_left_out(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, None)
    write(log, b"out\n", stream=STDOUT)
    write(log, b"err\n", stream=STDERR)
    assert read_lines(wanted, stdout=False) == [b"err\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_records_carry_stream_time_and_attributes(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, attributes={"tier": "web"})
    written(wanted, b"x\n")
    assert [tuple(each) for each in read(wanted, LogRequest())] == [(STDOUT, SECOND, b"x\n", {"tier": "web"})]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_log_that_does_not_exist_is_empty(tmp_path: Path, driver: str) -> None:
    assert read_lines(plan(tmp_path, driver)) == []


def test_a_driver_that_keeps_nothing_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="configured logging driver does not support reading"):
        read_lines(plan(tmp_path, "none"))


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_is_no_log_is_told(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_files=2)
    Path(wanted.path + ".1").write_bytes(b"something else entirely\n")
    written(wanted, b"x\n")
    if driver == "json-file":
        with pytest.raises(DataCorrupt, match="damaged"):
            read_lines(wanted)
    else:
        assert read_lines(wanted) == [b"x\n"]


def test_a_frame_is_one_line() -> None:
    batch = Batch(STDERR, SECOND, [b"a\n", b"bc\n"], {})
    assert render(batch, Rendering()) == b"\2\0\0\0\0\0\0\2a\n\2\0\0\0\0\0\0\3bc\n"


def test_timestamps_and_details_stand_before_the_line() -> None:
    batch = Batch(STDOUT, 1714557600_000000001, [b"a\n"], {"k": "v w", "a": "1"})
    how = Rendering(framed=False, timestamps=True, details=True)
    assert render(batch, how) == b"2024-05-01T10:00:00.000000001Z a=1,k=v+w a\n"


def test_rendered_blocks_hold_everything(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "local")
    written(wanted, *[b"x" * 100 + b"\n"] * 2000)
    assert b"".join(read_rendered(wanted, LogRequest(), Rendering(framed=False))) == (b"x" * 100 + b"\n") * 2000


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_was_there_is_read_whoever_removes_the_files_meanwhile(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    written(wanted, b"said\n")
    blocks = read_rendered(wanted, LogRequest(), Rendering(framed=False))
    for path in tmp_path.iterdir():
        path.unlink()
    assert b"".join(blocks) == b"said\n"


def test_files_opened_for_a_reader_who_never_comes_are_closed(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "local")
    written(wanted, b"said\n")
    before = set(os.listdir("/proc/self/fd"))
    read_rendered(wanted, LogRequest(), Rendering(framed=False))
    assert set(os.listdir("/proc/self/fd")) == before


class FollowingReader:
    """A follower without a loop: it reads when it is asked."""

    def __init__(self, log: Log, wanted: LogPlan, request: LogRequest | None = None) -> None:
        self.cursor = Cursor(wanted, request or LogRequest())
        self.cursor.open_history(log.follow(self))

    def appended(self) -> None:
        pass

    def rotated(self, file_fd: int) -> None:
        self.cursor.add_file(file_fd)

    def read(self) -> list[bytes]:
        found: list[bytes] = []
        while (batches := self.cursor.next()) is not None:
            found += [line for batch in batches for line in batch.lines]
        return found


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_gets_history_and_then_what_comes(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, compress_now)
    write(log, b"old\n")
    follower = FollowingReader(log, wanted)
    assert follower.read() == [b"old\n"]
    write(log, b"new\n")
    assert follower.read() == [b"new\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_of_no_history_gets_only_what_comes(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, compress_now)
    write(log, b"old\n")
    follower = FollowingReader(log, wanted, LogRequest(tail=0))
    write(log, b"new\n")
    assert follower.read() == [b"new\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_of_a_log_not_yet_begun_misses_nothing(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, compress_now)
    follower = FollowingReader(log, wanted, LogRequest(tail=5))
    write(log, b"first\n")
    assert follower.read() == [b"first\n"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_loses_nothing_to_rotation_and_compression(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=1000, max_files=10)
    log = open_log(wanted, compress_now)
    follower = FollowingReader(log, wanted)
    found = []
    for number in NUMBERS:
        write(log, number)
        if number in NUMBERS[::20]:
            found += follower.read()
    assert found + follower.read() == NUMBERS


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_that_sleeps_through_many_rotations_goes_on_with_what_is_left(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver, max_size_bytes=1000, max_files=3, compress=False)
    log = open_log(wanted, compress_now)
    follower = FollowingReader(log, wanted)
    write(log, *NUMBERS)
    found = follower.read()
    assert found == NUMBERS[-len(found) :]
    assert len(found) >= len(read_lines(wanted))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_follower_is_done_when_until_is_passed(tmp_path: Path, driver: str) -> None:
    wanted = plan(tmp_path, driver)
    log = open_log(wanted, None)
    follower = FollowingReader(log, wanted, LogRequest(until_nanoseconds=2 * SECOND))
    write(log, *NUMBERS[:5])
    assert follower.read() == NUMBERS[:2]
    assert follower.cursor.finished

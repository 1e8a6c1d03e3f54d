"""logs and the three log drivers."""

import json
import re

import pytest

from tests.rig.engine import CommandLine

pytestmark = pytest.mark.both_clients

DRIVERS = pytest.mark.parametrize("driver", ["local", "json-file"])
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z"


def written(cli: CommandLine, script: str, *flags: str) -> None:
    """A container called `tale` that has run the script to its end."""
    assert cli("run", "--name", "tale", *flags, "busybox", "sh", "-c", script).code == 0


@DRIVERS
@pytest.mark.observes("docker logs", "GET /containers/{id}/logs", "docker run --log-driver")
def test_logs_keep_both_streams_apart(cli: CommandLine, driver: str) -> None:
    written(cli, "echo out; echo err >&2", "--log-driver", driver)
    read = cli("logs", "tale")
    assert (read.stdout, read.stderr) == ("out\n", "err\n")


@DRIVERS
@pytest.mark.observes("docker logs")
def test_logs_keep_bytes_that_are_no_lines(cli: CommandLine, driver: str) -> None:
    script = r"""printf 'no newline'; printf '\n\n tab\t"quote" \\ \xff\xfe end'"""
    written(cli, script, "--log-driver", driver)
    found = cli.output("logs", "tale")
    assert found.startswith(b'no newline\n\n tab\t"quote" \\ ')
    assert found.endswith(b" end")


@DRIVERS
@pytest.mark.observes("docker logs")
def test_a_line_longer_than_the_buffer_comes_back_whole(cli: CommandLine, driver: str) -> None:
    if (cli.engine.kind, driver) == ("dockerd", "local"):
        pytest.skip("dockerd 20.10 loses the newline after a long line in its local driver")
    written(cli, "head -c 100000 /dev/zero | tr '\\0' x; echo; echo next", "--log-driver", driver)
    assert cli.ok("logs", "tale") == "x" * 100000 + "\nnext"


@DRIVERS
@pytest.mark.observes("docker logs --tail")
@pytest.mark.parametrize(("tail", "found"), [("0", ""), ("2", "4\n5"), ("9", "1\n2\n3\n4\n5"), ("all", "1\n2\n3\n4\n5")])
def test_tail_counts_lines_from_the_end(cli: CommandLine, driver: str, tail: str, found: str) -> None:
    written(cli, "for i in 1 2 3 4 5; do echo $i; done", "--log-driver", driver)
    assert cli.ok("logs", "--tail", tail, "tale") == found


@DRIVERS
@pytest.mark.observes("docker logs --timestamps")
def test_timestamps_are_rfc3339_in_utc(cli: CommandLine, driver: str) -> None:
    written(cli, "echo a; echo b", "--log-driver", driver)
    rows = cli.ok("logs", "-t", "tale").splitlines()
    assert [row.split(" ", 1)[1] for row in rows] == ["a", "b"]
    assert all(re.fullmatch(STAMP, row.split(" ", 1)[0]) for row in rows)


@DRIVERS
@pytest.mark.observes("docker logs --since", "docker logs --until")
def test_since_and_until_cut_by_time(cli: CommandLine, driver: str) -> None:
    written(cli, "echo early; sleep 1.1; echo late", "--log-driver", driver)
    early, late = (row.split(" ")[0] for row in cli.ok("logs", "-t", "tale").splitlines())
    assert cli.ok("logs", "--since", late, "tale") == "late"
    assert cli.ok("logs", "--until", early, "tale") == "early"
    assert cli.ok("logs", "--since", "10m", "tale") == "early\nlate"
    assert cli.ok("logs", "--until", "10m", "tale") == ""


@DRIVERS
@pytest.mark.observes("docker logs --follow")
def test_follow_shows_lines_as_they_come_and_ends_with_the_container(cli: CommandLine, driver: str) -> None:
    script = "echo first; trap 'echo last; exit 0' USR1; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "live", "--log-driver", driver, "busybox", "sh", "-c", script)
    with cli.pipes("logs", "-f", "live") as log:
        log.expect("first")
        assert log.silent_for(0.2)
        cli.ok("kill", "-s", "USR1", "live")
        log.expect("last")
        assert log.wait() == 0


@pytest.mark.observes("docker logs --follow", "docker logs --tail")
def test_follow_with_tail_shows_the_end_and_then_goes_on(cli: CommandLine) -> None:
    script = "echo 1; echo 2; echo 3; trap 'echo 4; exit 0' USR1; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "live", "busybox", "sh", "-c", script)
    with cli.pipes("logs", "-f", "live") as log:
        log.expect("3")
    with cli.pipes("logs", "-f", "--tail", "1", "live") as log:
        log.expect("3")
        cli.ok("kill", "-s", "USR1", "live")
        assert log.rest() == "\n4\n"
        assert log.seen == "3\n4\n"


@pytest.mark.observes("docker logs --follow")
def test_follow_goes_on_over_a_restart_of_the_container(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "live", "busybox", "sh", "-c", "echo start; exec sleep 1000")
    cli.ok("restart", "-t", "0", "live")
    assert cli.ok("logs", "live").split() == ["start", "start"]


@pytest.mark.observes("docker logs")
def test_a_terminals_log_is_what_the_terminal_showed(cli: CommandLine) -> None:
    cli.ok("run", "-d", "-t", "--name", "screen", "busybox", "echo", "line")
    cli.ok("wait", "screen")
    assert cli.output("logs", "screen") == b"line\r\n"


@pytest.mark.observes("docker run --log-driver")
def test_the_driver_none_keeps_nothing_and_says_so(cli: CommandLine) -> None:
    written(cli, "echo unseen", "--log-driver", "none")
    read = cli("logs", "tale")
    assert read.code == 1
    assert "configured logging driver does not support reading" in read.stderr


@pytest.mark.observes("docker run --log-driver")
def test_the_driver_none_still_shows_output_to_who_is_attached(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "--log-driver", "none", "busybox", "echo", "seen") == "seen"


@pytest.mark.observes("docker run --log-driver")
def test_an_unknown_driver_is_refused(cli: CommandLine) -> None:
    ended = cli("create", "--log-driver", "carrier-pigeon", "busybox", "true")
    assert ended.code == 1
    assert "carrier-pigeon" in ended.stderr
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.observes("docker run --log-opt")
def test_an_unknown_log_option_is_refused(cli: CommandLine) -> None:
    ended = cli("create", "--log-driver", "json-file", "--log-opt", "colour=red", "busybox", "true")
    assert ended.code == 1
    assert "unknown log opt 'colour' for json-file log driver" in ended.stderr


@pytest.mark.observes("docker run --log-opt")
@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_a_log_is_bounded_by_max_size_and_max_file(cli: CommandLine, driver: str) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i padded with some words to fill the file; i=$((i+1)); done"
    written(cli, script, "--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=2")
    rows = cli.ok("logs", "tale").splitlines()
    assert rows[-1].startswith("line 2999 ")
    assert 50 < len(rows) < 2000
    numbers = [int(row.split()[1]) for row in rows]
    assert numbers == list(range(numbers[0], 3000))


@pytest.mark.observes("docker run --log-driver")
def test_json_file_writes_dockers_records(cli: CommandLine) -> None:
    written(cli, "echo one", "--log-driver", "json-file")
    path = cli.ok("inspect", "--format", "{{.LogPath}}", "tale")
    record = json.loads(cli.engine.on_host("cat", path).ok().splitlines()[0])
    assert set(record) == {"log", "stream", "time"}
    assert (record["log"], record["stream"]) == ("one\n", "stdout")
    assert re.fullmatch(STAMP, record["time"])


@pytest.mark.observes("docker run --log-driver")
def test_local_is_the_default_driver(cli: CommandLine) -> None:
    cli.ok("create", "--name", "plain", "busybox", "true")
    wanted = "json-file" if cli.engine.kind == "dockerd" else "local"
    assert cli.ok("inspect", "--format", "{{.HostConfig.LogConfig.Type}}", "plain") == wanted


@DRIVERS
@pytest.mark.observes("docker run --log-opt", "docker logs", "docker logs --follow")
def test_a_log_that_does_not_block_is_read_as_any_other(cli: CommandLine, driver: str) -> None:
    flags = ("--log-driver", driver, "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4m")
    written(cli, "for i in 1 2 3; do echo $i; done; echo err >&2", *flags)
    read = cli("logs", "tale")
    assert (read.stdout, read.stderr) == ("1\n2\n3\n", "err\n")
    script = "echo first; trap 'echo last; exit 0' USR1; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "live", *flags, "busybox", "sh", "-c", script)
    with cli.pipes("logs", "-f", "live") as log:
        log.expect("first")
        cli.ok("kill", "-s", "USR1", "live")
        log.expect("last")
        assert log.wait() == 0


@pytest.mark.observes("docker run --log-opt", "docker logs --details")
def test_records_bear_the_tag_and_the_labels_and_variables_that_were_chosen(cli: CommandLine) -> None:
    chosen = ["tag={{.Name}}/{{.ImageName}}/{{.ID}}", "labels=one", "labels-regex=^two", "env=A", "env-regex=^B"]
    flags = [word for option in chosen for word in ("--log-opt", option)]
    flags += ["--label", "one=1", "--label", "two-b=2", "--label", "three=3", "-e", "A=a", "-e", "BC=bc", "-e", "D=d"]
    written(cli, "echo x", "--log-driver", "json-file", *flags)
    identity = cli.ok("inspect", "-f", "{{.Id}}", "tale")[:12]
    path = cli.ok("inspect", "--format", "{{.LogPath}}", "tale")
    attributes = json.loads(cli.engine.on_host("cat", path).ok().splitlines()[0])["attrs"]
    tag = f"tale/busybox/{identity}"
    assert attributes == {"tag": tag, "one": "1", "two-b": "2", "A": "a", "BC": "bc"}
    details = cli.ok("logs", "--details", "tale")
    assert "A=a" in details
    assert "D=d" not in details


@pytest.mark.observes("docker run --log-opt")
def test_log_options_that_cannot_be_meant_are_refused(cli: CommandLine) -> None:
    for option in ("mode=sometimes", "max-buffer-size=1m", "max-size=tiny"):
        refused = cli("create", "--log-driver", "json-file", "--log-opt", option, "busybox", "true")
        assert refused.code == 1, option
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.observes("GET /containers/{id}/logs")
def test_what_a_short_program_said_is_there_in_the_next_breath(cli: CommandLine) -> None:
    if cli.engine.kind == "dockerd":
        pytest.skip("its start takes longer than such a program")
    for number in range(5):
        cli.ok("create", "--name", f"short{number}", "busybox", "sh", "-c", "echo said")
        assert cli.engine.api("POST", f"/containers/short{number}/start").status == 204
        assert cli.engine.api("GET", f"/containers/short{number}/logs?stdout=1").body.endswith(b"said\n")

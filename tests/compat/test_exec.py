"""exec: a second process in a running container, with its own user, folder, environment and terminal."""

import json
import re

import pytest

from tests.rig.engine import CommandLine
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


@pytest.fixture
def host(cli: CommandLine) -> str:
    """A running container to exec into."""
    cli.ok("run", "-d", "--name", "host", "-e", "COLOUR=red", "-w", "/var", "busybox", "sleep", "1000")
    return "host"


@pytest.mark.observes("docker exec", "POST /containers/{id}/exec", "POST /exec/{id}/start", "GET /exec/{id}/json")
def test_exec_keeps_both_streams_apart(cli: CommandLine, host: str) -> None:
    ended = cli("exec", host, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (ended.stdout, ended.stderr, ended.code) == ("out\n", "err\n", 5)


@pytest.mark.observes("docker exec")
def test_exec_shares_the_containers_namespaces_and_cgroup(cli: CommandLine, host: str) -> None:
    script = "for n in ipc mnt net pid uts cgroup; do readlink /proc/{}/ns/$n; done; cat /proc/{}/cgroup"
    mine = cli.ok("exec", host, "sh", "-c", script.replace("{}", "self"))
    assert mine == cli.ok("exec", host, "sh", "-c", script.replace("{}", "1"))


@pytest.mark.observes("docker exec")
def test_exec_has_the_containers_limits_and_filter(cli: CommandLine) -> None:
    limits = ("--ulimit", "nofile=100:200", "--ulimit", "core=5", "--oom-score-adj", "300")
    cli.ok("run", "-d", "--name", "limited", *limits, "busybox", "sleep", "1000")
    script = "grep -E 'Cap(Eff|Bnd|Prm)|Seccomp:|NoNewPrivs' /proc/{}/status; cat /proc/{}/limits /proc/{}/oom_score_adj"
    mine = cli.ok("exec", "limited", "sh", "-c", script.replace("{}", "self"))
    assert "Max open files            100                  200" in mine
    assert mine == cli.ok("exec", "limited", "sh", "-c", script.replace("{}", "1"))


@pytest.mark.observes("docker exec --interactive")
def test_exec_interactive_hands_over_standard_input_and_its_end(cli: CommandLine, host: str) -> None:
    assert cli.ok("exec", "-i", host, "wc", "-c", stdin=b"y" * 200_000) == "200000"


@pytest.mark.observes("docker exec --env", "docker exec --env-file")
def test_exec_env_is_added_to_the_containers(cli: CommandLine, host: str) -> None:
    seen = cli.ok("exec", "-e", "SIZE=big", host, "sh", "-c", "echo $COLOUR $SIZE $HOME")
    assert seen == "red big /root"


@pytest.mark.observes("docker exec --workdir")
def test_exec_starts_in_the_containers_folder_or_the_one_named(cli: CommandLine, host: str) -> None:
    assert cli.ok("exec", host, "pwd") == "/var"
    assert cli.ok("exec", "-w", "/etc", host, "pwd") == "/etc"


@pytest.mark.observes("docker exec --user")
def test_exec_user_changes_uid_groups_home_and_capabilities(cli: CommandLine, host: str) -> None:
    seen = cli.ok("exec", "-u", "app", host, "sh", "-c", "id -u; id -g; echo $HOME; grep CapEff /proc/self/status")
    assert seen.split() == ["1000", "1000", "/home/app", "CapEff:", "0" * 16]
    assert cli.ok("exec", "-u", "33:44", host, "sh", "-c", "id -u; id -g").split() == ["33", "44"]


@pytest.mark.peer_lacks("runc gives no --privileged where the host itself lacks a capability")
@pytest.mark.observes("docker exec --privileged")
def test_exec_privileged_has_every_capability(cli: CommandLine, host: str) -> None:
    plain = cli.ok("exec", host, "grep", "CapEff", "/proc/self/status").split()[1]
    full = cli.ok("exec", "--privileged", host, "grep", "CapEff", "/proc/self/status").split()[1]
    assert int(plain, 16).bit_count() == 14
    assert int(full, 16).bit_count() >= 35


@pytest.mark.observes("docker exec --detach")
def test_exec_detach_returns_at_once_and_the_process_runs_on(cli: CommandLine, host: str) -> None:
    assert cli.ok("exec", "-d", host, "sh", "-c", "echo made > /made; sleep 1000") == ""
    until(lambda: cli("exec", host, "cat", "/made").stdout == "made\n", "the file")
    assert "sleep" in cli.ok("exec", host, "ps")


@pytest.mark.observes("docker exec --tty")
def test_exec_tty_is_a_terminal_of_the_callers_size(cli: CommandLine, host: str) -> None:
    with cli.terminal("exec", "-it", host, "sh", rows=31, columns=97) as screen:
        screen.expect("#")
        screen.send_line("tty; until [ \"$(stty size)\" = '31 97' ]; do sleep 0.01; done; stty size")
        screen.expect(r"/dev/pts/\d+")
        screen.expect(r"31 97\r")
        screen.send_line("exit 6")
        assert screen.wait() == 6


@pytest.mark.observes("docker exec --tty", "POST /exec/{id}/resize")
def test_exec_tty_follows_the_window(cli: CommandLine, host: str) -> None:
    with cli.terminal("exec", "-it", host, "sh") as screen:
        screen.expect("#")
        screen.send_line("until [ \"$(stty size)\" = '24 80' ]; do sleep 0.01; done; echo first: $((1+1))")
        screen.expect("first: 2")
        screen.send_line("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.01; done; echo resized: $((1+1))")
        screen.resize(40, 120)
        screen.expect("resized: 2")
        screen.send_line("exit")
        screen.wait()


@pytest.mark.observes("docker exec --detach-keys")
def test_exec_tty_can_be_left_by_the_detach_keys(cli: CommandLine, host: str) -> None:
    with cli.terminal("exec", "-it", host, "sh", "-c", "echo up; exec sleep 1000") as screen:
        screen.expect("up")
        screen.send("\x10\x11")
        screen.wait()
    assert "sleep 1000" in cli.ok("exec", host, "sh", "-c", "ps | grep -v grep")


@pytest.mark.observes("docker exec --tty")
def test_ctrl_c_reaches_the_process_in_the_terminal(cli: CommandLine, host: str) -> None:
    with cli.terminal("exec", "-it", host, "sh") as screen:
        screen.expect("#")
        screen.send_line("sleep 1000; echo code: $?")
        screen.expect("\n")
        until(lambda: "sleep 1000" in cli.ok("top", host).splitlines()[-1], "sleep to run")
        screen.send("\x03")
        screen.expect("#")
        screen.send_line("exit 0")
        screen.wait()


@pytest.mark.observes("docker exec")
def test_the_end_of_the_container_ends_its_execs_with_137(cli: CommandLine, host: str) -> None:
    with cli.pipes("exec", host, "sh", "-c", "echo up; exec sleep 1000") as running:
        running.expect("up")
        cli.ok("kill", host)
        assert running.wait() == 137


@pytest.mark.observes("GET /exec/{id}/json")
def test_an_exec_can_be_inspected_after_its_end(cli: CommandLine, host: str) -> None:
    made = cli.engine.api("POST", f"/containers/{host}/exec", {"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": True})
    exec_id = made.json["Id"]
    before = cli.engine.api("GET", f"/exec/{exec_id}/json").json
    assert (before["Running"], before["ExitCode"]) == (False, None)
    assert cli.engine.api("POST", f"/exec/{exec_id}/start", {"Detach": False}).status == 200
    after = cli.engine.api("GET", f"/exec/{exec_id}/json").json
    assert (after["Running"], after["ExitCode"]) == (False, 3)
    assert re.fullmatch("[0-9a-f]{64}", exec_id)
    assert after["ProcessConfig"]["arguments"] == ["-c", "exit 3"]


@pytest.mark.observes("POST /exec/{id}/start")
def test_an_exec_runs_only_once(cli: CommandLine, host: str) -> None:
    exec_id = cli.engine.api("POST", f"/containers/{host}/exec", {"Cmd": ["true"], "AttachStdout": True}).json["Id"]
    assert cli.engine.api("POST", f"/exec/{exec_id}/start", {"Detach": False}).status == 200
    again = cli.engine.api("POST", f"/exec/{exec_id}/start", {"Detach": False})
    assert b"has already run" in again.body  # dockerd: in the stream of a 200, for the hijack has happened by then


def test_an_unknown_exec_is_404(cli: CommandLine) -> None:
    answer = cli.engine.api("GET", "/exec/abcdef/json")
    assert answer.status == 404
    assert "No such exec instance: abcdef" in json.loads(answer.body)["message"]


@pytest.mark.observes("POST /exec/{id}/start")
def test_an_execs_stream_is_framed_by_what_its_start_says(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "c1", "busybox", "sleep", "1000")
    made = cli.engine.api("POST", "/containers/c1/exec", {"Cmd": ["printf", "hello"], "Tty": True, "AttachStdout": True}).json["Id"]
    framed = cli.engine.api("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})
    assert framed.body == b"\x01\0\0\0\0\0\0\x05hello"
    made = cli.engine.api("POST", "/containers/c1/exec", {"Cmd": ["printf", "hello"], "Tty": True, "AttachStdout": True}).json["Id"]
    assert cli.engine.api("POST", f"/exec/{made}/start", {"Detach": False, "Tty": True}).body == b"hello"

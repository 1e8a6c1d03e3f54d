"""Interactive containers at a real pseudo-terminal, and attaching to a running one."""

import signal

import pytest

from tests.rig.engine import CommandLine
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


@pytest.mark.observes("docker run --tty", "docker run --interactive", "POST /containers/{id}/attach")
def test_run_it_is_a_conversation_with_an_exit_code(cli: CommandLine) -> None:
    with cli.terminal("run", "--rm", "-it", "busybox", "sh") as screen:
        screen.expect("#")
        screen.send_line("tty; echo $((40 + 2))")
        screen.expect("/dev/(pts/0|console)")
        screen.expect("42")
        screen.send_line("exit 17")
        assert screen.wait() == 17


@pytest.mark.observes("docker run --tty")
def test_a_terminal_gets_the_variable_term(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "-t", "busybox", "sh", "-c", "echo $TERM").strip() == "xterm"


@pytest.mark.observes("docker run --tty", "POST /containers/{id}/resize")
def test_the_terminal_has_the_callers_size_and_follows_it(cli: CommandLine) -> None:
    with cli.terminal("run", "--rm", "-it", "busybox", "sh", rows=33, columns=101) as screen:
        screen.expect("#")
        screen.send_line("until [ \"$(stty size)\" = '33 101' ]; do sleep 0.01; done; echo first: $((1+1))")
        screen.expect("first: 2")
        screen.send_line("until [ \"$(stty size)\" = '44 90' ]; do sleep 0.01; done; echo second: $((1+1))")
        screen.resize(44, 90)
        screen.expect("second: 2")
        screen.send_line("exit")
        assert screen.wait() == 0


@pytest.mark.observes("docker run --tty")
def test_ctrl_c_interrupts_what_runs_in_the_terminal(cli: CommandLine) -> None:
    script = "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.05; done"
    with cli.terminal("run", "--rm", "-it", "busybox", "sh", "-c", script) as screen:
        screen.expect("up")
        screen.send("\x03")
        screen.expect("caught")
        assert screen.wait() == 9


@pytest.mark.observes("docker run --tty")
def test_ctrl_d_ends_the_shells_input(cli: CommandLine) -> None:
    with cli.terminal("run", "--rm", "-it", "busybox", "sh") as screen:
        screen.expect("#")
        screen.send("\x04")
        assert screen.wait() == 0


@pytest.mark.observes("docker run --tty", "docker attach")
def test_the_detach_keys_leave_the_container_running_and_attach_returns(cli: CommandLine) -> None:
    with cli.terminal("run", "-it", "--name", "shell", "busybox", "sh") as screen:
        screen.expect("#")
        screen.send_line("secret=kept")
        screen.expect("#")
        screen.send("\x10\x11")
        assert screen.wait() == 0
    assert cli.ok("ps", "--format", "{{.Names}}") == "shell"
    with cli.terminal("attach", "shell") as screen:
        screen.send_line("echo secret is $secret")
        screen.expect("secret is kept")
        screen.send_line("exit 21")
        assert screen.wait() == 21


@pytest.mark.observes("docker attach --detach-keys")
def test_the_detach_keys_can_be_chosen(cli: CommandLine) -> None:
    cli.ok("run", "-dit", "--name", "shell", "busybox", "sh")
    with cli.terminal("attach", "--detach-keys", "ctrl-x,x", "shell") as screen:
        screen.send_line("echo here $((1+1))")
        screen.expect("here 2")
        screen.send("\x10\x11")
        screen.send_line("echo still $((1+2))")
        screen.expect("still 3")
        screen.send("\x18x")
        screen.wait()
    assert cli.ok("ps", "--format", "{{.Names}}") == "shell"


@pytest.mark.observes("docker run --tty")
def test_the_callers_terminal_is_restored(cli: CommandLine) -> None:
    with cli.terminal("run", "--rm", "-it", "busybox", "sh") as screen:
        before = screen.modes()
        screen.expect("#")
        assert screen.modes() == []
        screen.send_line("exit")
        screen.wait()
        assert screen.modes() == before or not before


@pytest.mark.observes("docker run --interactive", "docker run --tty")
def test_a_terminal_is_refused_when_the_input_is_none(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "-it", "busybox", "true", stdin="x")
    assert ended.code in {1, 125}
    assert "the input device is not a TTY" in ended.stderr


@pytest.mark.observes("docker attach")
def test_attach_shows_what_comes_from_now_on(cli: CommandLine) -> None:
    script = "echo early; trap 'echo late; exit 0' USR1; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "talker", "busybox", "sh", "-c", script)
    with cli.pipes("attach", "talker") as attached:
        assert attached.silent_for(0.3)
        attached.process.send_signal(signal.SIGUSR1)  # sig-proxy is on by default
        attached.expect("late")
        assert attached.wait() == 0
    assert "early" not in attached.seen


@pytest.mark.observes("docker attach --sig-proxy")
def test_attach_without_sig_proxy_keeps_signals_to_itself(cli: CommandLine) -> None:
    script = "trap 'exit 1' TERM; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "calm", "busybox", "sh", "-c", script)
    with cli.pipes("attach", "--sig-proxy=false", "calm") as attached:
        assert attached.silent_for(0.3)
        attached.process.send_signal(signal.SIGTERM)
        assert attached.silent_for(0.5)
    assert cli.ok("ps", "--format", "{{.Names}}") == "calm"


@pytest.mark.observes("docker run --sig-proxy")
def test_run_passes_signals_on(cli: CommandLine) -> None:
    script = "trap 'echo told; exit 12' TERM; echo up; while :; do sleep 0.05; done"
    with cli.pipes("run", "--rm", "busybox", "sh", "-c", script) as running:
        running.expect("up")
        running.process.send_signal(signal.SIGTERM)
        running.expect("told")
        assert running.wait() == 12


@pytest.mark.observes("docker attach --no-stdin")
def test_attach_no_stdin_sends_nothing(cli: CommandLine) -> None:
    cli.ok("run", "-di", "--name", "reader", "busybox", "sh", "-c", "read line; echo got:$line")
    with cli.pipes("attach", "--no-stdin", "reader") as attached:
        attached.send_line("hello")
        assert attached.silent_for(0.3)
        cli.ok("kill", "reader")
        attached.wait()


@pytest.mark.observes("docker attach")
def test_several_may_be_attached_at_once(cli: CommandLine) -> None:
    cli.ok("run", "-di", "--name", "echo", "busybox", "cat")
    with cli.pipes("attach", "echo") as one, cli.pipes("attach", "echo") as two:
        one.send_line("from one")
        one.expect("from one")
        # the second may have come after the first line: what is sent now reaches both
        two.send_line("from two")
        two.expect("from two")
        one.expect("from two")
        cli.ok("kill", "echo")


@pytest.mark.observes("docker attach")
def test_attach_to_a_stopped_container_is_refused(cli: CommandLine) -> None:
    cli.ok("run", "--name", "ended", "busybox", "true")
    ended = cli("attach", "ended")
    assert ended.code == 1
    assert "annot attach to a stopped container" in ended.stderr


@pytest.mark.observes("docker run --attach")
def test_attaching_to_one_stream_hides_the_other(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "-a", "stderr", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (ended.stdout, ended.stderr) == ("", "err\n")


@pytest.mark.observes("docker start --interactive")
def test_start_interactive_talks_to_the_container(cli: CommandLine) -> None:
    cli.ok("create", "-i", "--name", "later", "busybox", "cat")
    assert cli.ok("start", "-ai", "later", stdin="round trip\n") == "round trip"


@pytest.mark.observes("docker run --interactive")
def test_output_goes_on_after_the_input_has_ended(cli: CommandLine) -> None:
    """Half-close: the client has no more to say and the container still has."""
    seen = cli.ok("run", "--rm", "-i", "busybox", "sh", "-c", "cat >/dev/null; sleep 0.3; echo after", stdin="words\n")
    assert seen == "after"


@pytest.mark.observes("docker run")
def test_a_great_deal_of_output_arrives_whole(cli: CommandLine) -> None:
    data = cli.output("run", "--rm", "busybox", "sh", "-c", "head -c 20000000 /dev/zero")
    assert len(data) == 20_000_000


@pytest.mark.observes("docker run")
def test_a_reader_that_goes_away_does_not_stop_the_container(cli: CommandLine) -> None:
    with cli.pipes("run", "--name", "loud", "busybox", "sh", "-c", "echo up; while :; do echo noise; sleep 0.01; done") as running:
        running.expect("up")
        running.process.kill()
    before = cli.ok("logs", "--tail", "1", "-t", "loud")
    until(lambda: cli.ok("logs", "--tail", "1", "-t", "loud") != before, "the log to go on")

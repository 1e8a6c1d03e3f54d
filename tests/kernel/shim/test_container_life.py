"""A container from its order to its last client, by a real zygote and a real shim."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from carrack.runtime import cgroups
from carrack.shim import messages as m
from carrack.shim import wire
from carrack.shim.logs.reader import read
from carrack.shim.logs.record import LogRequest
from tests.kernel.shim.harness import Container, Harness, children_of, pair, read_all, read_until, unchunk, unframe, wait_for_death

pytestmark = pytest.mark.root

BOTH = m.Attach(stdout=True, stderr=True)


def logged(container: Container) -> list[bytes]:
    return [each.line for each in read(container.plan, LogRequest())]


def test_output_reaches_the_client_framed_by_stream(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("echo out; echo err >&2", attached=[(BOTH, theirs)])
    container.start()
    assert unframe(read_all(ours)) == {1: b"out\n", 2: b"err\n"}


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_output_is_logged_without_any_client(harness: Harness, driver: str) -> None:
    container = harness.container("echo one; echo two >&2; printf three", driver=driver)
    container.start()
    container.wait_exit()
    assert sorted(logged(container)) == [b"one\n", b"three", b"two\n"]


def test_the_exit_status_is_reported(harness: Harness) -> None:
    container = harness.container("exit 7")
    container.start()
    assert container.wait_exit().exit_code == 7


def test_death_by_a_signal_is_128_and_the_signal(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert container.ask(m.Signal(1, 9)) == m.Done(1)
    assert container.wait_exit().exit_code == 137


def test_the_exit_is_on_disk_before_anyone_is_told(harness: Harness) -> None:
    """The directory is watched from outside: at the moment the first word of the exit arrives, the file is complete."""
    _ours, theirs = pair()
    _waiter, waiting = pair()
    container = harness.container("exit 3", attached=[(BOTH, theirs)], waiting=[(m.Wait(condition="next-exit"), waiting)])
    container.create()
    assert container.exit_json() is None
    container.send(m.Go())
    container.expect(m.Started)
    told = container.receive()
    assert container.exit_json() == told
    assert isinstance(told, m.Exited)
    assert told.exit_code == 3


def test_an_earlier_runs_exit_is_forgotten_at_the_next_start(harness: Harness) -> None:
    container = harness.container("read line; exit 4", open_stdin=True)
    (container.directory / "exit.json").write_bytes(wire.encode(m.Exited(9, 1)))
    container.start()
    assert container.exit_json() is None


def test_a_program_that_does_not_exist_fails_with_127(harness: Harness) -> None:
    container = harness.container(("/bin/nonesuch",))
    failed = container.fail()
    assert failed.exit_code == 127
    assert "no such file or directory" in failed.message


def test_a_failed_start_leaves_nothing(harness: Harness) -> None:
    container = harness.container(("/bin/nonesuch",))
    container.fail()
    with pytest.raises(EOFError):
        container.receive()
    assert not Path(container.socket_path).exists()
    assert not os.path.isdir(cgroups.open(container.cgroup).directory("memory") or "/nonexistent")


def test_a_log_that_cannot_be_opened_fails_the_start(harness: Harness) -> None:
    container = harness.container("true", log=m.LogPlan(path="/nonexistent/container.log"))
    with pytest.raises(AssertionError, match="No such file or directory.*container.log"):
        container.create()


def test_a_start_taken_back_leaves_nothing(harness: Harness) -> None:
    container = harness.container("true")
    container.create()
    container.send(m.Abandon())
    wait_for_death(container.shim_pid)
    assert not Path(container.socket_path).exists()
    assert not Path(f"/proc/{container.pid}").exists()


def test_a_daemon_that_dies_before_go_takes_the_start_back(harness: Harness) -> None:
    container = harness.container("true")
    container.create()
    container.lose_daemon()
    wait_for_death(container.shim_pid)
    assert not Path(f"/proc/{container.pid}").exists()


def test_after_forget_the_shim_is_gone_with_its_socket_and_cgroup(harness: Harness) -> None:
    container = harness.container("true")
    container.start()
    container.wait_exit()
    container.forget()
    wait_for_death(container.shim_pid)
    assert not Path(container.socket_path).exists()
    assert not os.path.isdir(cgroups.open(container.cgroup).directory("memory") or "/nonexistent")


def test_a_second_run_waits_until_the_first_is_cleared_away(harness: Harness) -> None:
    first = harness.container("echo first")
    first.start()
    first.wait_exit()
    first.send(m.Forget())
    first.conversation.close()
    first.start()
    assert first.wait_exit().exit_code == 0
    assert logged(first) == [b"first\n", b"first\n"]


def test_the_trace_names_the_steps(harness: Harness) -> None:
    container = harness.container("true", trace=True)
    assert "clone" in dict(container.start().trace)


def test_created_carries_the_pidfd_and_the_network_namespace(harness: Harness) -> None:
    container = harness.container("true")
    container.create()
    assert len(container.fds) == 2
    assert os.fstat(container.fds[1]).st_ino == os.stat(f"/proc/{container.pid}/ns/net").st_ino


def test_the_shim_is_named_after_its_container(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert Path(f"/proc/{container.shim_pid}/cmdline").read_bytes().rstrip(b"\0") == f"carrack-shim {container.id}".encode()


def test_a_wide_range_of_ports_is_held_until_forget(harness: Harness) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(400)]
    places = [each.getsockname() for each in sockets]
    container = harness.container(("/bin/sh", "-c", "ulimit -n"), held=sockets)
    container.start()
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server(places[-1])
    container.wait_exit()
    assert logged(container) == [b"%d\n" % resource.getrlimit(resource.RLIMIT_NOFILE)[0]]
    container.forget()
    socket.create_server(places[-1]).close()


# ── attach ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_input_goes_in_and_its_end_ends_the_program(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True, stdout=True, head=b"al")
    container = harness.container(("/bin/cat",), open_stdin=True, stdin_once=True, attached=[(options, theirs)])
    container.start()
    ours.sendall(b"pha\n")
    ours.shutdown(socket.SHUT_WR)
    assert unframe(read_all(ours))[1] == b"alpha\n"
    assert container.wait_exit().exit_code == 0


def test_output_goes_on_after_the_client_has_closed_its_input(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True, stdout=True)
    container = harness.container("cat; echo after", open_stdin=True, stdin_once=True, attached=[(options, theirs)])
    container.start()
    ours.sendall(b"before\n")
    ours.shutdown(socket.SHUT_WR)
    assert unframe(read_all(ours))[1] == b"before\nafter\n"


def test_an_input_that_had_already_ended_is_an_end_of_input(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True, stdout=True, head=b"x\n", end_of_input=True)
    container = harness.container(("/bin/cat",), open_stdin=True, stdin_once=True, attached=[(options, theirs)])
    container.start()
    assert unframe(read_all(ours))[1] == b"x\n"


def test_a_large_input_arrives_whole(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True, stdout=True)
    container = harness.container(("/bin/wc", "-c"), open_stdin=True, stdin_once=True, attached=[(options, theirs)])
    container.start()
    ours.sendall(b"x" * 3_000_000)
    ours.shutdown(socket.SHUT_WR)
    assert unframe(read_all(ours))[1].strip() == b"3000000"


def test_what_a_client_sent_before_it_went_is_read_to_the_end(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True)
    container = harness.container(("/bin/wc", "-c"), open_stdin=True, stdin_once=True, attached=[(options, theirs)])
    container.create()
    ours.setblocking(False)
    for _ in range(5):
        assert ours.send(b"x" * 30_000) == 30_000
    ours.close()
    container.send(m.Go())
    container.expect(m.Started)
    container.wait_exit()
    assert logged(container) == [b"150000\n"]


def test_two_clients_see_the_same_and_both_may_speak(harness: Harness) -> None:
    one, theirs_one = pair()
    two, theirs_two = pair()
    options = m.Attach(stdin=True, stdout=True)
    container = harness.container("read a; echo $a; read b; echo $b", open_stdin=True, attached=[(options, theirs_one)])
    container.start()
    container.ask(m.Attach(1, stdin=True, stdout=True), theirs_two)
    one.sendall(b"first\n")
    before = read_until(one, b"first\n")
    two.sendall(b"second\n")
    assert unframe(before + read_all(one))[1] == unframe(read_all(two))[1] == b"first\nsecond\n"


def test_a_client_leaves_by_the_detach_keys_and_the_container_runs_on(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container(("/bin/cat",), terminal=True, open_stdin=True)
    container.start()
    container.ask(m.Attach(1, stdin=True, stdout=True), theirs)
    ours.sendall(b"\x10")
    ours.sendall(b"\x11")
    assert container.receive() == m.Detached()
    assert read_all(ours) == b""
    assert container.ask(m.Signal(2, 0)) == m.Done(2)


def test_a_terminal_speaks_raw_and_has_the_size_it_was_given(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True, stdout=True)
    command = "read x; stty size"
    container = harness.container(command, terminal=True, open_stdin=True, attached=[(options, theirs)])
    container.start()
    assert container.ask(m.Resize(1, 33, 77)) == m.Done(1)
    ours.sendall(b"\n")
    assert read_all(ours) == b"\r\n33 77\r\n"


def test_a_resize_without_a_terminal_is_refused(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert container.ask(m.Resize(1, 33, 77)) == m.Refused(1, "Conflict", "the process has no terminal")


def test_an_attach_may_have_the_log_first_and_then_goes_on(harness: Harness) -> None:
    container = harness.container("echo old; read x; echo new", open_stdin=True)
    container.start()
    follower, following = pair()
    container.ask(m.FollowLogs(1), following)
    read_until(follower, b"old\n")
    ours, theirs = pair()
    container.ask(m.Attach(2, stdin=True, stdout=True, replay_logs=True), theirs)
    ours.sendall(b"go\n")
    assert unframe(read_all(ours))[1] == b"old\nnew\n"


def test_an_attach_that_wants_only_the_log_ends_after_it(harness: Harness) -> None:
    container = harness.container("echo old; exec sleep 1000")
    container.start()
    follower, following = pair()
    container.ask(m.FollowLogs(1), following)
    read_until(follower, b"old\n")
    ours, theirs = pair()
    container.ask(m.Attach(2, stdout=True, replay_logs=True, stream=False), theirs)
    assert unframe(read_all(ours))[1] == b"old\n"


def test_a_slow_client_that_was_there_from_the_start_loses_nothing(harness: Harness) -> None:
    ours, theirs = pair()
    command = "dd if=/dev/zero bs=65536 count=128 2>/dev/null"
    container = harness.container(command, driver="none", attached=[(m.Attach(stdout=True), theirs)])
    container.start()
    assert len(unframe(read_all(ours))[1]) == 128 * 65536


def test_the_shim_of_a_client_that_reads_nothing_stays_small(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("yes | head -c 50000000; read x", driver="none", attached=[(m.Attach(stdout=True), theirs)])
    container.start()
    ours.recv(1)
    _late, joining = pair()
    container.ask(m.Attach(1, stdout=True), joining)
    status = Path(f"/proc/{container.shim_pid}/status").read_text()
    anonymous = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    assert anonymous < 30_000


def test_a_slow_client_that_joined_later_is_dropped_and_the_container_goes_on(harness: Harness) -> None:
    container = harness.container("read x; yes | head -c 20000000; echo done", open_stdin=True, log=None)
    container.start()
    slow, slow_end = pair()
    container.ask(m.Attach(1, stdin=True, stdout=True), slow_end)
    slow.sendall(b"\n")
    assert container.wait_exit().exit_code == 0
    assert len(read_all(slow)) < 20_000_000
    assert logged(container)[-1] == b"done\n"


# ── wait ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def answer(exit_code: int) -> bytes:
    body = b'{"StatusCode":%d}\n' % exit_code
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("condition", ["next-exit", "not-running"])
def test_who_waits_for_the_exit_is_told_once_the_daemon_has_recorded_it(harness: Harness, condition: str) -> None:
    ours, theirs = pair()
    container = harness.container("exit 5", waiting=[(m.Wait(condition=condition), theirs)])
    container.start()
    container.wait_exit()
    container.forget()
    assert read_all(ours) == answer(5)


def test_who_waits_is_told_without_a_daemon(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("read x; exit 5", open_stdin=True, waiting=[(m.Wait(), theirs)])
    container.start()
    client, clients_end = pair()
    container.ask(m.Attach(1, stdin=True), clients_end)
    container.lose_daemon()
    client.sendall(b"\n")
    assert read_all(ours) == answer(5)


def test_who_waits_for_the_removal_is_told_at_the_removal(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("exit 5", waiting=[(m.Wait(condition="removed"), theirs)])
    container.start()
    container.wait_exit()
    assert container.ask(m.Forget()) == m.Done(0)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
    ours.settimeout(20)
    container.forget(removed=True)
    assert read_all(ours) == answer(5)


def test_who_waits_for_a_removal_that_nobody_can_tell_any_more_does_not_keep_the_shim(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("exit 5", waiting=[(m.Wait(condition="removed"), theirs)])
    container.start()
    container.wait_exit()
    assert container.ask(m.Forget()) == m.Done(0)
    container.lose_daemon()
    assert read_all(ours) == b""
    wait_for_death(container.shim_pid)


def test_a_failed_start_leaves_those_who_wait_to_the_daemon(harness: Harness) -> None:
    ours, theirs = pair()
    daemons = theirs.dup()
    container = harness.container(("/bin/nonesuch",), waiting=[(m.Wait(condition="next-exit"), theirs)])
    container.fail()
    daemons.sendall(b"told by the daemon")
    daemons.close()
    assert read_all(ours) == b"told by the daemon"


# ── logs -f ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_following_a_log_gives_the_old_then_the_new_then_the_end(harness: Harness, driver: str) -> None:
    container = harness.container("echo old; read x; echo new", open_stdin=True, driver=driver)
    container.start()
    ours, theirs = pair()
    container.ask(m.FollowLogs(1), theirs)
    before = read_until(ours, b"old\n")
    client, clients_end = pair()
    container.ask(m.Attach(2, stdin=True), clients_end)
    client.sendall(b"\n")
    assert unframe(unchunk(before + read_all(ours)))[1] == b"old\nnew\n"


def test_a_follower_that_reads_late_gets_everything_through_rotations(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("read x; seq 1 100000", open_stdin=True)
    container.plan = m.LogPlan(path=container.plan.path, max_size_bytes=100_000, max_files=20)
    container.start()
    container.ask(m.FollowLogs(1), theirs)
    client, clients_end = pair()
    container.ask(m.Attach(2, stdin=True), clients_end)
    client.sendall(b"\n")
    container.wait_exit()
    assert unframe(unchunk(read_all(ours)))[1] == b"".join(b"%d\n" % number for number in range(1, 100_001))


def test_a_log_that_keeps_nothing_cannot_be_followed(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"), driver="none")
    container.start()
    _, theirs = pair()
    refused = container.ask(m.FollowLogs(1), theirs)
    assert isinstance(refused, m.Refused)
    assert refused.message == "configured logging driver does not support reading"


def test_rotated_logs_are_compressed_beside_the_running_container(harness: Harness) -> None:
    container = harness.container("seq 1 100000; read x", open_stdin=True)
    container.plan = m.LogPlan(path=container.plan.path, max_size_bytes=100_000, max_files=50)
    container.start()
    follower, following = pair()
    container.ask(m.FollowLogs(1), following)
    read_until(follower, b"100000\n")
    while list(container.directory.glob("*.log.[0-9]")) or list(container.directory.glob("*.log.[0-9][0-9]")):
        for pid in children_of(container.hand()):
            wait_for_death(pid)
    assert len(list(container.directory.glob("*.gz"))) >= 5
    assert logged(container) == [b"%d\n" % number for number in range(1, 100_001)]

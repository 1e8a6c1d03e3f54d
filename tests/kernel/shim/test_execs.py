"""Further processes in a running container."""

from __future__ import annotations

import socket

import pytest

from carrack.oci.runtime_spec import Process
from carrack.shim import messages as m
from tests.kernel.shim.harness import Container, Harness, pair, read_all, unframe, wait_for_death

pytestmark = pytest.mark.root


@pytest.fixture
def sleeper(harness: Harness) -> Container:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    return container


def test_an_exec_gives_its_output_and_its_exit_code(sleeper: Container) -> None:
    ours, theirs = pair()
    done = sleeper.exec("echo out; echo err >&2; exit 3", theirs)
    assert isinstance(done, m.Done)
    assert done.pid
    assert unframe(read_all(ours)) == {1: b"out\n", 2: b"err\n"}
    assert sleeper.receive() == m.ExecExited("exec1", 3)


def test_the_daemon_knows_the_exit_code_before_the_client_sees_the_end(sleeper: Container) -> None:
    ours, theirs = pair()
    sleeper.exec("exit 3", theirs)
    read_all(ours)
    sleeper.conversation.setblocking(False)
    assert sleeper.receive() == m.ExecExited("exec1", 3)


def test_an_exec_reads_its_client_to_the_end(sleeper: Container) -> None:
    ours, theirs = pair()
    sleeper.exec("cat; echo end", theirs, stdin=True)
    ours.sendall(b"text\n")
    ours.shutdown(socket.SHUT_WR)
    assert unframe(read_all(ours))[1] == b"text\nend\n"


def test_an_exec_without_a_client_runs_detached(sleeper: Container) -> None:
    assert isinstance(sleeper.exec("exit 9"), m.Done)
    assert sleeper.receive() == m.ExecExited("exec1", 9)


def test_an_exec_may_have_a_terminal_of_a_given_size(sleeper: Container) -> None:
    ours, theirs = pair()
    sleeper.exec("read x; stty size", theirs, stdin=True, terminal=True)
    assert sleeper.ask(m.Resize(2, 20, 100, "exec1")) == m.Done(2)
    ours.sendall(b"\n")
    assert read_all(ours) == b"\r\n20 100\r\n"


def test_a_signal_reaches_an_exec_alone(sleeper: Container) -> None:
    sleeper.exec("exec sleep 1000")
    assert sleeper.ask(m.Signal(2, 15, "exec1")) == m.Done(2)
    assert sleeper.receive() == m.ExecExited("exec1", 143)


def test_a_program_that_is_not_there_is_refused_with_127_and_the_client_left_to_the_daemon(sleeper: Container) -> None:
    ours, theirs = pair()
    kept = theirs.dup()
    refused = sleeper.ask(m.Exec(1, "e", Process(("/bin/nonesuch",)), m.Attach(stdout=True)), theirs)
    assert isinstance(refused, m.Refused)
    assert refused.exit_code == 127
    with kept:
        kept.sendall(refused.message.encode())
    assert read_all(ours) == refused.message.encode()


def test_a_shim_leaves_in_the_end_after_an_exec_that_could_not_run(sleeper: Container) -> None:
    _, theirs = pair()
    sleeper.ask(m.Exec(1, "e", Process(("/bin/nonesuch",)), m.Attach(stdout=True)), theirs)
    sleeper.ask(m.Signal(2, 9))
    sleeper.wait_exit()
    sleeper.forget()
    wait_for_death(sleeper.shim_pid)


def test_a_file_that_cannot_be_executed_is_refused_with_126(sleeper: Container) -> None:
    refused = sleeper.ask(m.Exec(1, "e", Process(("/etc/passwd",))))
    assert isinstance(refused, m.Refused)
    assert refused.exit_code == 126


def test_an_exec_ends_with_its_container(sleeper: Container) -> None:
    ours, theirs = pair()
    sleeper.exec("echo up; exec sleep 1000", theirs)
    assert ours.recv(11) == b"\1\0\0\0\0\0\0\3up\n"
    sleeper.ask(m.Signal(2, 9))
    assert {type(sleeper.receive()), type(sleeper.receive())} == {m.ExecExited, m.Exited}
    assert read_all(ours) == b""


def test_an_exec_in_a_container_that_has_ended_is_refused(harness: Harness) -> None:
    container = harness.container("true")
    container.start()
    container.wait_exit()
    refused = container.exec("true")
    assert isinstance(refused, m.Refused)
    assert refused.kind == "Conflict"


def test_an_unknown_exec_is_refused(sleeper: Container) -> None:
    refused = sleeper.ask(m.Signal(1, 9, "nobody"))
    assert refused == m.Refused(1, "NotFound", "No such exec instance: nobody")


def test_a_background_process_does_not_keep_the_client_for_ever(sleeper: Container) -> None:
    ours, theirs = pair()
    sleeper.exec("sleep 1000 & echo started", theirs)
    assert unframe(read_all(ours))[1] == b"started\n"

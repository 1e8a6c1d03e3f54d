"""What dies with whom: daemons come and go, containers stay; a shim takes its container with it (law 5)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carrack.oci.runtime_spec import MemoryLimits, Resources
from carrack.shim import messages as m
from carrack.shim import wire
from carrack.shim.zygote_process import spawn_zygote
from tests.kernel.shim.harness import SECONDS, Harness, end_process, pair, read_all, read_until, unframe, wait_for_death

pytestmark = pytest.mark.root


def test_a_container_lives_on_without_its_daemon_and_is_found_again(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    started = container.start()
    container.lose_daemon()
    status = container.reconnect()
    assert (status.container_id, status.pid) == (container.id, container.pid)
    assert status.started_at_nanoseconds == started.started_at_nanoseconds
    assert container.ask(m.Signal(1, 9)) == m.Done(1)
    assert container.wait_exit().exit_code == 137


def test_status_brings_the_descriptors_back(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    container.lose_daemon()
    before = len(container.fds)
    container.reconnect()
    assert len(container.fds) == before + 2


def test_an_attached_client_lives_through_the_daemons_death(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdin=True, stdout=True)
    container = harness.container("read x; echo got $x", open_stdin=True, attached=[(options, theirs)])
    container.start()
    container.lose_daemon()
    ours.sendall(b"it\n")
    assert unframe(read_all(ours))[1] == b"got it\n"


@pytest.mark.law(5)
def test_an_exit_without_a_daemon_is_on_disk_and_the_shim_has_left(harness: Harness) -> None:
    container = harness.container("read x; exit 6", open_stdin=True)
    container.start()
    client, clients_end = pair()
    container.ask(m.Attach(1, stdin=True), clients_end)
    container.lose_daemon()
    client.sendall(b"\n")
    wait_for_death(container.shim_pid)
    exited = container.exit_json()
    assert exited is not None
    assert exited.exit_code == 6
    assert not Path(container.socket_path).exists()


def test_an_exit_without_a_daemon_waits_for_one_while_someone_waits_for_the_removal(harness: Harness) -> None:
    ours, theirs = pair()
    waiter, waiting = pair()
    container = harness.container("read x; exit 6", open_stdin=True, waiting=[(m.Wait(condition="removed"), waiting)])
    container.start()
    container.ask(m.Attach(1, stdin=True, stdout=True), theirs)
    container.lose_daemon()
    ours.sendall(b"\n")
    read_all(ours)
    status = container.reconnect()
    assert status.exited is not None
    assert status.exited.exit_code == 6
    container.forget(removed=True)
    assert b'{"StatusCode":6}' in read_all(waiter)


def test_the_end_of_an_exec_without_a_daemon_is_told_to_the_next(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    ours, theirs = pair()
    container.exec("read x; exit 8", theirs, stdin=True)
    container.lose_daemon()
    ours.sendall(b"\n")
    read_all(ours)
    assert [(each.exec_id, each.running, each.exit_code) for each in container.reconnect().execs] == [("exec1", False, 8)]
    container.lose_daemon()
    assert container.reconnect().execs == ()


def test_a_second_daemon_takes_the_place_of_the_first(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    first = container.conversation
    container.conversation = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    container.reconnect()
    with first, pytest.raises(EOFError):
        wire.receive(first)


def test_a_daemon_of_a_newer_protocol_is_refused_with_a_clear_line(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(SECONDS)
        sock.connect(container.socket_path)
        wire.send(sock, m.Inquire(m.VERSION + 1))
        refused, _ = wire.receive(sock)
    assert isinstance(refused, m.Refused)
    assert "speaks protocol version" in refused.message


def test_nonsense_on_the_socket_ends_that_connection_only(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(SECONDS)
        sock.connect(container.socket_path)
        sock.send(b"nonsense")
        assert sock.recv(100) == b""
    assert container.ask(m.Signal(1, 0)) == m.Done(1)


def test_a_stranger_that_has_not_inquired_cannot_give_orders(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(container.socket_path)
        wire.send(sock, m.Signal(1, 9))
        assert container.ask(m.Signal(2, 0)) == m.Done(2)


def test_the_socket_is_for_root_only(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    assert os.stat(container.socket_path).st_mode & 0o777 == 0o600


@pytest.mark.law(5)
def test_a_shim_that_dies_takes_its_container_and_its_execs_with_it(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    done = container.exec("exec sleep 1000")
    assert isinstance(done, m.Done)
    end_process(container.shim_pid)
    wait_for_death(container.pid)
    wait_for_death(done.pid)


def test_a_container_of_another_user_dies_with_its_shim_too(harness: Harness) -> None:
    container = harness.container("exec sleep 1000", user=1000)
    container.start()
    end_process(container.shim_pid)
    wait_for_death(container.pid)


def test_containers_live_on_when_the_zygote_is_replaced(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.start()
    end_process(harness.zygote.pid)
    harness.zygote = spawn_zygote(str(harness.exec_root))
    assert container.ask(m.Signal(1, 9)) == m.Done(1)
    assert container.wait_exit().exit_code == 137


def test_an_out_of_memory_kill_is_told_and_recorded(harness: Harness) -> None:
    limit = 16 * 1024 * 1024
    resources = Resources(memory=MemoryLimits(limit=limit, swap=limit))
    container = harness.container("dd if=/dev/zero of=/dev/null bs=200M", resources=resources)
    container.start()
    told = container.receive()
    exited = told if isinstance(told, m.Exited) else container.wait_exit()
    assert exited.out_of_memory


def test_the_out_of_memory_event_of_a_child_is_told_while_the_container_runs_on(harness: Harness) -> None:
    limit = 16 * 1024 * 1024
    resources = Resources(memory=MemoryLimits(limit=limit, swap=limit))
    container = harness.container("dd if=/dev/zero of=/dev/null bs=200M; read x", resources=resources, open_stdin=True)
    container.start()
    assert container.receive() == m.OutOfMemory()
    assert container.ask(m.Signal(1, 0)) == m.Done(1)


def test_a_signal_to_everyone_reaches_the_children(harness: Harness) -> None:
    ours, theirs = pair()
    options = m.Attach(stdout=True)
    command = "trap 'echo parent' TERM; (trap 'echo child; exit' TERM; echo up; while :; do sleep 0.05; done) & wait; wait"
    container = harness.container(command, attached=[(options, theirs)])
    container.start()
    before = read_until(ours, b"up\n")
    container.ask(m.Signal(1, 15, everyone=True))
    assert sorted(unframe(before + read_all(ours))[1].split()) == [b"child", b"parent", b"up"]


def test_thirty_two_containers_start_at_once_and_each_is_told_its_own_exit(harness: Harness) -> None:
    containers = [harness.container(f"exit {number}") for number in range(32)]
    for container in containers:
        container.create()
    for container in containers:
        container.send(m.Go())
    for container in containers:
        container.expect(m.Started)
    assert [container.wait_exit().exit_code for container in containers] == list(range(32))
    for container in containers:
        container.forget()
        wait_for_death(container.shim_pid)

"""A shim to which nothing happens is asleep, also again; and one whose hand is killed leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from carrack.shim import messages as m
from carrack.shim import wire
from carrack.shim.logs.reader import read
from carrack.shim.logs.record import LogRequest
from tests.kernel.shim.harness import (
    SECONDS,
    Container,
    Harness,
    children_of,
    end_process,
    pair,
    read_until,
    unchunk,
    unframe,
    wait_for_death,
)
from tests.rig.waiting import until

pytestmark = pytest.mark.root

IDLE_KILOBYTES = 300
"""About 240 are measured; one that is awake has 2500."""


def own_kilobytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty:"))


def test_the_shim_of_an_idle_container_has_little_memory_of_its_own(harness: Harness) -> None:
    neighbours = [harness.container(("/bin/sleep", "1000")) for _ in range(3)]
    for each in neighbours:
        each.start()
    assert own_kilobytes(neighbours[1].shim_pid) < IDLE_KILOBYTES


def test_a_client_that_waits_and_goes_leaves_the_shim_able_to_tell_the_exit(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container("read x; exit 3", open_stdin=True, waiting=[(m.Wait(), theirs)])
    container.start()
    ours.close()
    client, handed = pair()
    container.ask(m.Attach(container.next_sequence(), stdin=True), handed)
    client.send(b"\n")
    assert container.wait_exit().exit_code == 3


def test_a_maker_that_is_killed_takes_the_start_with_it(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.create()
    children = Path(f"/proc/{container.shim_pid}/task/{container.shim_pid}/children").read_text().split()
    (maker,) = {int(each) for each in children} - {container.pid}
    os.kill(maker, signal.SIGKILL)
    failed = container.expect(m.StartFailed)
    assert "died" in failed.message
    assert not Path(container.socket_path).exists()


def test_a_shim_that_is_killed_while_its_container_is_made_takes_the_start_with_it(harness: Harness) -> None:
    container = harness.container(("/bin/sleep", "1000"))
    container.create()
    end_process(container.shim_pid)
    container.send(m.Go())
    assert "supervisor died" in container.expect(m.StartFailed).message
    wait_for_death(container.pid)
    assert not Path(container.socket_path).exists()


@pytest.mark.parametrize("which", ["the maker", "the sleeper"])
def test_one_that_is_killed_before_its_order_comes_leaves_nothing(harness: Harness, which: str) -> None:
    """Whoever gave the order learns it: by the end of the conversation that came with it, or because nobody takes it any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as zygote:
        zygote.settimeout(SECONDS)
        before = children_of(harness.zygote.pid)
        zygote.connect(harness.zygote.socket_path)
        zygote.send(m.START)
        zygote.recv(1000)
        (sleeper,) = children_of(harness.zygote.pid) - before
        until(lambda: children_of(sleeper), "the maker to be there")
        (maker,) = children_of(sleeper)
        end_process(maker if which == "the maker" else sleeper)
        wait_for_death(sleeper)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        container = harness.container(("/bin/sleep", "1000"))
        with contextlib.suppress(ConnectionError):
            wire.send(zygote, container.order(), (theirs.fileno(),), sealed=True)
        theirs.close()
        with ours, pytest.raises(EOFError):
            wire.receive(ours)
    wait_for_death(maker)
    assert not Path(container.socket_path).exists()


# ── again ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

SOON = 0.05


def logged(container: Container) -> list[bytes]:
    return [each.line for each in read(container.plan, LogRequest())]


def test_a_shim_that_had_something_to_do_sleeps_again_as_small_as_before(harness: Harness) -> None:
    """Output, an exec, an attach that ended, another daemon: after each of them the shim is what it was."""
    command = 'while read x; do echo "got $x"; done'
    neighbours = [harness.container(("/bin/sleep", "1000")) for _ in range(2)]
    for each in neighbours:
        each.start()
    container = harness.container(command, open_stdin=True, idle_seconds=SOON)
    container.start()
    client, handed = pair()
    container.ask(m.Attach(1, stdin=True, stdout=True), handed)
    client.send(b"first\n")
    assert read_until(client, b"got first\n")
    client.close()
    container.until_asleep()
    theirs = pair()[1]
    container.exec("true", theirs)
    assert isinstance(container.receive(), m.ExecExited)
    container.until_asleep()
    container.lose_daemon()
    container.until_asleep()
    assert container.reconnect().pid == container.pid
    container.until_asleep()
    assert own_kilobytes(container.shim_pid) < IDLE_KILOBYTES
    client, handed = pair()
    container.ask(m.Attach(2, stdin=True, stdout=True), handed)
    client.send(b"last\n")
    assert read_until(client, b"got last\n")
    assert logged(container) == [b"got first\n", b"got last\n"]


def test_the_first_clients_of_a_container_keep_its_shim_awake_only_while_they_are_there(harness: Harness) -> None:
    ours, theirs = pair()
    container = harness.container(
        "echo up; exec sleep 1000", attached=[(m.Attach(stdin=False, stdout=True), theirs)], idle_seconds=SOON
    )
    container.start()
    assert unframe(read_until(ours, b"up\n"))[1] == b"up\n"
    assert container.hand()
    ours.close()
    container.until_asleep()


def test_a_line_without_an_end_is_whole_in_the_log_though_the_shim_slept_in_its_middle(harness: Harness) -> None:
    container = harness.container("printf begun; read x; echo ' and ended'; printf rest", open_stdin=True, idle_seconds=SOON)
    container.start()
    until(lambda: container.hand() != 0 or container.children_of_shim() == {container.pid}, "the output to wake the shim")
    container.until_asleep()
    client, handed = pair()
    container.ask(m.Attach(1, stdin=True), handed)
    client.send(b"\n")
    container.wait_exit()
    assert logged(container) == [b"begun and ended\n", b"rest"]


def test_the_input_that_ended_before_a_sleep_stays_ended_and_one_that_did_not_stays_open(harness: Harness) -> None:
    container = harness.container("cat; echo ended; exec sleep 1000", open_stdin=True, stdin_once=True, idle_seconds=SOON)
    container.start()
    client, handed = pair()
    container.ask(m.Attach(1, stdin=True, stdout=True), handed)
    client.send(b"x\n")
    assert read_until(client, b"x\n")
    client.shutdown(1)
    assert read_until(client, b"ended\n")
    client.close()
    container.until_asleep()
    client, handed = pair()
    assert container.ask(m.Attach(2, stdin=True, stdout=True), handed) == m.Done(2)
    container.ask(m.Signal(3, 9))
    assert container.wait_exit().exit_code == 137


def test_who_waits_is_told_though_the_shim_slept_since(harness: Harness) -> None:
    ours, theirs = pair()
    later, handed = pair()
    container = harness.container("read x; exit 4", open_stdin=True, waiting=[(m.Wait(), theirs)], idle_seconds=SOON)
    container.start()
    container.ask(m.Wait(1, "next-exit"), handed)
    container.until_asleep()
    client, handed = pair()
    container.ask(m.Attach(2, stdin=True), handed)
    client.send(b"\n")
    container.wait_exit()
    container.forget()
    for waiter in (ours, later):
        assert b'"StatusCode":4' in unchunk(_rest(waiter))
    wait_for_death(container.shim_pid)


def test_who_waits_and_goes_does_not_keep_the_shim_awake(harness: Harness) -> None:
    """The client of `docker run -d` does so each time."""
    ours, theirs = pair()
    container = harness.container("echo up; exec sleep 1000", waiting=[(m.Wait(), theirs)], idle_seconds=SOON)
    container.start()
    ours.close()
    theirs.close()
    container.exec("true")
    assert isinstance(container.receive(), m.ExecExited)
    container.until_asleep()


def test_a_terminal_outlives_sleep(harness: Harness) -> None:
    container = harness.container("read x; stty size; read x; stty size", terminal=True, open_stdin=True, idle_seconds=SOON)
    container.start()
    container.ask(m.Resize(1, 20, 100))
    container.until_asleep()
    client, handed = pair()
    container.ask(m.Attach(2, stdin=True, stdout=True), handed)
    client.send(b"\n")
    assert read_until(client, b"20 100")
    container.ask(m.Resize(3, 30, 90))
    client.send(b"\n")
    assert read_until(client, b"30 90")


def test_a_held_port_is_free_after_the_end_though_the_shim_slept(harness: Harness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = held.getsockname()
        container = harness.container("read x", open_stdin=True, held=[held.dup()], idle_seconds=SOON)
        container.start()
    container.exec("true")
    assert isinstance(container.receive(), m.ExecExited)
    container.until_asleep()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(address)
    container.ask(m.Signal(9, 9))
    container.wait_exit()
    container.forget()
    socket.create_server(address).close()


@pytest.mark.parametrize("how", ["the hand", "the sleeper"])
def test_a_shim_that_is_killed_awake_takes_its_container_with_it(harness: Harness, how: str) -> None:
    container = harness.container(("/bin/sleep", "1000"), idle_seconds=SOON)
    container.start()
    container.until_asleep()
    container.exec("exec sleep 1000")
    hand, sleeper, init = container.hand(), container.shim_pid, container.pid
    end_process(hand if how == "the hand" else sleeper)
    for pid in (hand, sleeper, init):
        wait_for_death(pid)


def _rest(sock: socket.socket) -> bytes:
    content = bytearray()
    while part := sock.recv(65536):
        content += part
    return bytes(content)

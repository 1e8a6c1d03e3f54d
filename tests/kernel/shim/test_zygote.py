"""The zygote itself: who may order, who may send it away, and what becomes of orders when it dies or cannot fork."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.errors import Unavailable
from carrack.oci.runtime_spec import PidsLimit, Resources
from carrack.runtime import cgroups
from carrack.shim import messages as m
from carrack.shim import wire, zygote_process
from carrack.shim.zygote_process import dismiss_zygote, greet, order_start, reach, spawn_zygote
from tests.kernel.shim.harness import SECONDS, Harness, wait_for_death

pytestmark = pytest.mark.root


@pytest.fixture
def own() -> Iterator[Harness]:
    """With a zygote that the test may do to what it likes."""
    harness = Harness()
    try:
        yield harness
    finally:
        harness.close()


def conversation() -> tuple[socket.socket, socket.socket]:
    """(the daemon's end, the shim's)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(SECONDS)
    return ours, theirs


@pytest.mark.parametrize("what", ["a start", "a job", "to leave"])
def test_an_order_of_another_user_than_root_is_not_taken(harness: Harness, what: str) -> None:
    """Were the socket's mode ever wider than it is."""
    path = harness.zygote.socket_path
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.chmod(path, 0o666)
    harness.exec_root.chmod(0o711)
    harness.root.chmod(0o711)
    ours, theirs = conversation()
    container = harness.container(("/bin/sleep", "1000"))
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            os.setuid(65534)
            if what == "to leave":
                dismiss_zygote(path)
            elif what == "a start":
                order_start(path, container.order(), (theirs.fileno(),)).recv(1000)
            else:
                wire.send(zygote_process.connect(path), m.ServeNames("/nowhere"), (theirs.fileno(), theirs.fileno()))
        finally:
            os._exit(0)
    theirs.close()
    os.waitpid(child, 0)
    os.chmod(path, 0o600)
    with ours, pytest.raises(EOFError):
        wire.receive(ours)
    assert greet(path) == m.Greeting(harness.zygote.pid, zygote_process.fingerprint())


def test_a_zygote_of_other_code_is_replaced_and_its_containers_live_on(own: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    container = own.container(("/bin/sleep", "1000"))
    container.start()
    before = own.zygote.pid
    monkeypatch.setattr(zygote_process, "fingerprint", lambda: "of another release")
    own.zygote = spawn_zygote(str(own.exec_root))
    assert own.zygote.pid != before
    wait_for_death(before)
    assert container.ask(m.Signal(1, 9)) == m.Done(1)
    assert container.wait_exit().exit_code == 137
    successor = own.container("exit 4")
    successor.start()
    assert successor.wait_exit().exit_code == 4


def test_leave_is_understood_from_a_daemon_that_says_nothing_else_and_does_not_listen(own: Harness) -> None:
    """As those of all releases do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(SECONDS)
        sock.connect(own.zygote.socket_path)
        sock.send(b'{"type":"leave"}')
        while sock.recv(1000):
            pass
    wait_for_death(own.zygote.pid, seconds=0)
    assert not Path(own.zygote.socket_path).exists()


def test_who_stands_in_line_when_the_zygote_is_killed_learns_it(own: Harness) -> None:
    os.kill(own.zygote.pid, signal.SIGSTOP)
    ours, theirs = conversation()
    with ours, order_start(own.zygote.socket_path, own.container("exit 0").order(), (theirs.fileno(),)):
        theirs.close()
        os.kill(own.zygote.pid, signal.SIGKILL)
        with pytest.raises(EOFError):
            wire.receive(ours)
    wait_for_death(own.zygote.pid)
    with reach(own.zygote.socket_path):
        again = greet(own.zygote.socket_path)
    assert again is not None
    assert again.pid != own.zygote.pid


def test_what_has_been_forked_when_the_zygote_is_killed_takes_its_order(own: Harness) -> None:
    """A kill between connection and order costs nothing: the child is there, and needs no zygote."""
    container = own.container("exit 7")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(own.zygote.socket_path)
        sock.send(m.START)
        sock.recv(1000)
        os.kill(own.zygote.pid, signal.SIGKILL)
        wait_for_death(own.zygote.pid)
        container.conversation, theirs = conversation()
        wire.send(sock, container.order(), (theirs.fileno(),), sealed=True)
        theirs.close()
        container.expect(m.Created)
        container.send(m.Go())
        container.expect(m.Started)
    assert container.wait_exit().exit_code == 7


def test_a_zygote_that_cannot_fork_says_so_and_is_not_taken_for_dead(own: Harness) -> None:
    path = own.zygote.socket_path
    full, _ = cgroups.make(cgroups.plan(f"{own.cgroup_parent}/full", Resources(pids=PidsLimit(1))))
    full.add(own.zygote.pid)
    try:
        with pytest.raises(Unavailable, match="cannot fork: Resource temporarily unavailable"):
            reach(path)
        ours, theirs = conversation()
        with ours, order_start(path, own.container("exit 0").order(), (theirs.fileno(),)):
            theirs.close()
            with pytest.raises(EOFError):
                wire.receive(ours)
    finally:
        full.update(Resources(pids=PidsLimit(-1)))
    reach(path).close()
    assert greet(path) == m.Greeting(own.zygote.pid, zygote_process.fingerprint())
